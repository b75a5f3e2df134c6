"""Damaged checkpoints: none is taken for another one, and a run goes on from the older one that is whole."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lcsm.errors import UsageError
from lcsm.training.checkpoints import Checkpoint, read_checkpoint
from tests.faults.assets import RUN
from tests.faults.cases import TRAIN
from tests.faults.cases.editing import BEST, LAST, flipped, flipped_name
from tests.faults.counts import count
from tests.faults.forks import Forks, fresh
from tests.faults.ledger import Row
from tests.faults.lives import resumed, unbroken
from tests.training.test_resume import equal

pytestmark = pytest.mark.faults

LONGER = (*(word for word in TRAIN if not word.startswith("trainer.max_steps")), *RUN, "resume=auto")
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "text": lambda content: b"no checkpoint",
    "zeros": lambda content: bytes(len(content)),
    "a bit flipped in the middle": lambda content: flipped(content, len(content) // 2, 3),
    "a name that is no UTF-8": flipped_name,
}


def read_as(path: Path, original: Checkpoint) -> str:
    """What a damaged file was taken for, "" where it was refused or holds what it held."""
    try:
        found = read_checkpoint(path)
    except UsageError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if equal(found.content, original.content) else "other content is accepted"


@pytest.mark.parametrize("kind", ["bits flipped", "cuts"])
def test_no_damaged_file_is_taken_for_another_one(
    kind: str, assets: Path, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row, chooser = ledger(f"checkpoint read after damage: {kind}"), random.Random(count("SEED", 0))
    original = read_checkpoint(assets / "recall/work" / BEST)
    content = original.path.read_bytes()
    path = tmp_path / "x.ckpt"
    for _ in range(count("DAMAGES", 300)):
        position = chooser.randrange(len(content))
        path.write_bytes(
            flipped(content, position, chooser.randrange(8)) if kind == "bits flipped" else content[:position]
        )
        loss = read_as(path, original)
        row.note(loss and f"at {position}: {loss}")
    assert not row.losses


def test_a_run_goes_on_from_the_older_checkpoint_that_is_whole(
    forks: Forks, assets: Path, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row = ledger("last.ckpt damaged, best.ckpt older and whole, resumed")
    fresh(tmp_path / "whole/work", assets / "recall/work")
    whole = unbroken(forks, tmp_path / "whole", (*LONGER, "trainer.max_steps=6"))

    def once(name: str) -> str:
        work = fresh(tmp_path / name / "work", assets / "recall/work")
        ended = forks.run(work.parent, (*LONGER, "trainer.max_steps=4"))
        assert ended.status == 0
        # as if the best validation had been that of step 2
        shutil.copy(assets / "recall/work" / BEST, work / BEST)
        content = (work / LAST).read_bytes()
        (work / LAST).unlink()
        (work / LAST).write_bytes(DAMAGES[name](content))
        loss = resumed(forks, work.parent, (*LONGER, "trainer.max_steps=6"), whole.folder)
        return loss and f"{name}: {loss}"

    with ThreadPoolExecutor(count("JOBS", 2)) as pool:
        for loss in pool.map(once, DAMAGES):
            row.note(loss)
    assert not row.losses
