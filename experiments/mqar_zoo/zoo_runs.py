"""Where the runs of this study are, and what became of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcsm.config.locate import conf_directory, options
from lcsm.tasks.recall import Recall

# It reads the sequence from both ends, so that it is no language model.
NOT_CAUSAL = ("ldnn_bidirectional",)
SCORE = "best/val/accuracy"
# How a run that needs no repetition ended: at its last step, at its time, or with numbers that are not finite.
ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True)
class Run:
    """One run: a model at a learning rate with a seed."""

    model: str
    rate: float
    seed: int

    def folder(self, root: Path) -> Path:
        return root / self.model / f"lr{self.rate:g}_seed{self.seed}"

    def end(self, root: Path) -> dict[str, Any] | None:
        """The end mark, None where the run is still to be made."""
        try:
            end = json.loads((self.folder(root) / "end.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return end if end["status"] in ENDED else None

    def accuracy(self, root: Path) -> float | None:
        """The best validation accuracy, None without a finite one."""
        return (self.end(root) or {}).get(SCORE)

    def solved(self, root: Path) -> bool:
        """Whether the run was as good as training asks for; no other rate can be told from it."""
        return (self.accuracy(root) or 0.0) >= Recall.stop_at


def models() -> list[str]:
    """The named models that may be asked to predict the next token."""
    return [name for name in options(conf_directory())["model"] if name not in NOT_CAUSAL]


def best_rate(model: str, rates: list[float], root: Path) -> float | None:
    """The rate with the best accuracy of seed 1, or the first that solves the task, after which no other is tried.

    Returns:
        The rate; None while a run is missing, and where none gave an accuracy.
    """
    scores: dict[float, float] = {}
    for run in (Run(model, rate, 1) for rate in rates):
        if run.end(root) is None:
            return None
        if (accuracy := run.accuracy(root)) is not None:
            scores[run.rate] = accuracy
        if run.solved(root):
            break
    return max(scores, key=lambda rate: scores[rate], default=None)


def found(root: Path) -> list[Run]:
    """Every run below a folder that has ended."""
    runs = []
    for mark in sorted(root.glob("*/lr*_seed*/end.json")):
        rate, _, seed = mark.parent.name.removeprefix("lr").partition("_seed")
        run = Run(mark.parents[1].name, float(rate), int(seed))
        if run.end(root) is not None:
            runs.append(run)
    return runs
