"""Real processes whose output nobody takes: closed streams, a pipe without a reader, a full disk behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.forks import ROOT, fresh, read
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, damage, steps

pytestmark = pytest.mark.faults

WRONG = ("train", "optim.lr=nan")
# what is behind the command in the shell, its words, the exit status that is right
STREAMS: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    "a mistake, stderr closed": ("2>&-", WRONG, (2,)),
    "a mistake, all closed": ("<&- >&- 2>&-", WRONG, (2,)),
    "a mistake, stderr a full disk": ("2>/dev/full", WRONG, (2,)),
    "help, stdout closed": (">&-", ("--help",), (0,)),
    "help, nobody reads": ("| true", ("train", "--help"), (0,)),
    "help, stdout a full disk": (">/dev/full", ("--help",), (1,)),
    "training, stderr closed": ("2>&-", WORDS, (0,)),
    "training, stdout closed": (">&-", WORDS, (0,)),
    "training, all closed": ("<&- >&- 2>&-", WORDS, (0,)),
    "training, nobody reads": ("| true", WORDS, (0,)),
    "training, stdout a full disk": (">/dev/full", WORDS, (0,)),
}


def start(folder: Path, behind: str, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """A command in a shell, in a group of its own; the shell hands on the status of the command, not of a pipe."""
    fresh(folder / "work")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    shell = f'set -o pipefail; "$@" {behind}'
    return subprocess.Popen(
        ["bash", "-c", shell, "bash", sys.executable, "-m", "lcsm", *words],
        cwd=folder / "work",
        env=environment,
        stdout=(folder / "out").open("wb"),
        stderr=(folder / "err").open("wb"),
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit status; None where it did not end in time."""
    try:
        return process.wait(timeout=3 * count("SECONDS", 40))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def test_nobody_takes_what_is_said(tmp_path: Path, ledger: Callable[[str], Row]) -> None:
    row = ledger("output that nobody takes")

    def once(number: int, name: str) -> str:
        folder = tmp_path / str(number)
        behind, words, right = STREAMS[name]
        status = ended(start(folder, behind, words))
        said = read(folder / "err").strip().splitlines()
        if status not in right:
            return f"{name}: status {status} instead of {' or '.join(map(str, right))}: {' / '.join(said[-1:])}"
        if any(line.startswith("Traceback") for line in said):
            return f"{name}: traceback: {' / '.join(said[-2:])}"
        if words == WORDS and status == 0 and steps(folder / "work/run") != 30:
            return f"{name}: {steps(folder / 'work/run')} rows in metrics.csv"
        return damage(folder / "work/run")

    with ThreadPoolExecutor(count("JOBS", 2)) as pool:
        for loss in pool.map(once, range(len(STREAMS)), STREAMS):
            row.note(loss)
    assert not row.losses


def test_a_signal_is_obeyed_where_nobody_listens(tmp_path: Path, ledger: Callable[[str], Row]) -> None:
    row = ledger("SIGTERM to a run with closed streams")
    for number, behind in enumerate(("2>&-", ">&- 2>&-")):
        folder = tmp_path / str(number)
        process = start(folder, f"{behind} & echo $! > ../pid; wait $!", (*WORDS, "trainer.max_steps=5000"))
        run = folder / "work/run"
        while process.poll() is None and steps(run) < 5:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        if process.poll() is None:
            os.kill(int(read(folder / "pid")), signal.SIGTERM)
        status = ended(process)
        whole = damage(run) or ("" if (run / "checkpoints/last.ckpt").exists() else "no checkpoint")
        row.note(whole or ("" if status == 143 else f"{behind}: status {status}"))
    assert not row.losses
