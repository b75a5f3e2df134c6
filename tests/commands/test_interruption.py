"""Signals outside training, and a terminal that goes away."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lcsm.training.signals import STOPPING
from tests.commands.helpers import RECALL, TINY, run_directory, train

PROJECT = Path(__file__).parents[2]
ENDLESS = ("trainer.max_steps=100000", "callbacks.checkpoint.every=1", "callbacks.progress=true")


def statuses(root: Path, *words: str) -> int:
    """The exit status of a run, whether it is returned or raised."""
    try:
        return train(root, *words)
    except SystemExit as ended:
        return int(str(ended.code))


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("place", ["lcsm.commands.check_plan.check_plan", "lcsm.commands.assemble.build_data"])
def test_a_signal_while_things_are_built_is_one_line_and_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str, number: int
) -> None:
    monkeypatch.setattr(place, lambda *_: os.kill(os.getpid(), number))
    assert statuses(tmp_path) == 128 + number
    assert capsys.readouterr().err == f"\nlcsm: {signal.Signals(number).name}: stopped outside training\n"


def test_a_signal_while_the_result_is_printed_does_not_cut_it_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(*arguments: object) -> float:
        os.kill(os.getpid(), signal.SIGUSR1)
        return 0.5

    monkeypatch.setattr("lcsm.commands.train.score", score)
    assert statuses(tmp_path) == 138
    output = capsys.readouterr()
    assert "tensorboard --logdir" in output.out and "SIGUSR1: stopped at step 4, saved in" in output.err
    assert json.loads((run_directory(tmp_path) / "end.json").read_text())["status"] == "finished"


def test_a_signal_while_the_process_ends_does_not_change_its_status() -> None:
    ending = (
        "import atexit, os, signal, sys; from lcsm.commands import train; train.start = lambda words: 0;"
        "atexit.register(os.kill, os.getpid(), signal.SIGUSR1); sys.exit(train.run([]))"
    )
    assert subprocess.run([sys.executable, "-c", ending], cwd=PROJECT).returncode == 0


def command(root: Path, *words: str) -> list[str]:
    """A tiny run in a process of its own."""
    return [sys.executable, str(PROJECT / "train.py"), *TINY, *RECALL, *ENDLESS, f"hydra.run.dir={root}", *words]


def saved(root: Path) -> bool:
    return (root / "checkpoints/last.ckpt").exists()


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_stops_in_order(tmp_path: Path) -> None:
    process, terminal = pty.fork()
    if not process:
        os.execve(sys.executable, command(tmp_path), {**os.environ, "OMP_NUM_THREADS": "1"})
    while not saved(tmp_path):
        if select.select([terminal], [], [], 1.0)[0]:
            os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    assert json.loads((tmp_path / "end.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_a_run_whose_readers_have_ended_goes_on_and_stops_in_order(tmp_path: Path) -> None:
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command(tmp_path), stdout=pipe, stderr=pipe, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        while not saved(tmp_path):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert json.loads((tmp_path / "end.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
def test_two_processes_say_a_thing_once(tmp_path: Path) -> None:
    words = command(tmp_path, "trainer.devices=2", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not saved(tmp_path):
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        errors = process.communicate(timeout=120)[1]
    said = [line for line in errors.splitlines() if "SIG" in line]
    assert process.returncode == 138 and len(said) == 2, errors
    assert said[0].startswith("SIGUSR1: stopping at the end") and said[1].startswith("lcsm: SIGUSR1: stopped at step")
    words = [sys.executable, "-m", "lcsm", "evaluate", f"ckpt={tmp_path}", "--format", "json"]
    measured = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, timeout=120)
    assert len(measured.stdout.splitlines()) == 1 and "val/accuracy" in json.loads(measured.stdout)
