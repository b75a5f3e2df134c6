"""Finished tiny runs, made once, which faults are done to."""

from __future__ import annotations

from pathlib import Path

from tests.faults.cases import PROSE, TEXT, TRAIN
from tests.faults.forks import Forks
from tests.faults.outcome import said

RUN = ("hydra.run.dir=run", "schedule=constant", "trainer.val_check_interval=1", "callbacks.checkpoint.every=1")
RUNS = {
    "recall": (*TRAIN, *RUN),
    "text": (*TEXT, *RUN),
    "bpe": (*TEXT, *RUN, "data.tokenizer=bpe", "data.vocab_size=300"),
    "tnn": (*TEXT, *RUN, "model=tnn"),
}


def make_assets(forks: Forks, folder: Path) -> Path:
    """A folder with one of its own for each of RUNS: the run, its text `t.txt` and its token cache."""
    for name, words in RUNS.items():
        work = folder / name / "work"
        work.mkdir(parents=True)
        (work / "t.txt").write_text(PROSE, encoding="utf-8")
        ended = forks.run(folder / name, words)
        assert ended.status == 0 and (work / "run/checkpoints/best.ckpt").is_file(), said(ended)
    return folder
