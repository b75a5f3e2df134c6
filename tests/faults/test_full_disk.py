"""A disk that is full at some moment: three lines at most, nothing broken, and the run goes on when there is room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.counts import count
from tests.faults.forks import Child, Ended, Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, Unbroken, damage, ready, resumed, steps, unbroken
from tests.faults.outcome import ACCEPTED, REFUSED, outcome, said

pytestmark = pytest.mark.faults

KIB = 1 << 10
SLOW = (("slow", "training_step", 0.02),)


@pytest.fixture(scope="module")
def whole(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """What every run of this file should come to."""
    return unbroken(forks, ready(tmp_path_factory.mktemp("whole")), WORDS)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of its own size at a folder; skips the test where none may be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
    made = subprocess.run(mount, capture_output=True, text=True) if shutil.which("mount") else None
    if made is None or made.returncode:
        pytest.skip(f"no file system of its own size: {made.stderr.strip() if made else 'there is no mount'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all room that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for amount in (64 * KIB, KIB, 1):
            try:
                while file.write(bytes(amount)) == amount:
                    pass
            except OSError:
                continue
    return path


def in_words(ended: Ended, *words: str) -> str:
    """Whether a full disk was said in at most three lines and exit status 2, "" where it was."""
    if outcome(ended) != REFUSED:
        return f"the full disk: {said(ended)}"
    wrong = [word for word in words if word not in ended.err.lower()]
    return f"does not say {wrong[0]!r}: {said(ended)}" if wrong else ""


def size(whole: Unbroken) -> int:
    """Bytes of a checkpoint."""
    return (whole.folder / "work/run/checkpoints/last.ckpt").stat().st_size


def files(run: Path) -> Sequence[str]:
    """The names of finished checkpoints."""
    return sorted(path.name for path in (run / "checkpoints").glob("*.ckpt"))


def kept(child: Child) -> bool:
    """Whether the first checkpoint is there."""
    return (child.work / "run/checkpoints/last.ckpt").exists()


def test_no_room_for_the_first_checkpoint(
    forks: Forks, whole: Unbroken, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, disks = ledger("disk full at the first checkpoint"), count("DISKS", 2)
    for index in range(disks):
        folder = ready(tmp_path / str(index))
        # room for what is written before, and for a part of the checkpoint
        with small_disk(folder / "work/run", 40 + size(whole) * (index + 1) // (2 * disks) // KIB):
            ended = forks.run(folder, WORDS)
            left = files(folder / "work/run")
        row.note(in_words(ended, "no space left") or (f"left {left}" if left else ""))
    assert not row.losses


def test_no_room_for_a_later_checkpoint(
    forks: Forks, whole: Unbroken, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row = ledger("disk full at a later checkpoint, resumed with room")
    for index in range(count("DISKS", 2)):
        folder = ready(tmp_path / str(index))
        with small_disk(folder / "work/run", 6 * size(whole) // KIB) as disk:
            child = forks.start(folder, WORDS, conditions=SLOW)
            child.until(lambda child=child: kept(child) and steps(child.work / "run") > 2)
            # room for a part of one more checkpoint
            (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - size(whole) * (index + 1) // 4))
            row.note(after(forks, child, folder, whole))
    assert not row.losses


def test_a_disk_filled_to_the_last_byte(
    forks: Forks, whole: Unbroken, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row = ledger("disk filled to the last byte after a save, resumed with room")
    for index in range(count("DISKS", 2)):
        folder = ready(tmp_path / str(index))
        with small_disk(folder / "work/run", 2000):
            child = forks.start(folder, WORDS, conditions=SLOW)
            child.until(lambda child=child, index=index: kept(child) and steps(child.work / "run") > 2 + 3 * index)
            fill(folder / "work/run")
            row.note(after(forks, child, folder, whole))
    assert not row.losses


def after(forks: Forks, child: Child, folder: Path, whole: Unbroken) -> str:
    """What a full disk has cost: the end of the run, its files, and how it goes on once there is room."""
    ended = child.wait()
    run = folder / "work/run"
    loss = in_words(ended) or damage(run) or ("" if files(run) else "no checkpoint is left")
    (run / "filler").unlink()
    return loss or resumed(forks, folder, WORDS, whole.folder)


@pytest.mark.parametrize(("when", "step"), [("at the start", 0), ("later", 10)])
def test_no_room_for_the_events_of_tensorboard(
    when: str, step: int, forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, folder = ledger(f"disk full in TensorBoard's file alone, {when}"), ready(tmp_path)
    with small_disk(folder / "work/run/tb", 24):
        if not step:
            fill(folder / "work/run/tb")
        child = forks.start(folder, (*WORDS, "logger=tensorboard", "trainer.max_steps=300"), conditions=SLOW)
        if step:
            child.until(lambda: steps(child.work / "run") > step)
            fill(folder / "work/run/tb")
        ended = child.wait()
    in_order = outcome(ended) == ACCEPTED or (outcome(ended) == REFUSED and bool(files(folder / "work/run")))
    row.note(damage(folder / "work/run") or ("" if in_order else said(ended)))
    assert not row.losses


def test_no_file_may_grow(forks: Forks, tmp_path: Path, ledger: Callable[[str], Row], whole: Unbroken) -> None:
    row = ledger("files cannot grow beyond a size, resumed without that")
    # the log of the run, then its first checkpoint, does not fit
    for largest in (5 * KIB, size(whole) // 2, size(whole) - 1):
        folder = ready(tmp_path / str(largest))
        ended = forks.run(folder, WORDS, conditions=(("largest_file", largest),))
        loss = in_words(ended) or damage(folder / "work/run") or resumed(forks, folder, WORDS, whole.folder)
        row.note(loss and f"{largest} bytes: {loss}")
    assert not row.losses
