"""Runs in processes of their own: signals stop them, kills leave checkpoints whole, two compute what one does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcsm.training.checkpoints import read_checkpoint
from tests.training.test_resume import assert_same_run, rows
from tests.training.toy_run import toy_config

ROOT = Path(__file__).parents[2]
# saving every step, validating now and then, accumulating: a signal can come anywhere
CHANGES = {"trainer__max_steps": 30, "schedule__max_steps": 30, "trainer__accumulate_grad_batches": 2,
           "trainer__val_check_interval": 7, "resume": "auto"}  # fmt: skip
LONGER = {"trainer__max_steps": 80, "schedule__max_steps": 80}


def start(run_dir: Path, dropout: float = 0.2, **changes: Any) -> subprocess.Popen[str]:
    """The toy run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.training.toy_run",
        str(run_dir),
        json.dumps(CHANGES | changes),
        str(dropout),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def newest(path: Path) -> int:
    """Time of the last change of a file, 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_saves_and_ends_with_its_code(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = start(tmp_path / "broken")
    wait_until((tmp_path / "broken" / "checkpoints" / "last.ckpt").exists)
    time.sleep(random.Random(int(number)).random() * 0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    step = read_checkpoint(tmp_path / "broken" / "checkpoints" / "last.ckpt").step
    assert process.returncode == code, errors
    assert f"{number.name}: stopped at step {step}, saved in" in errors and "Traceback" not in errors
    assert json.loads((tmp_path / "broken" / "end.json").read_text()) == {"status": "interrupted", "step": step}
    for name in ("broken", "whole"):
        assert start(tmp_path / name).wait(timeout=90) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, trainer__accumulate_grad_batches=10_000)
    wait_until((tmp_path / ".lock").exists)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    before = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and time.monotonic() - before < 1.0, errors


@pytest.mark.slow
def test_kills_at_random_moments_leave_whole_files_and_resume_to_the_bit(tmp_path: Path) -> None:
    chooser, last = random.Random(0), tmp_path / "broken" / "checkpoints" / "last.ckpt"
    for _ in range(6):
        before = newest(last)
        process = start(tmp_path / "broken", **LONGER)
        wait_until(lambda before=before: newest(last) > before)
        time.sleep(0.2 * chooser.random())
        process.kill()
        process.communicate()
        for path in last.parent.glob("*.ckpt"):
            assert read_checkpoint(path).step < LONGER["trainer__max_steps"]
    for name in ("broken", "whole"):
        assert start(tmp_path / name, **LONGER).wait(timeout=120) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert not list((tmp_path / "broken" / "checkpoints").glob(".unfinished*"))


@pytest.mark.slow
def test_two_processes_compute_what_one_computes(tmp_path: Path) -> None:
    trainer = toy_config()["trainer"] | {"max_steps": 8, "accumulate_grad_batches": 2}
    for name, devices in (("one", 1), ("two", 2)):
        changed = trainer | {"devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
        process = start(tmp_path / name, 0.0, trainer=changed, resume=None)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        for name, value in left.items():
            assert (value == right[name] == "") or float(right[name]) == pytest.approx(float(value), rel=2e-5)
