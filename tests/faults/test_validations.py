"""A run that is killed in a validation and once more later reports the scores of the unbroken run."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.cases import PROSE
from tests.faults.counts import count
from tests.faults.forks import Forks
from tests.faults.ledger import Row
from tests.faults.lives import WORDS, damage, ready, resumed, unbroken

pytestmark = pytest.mark.faults

# a text with validation rows of three lengths, three loaders of several batches each
ON_TEXT = (
    *(word for word in WORDS if not word.startswith(("data.", "model.dropout"))),
    "task=lm", "data=text", "data.train_files=t.txt", "data.length=32", "data.batch_size=4", "data.val_lengths=[1,2,4]",
    "callbacks.samples=null", "model.dropout=0.2", "channel=none", "trainer.max_steps=21", "schedule.warmup_steps=2",
)  # fmt: skip
# steps between two validations, and batches of each
INTERVAL, BATCHES = 7, 9


@pytest.mark.parametrize("accumulate", [1, 2])
def test_scores_after_two_kills_are_those_of_the_unbroken_run(
    accumulate: int, forks: Forks, tmp_path: Path, ledger: Callable[[str], Row]
) -> None:
    row = ledger(f"killed in a validation and once more, accumulation {accumulate}")
    words = (*ON_TEXT, f"trainer.accumulate_grad_batches={accumulate}")
    whole = unbroken(forks, with_text(tmp_path / "whole"), words)

    def once(index: int) -> str:
        chooser = random.Random(f"{count('SEED', 0)} {accumulate} {index}")
        folder = with_text(tmp_path / str(index))
        # in any batch of the first validation
        first = ("die", "validation_step", chooser.randint(1, BATCHES))
        # then in a step before the next validation, in that one, or right after it, before anything else is saved
        before = ("die", "training_step", chooser.randint(2, INTERVAL * accumulate))
        within = ("die", "validation_step", chooser.randint(BATCHES + 1, 2 * BATCHES))
        after = ("die", "training_step", INTERVAL * accumulate + 1)
        for condition in (first, (after, before, within)[index % 3]):
            ended = forks.run(folder, words, conditions=[condition])
            if ended.status not in (-9, 0):
                return f"a restart ended with {ended.status}"
            if loss := damage(folder / "work/run"):
                return loss
        return resumed(forks, folder, words, whole.folder)

    with ThreadPoolExecutor(count("JOBS", 2)) as pool:
        for loss in pool.map(once, range(count("VALIDATIONS", 8) // 2)):
            row.note(loss)
    assert not row.losses


def with_text(folder: Path) -> Path:
    """An empty folder for a child, with a text."""
    (ready(folder) / "work/t.txt").write_text(PROSE, encoding="utf-8")
    return folder
