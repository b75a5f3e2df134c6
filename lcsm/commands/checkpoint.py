"""From a path on the command line to a checkpoint, its configuration and its model; imports torch but not Lightning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from lcsm.commands.combination import check_combination
from lcsm.config.check import check_config
from lcsm.errors import UsageError
from lcsm.models.build import build_for
from lcsm.models.language_model import LanguageModel
from lcsm.training.checkpoints import BEST, LAST, Checkpoint, load_weights, read_checkpoint


def load(path: str, threads: int | None, allow_targets: str | None) -> Checkpoint:
    """Read a checkpoint, or the best one of a run directory.

    Args:
        path: a file, the directory of a run, or its `checkpoints` directory.
        threads: CPU threads of torch; None leaves torch's choice.
        allow_targets: classes outside lcsm that its configuration may name, separated by commas. What the checkpoint
            itself allows does not count: it may come from anywhere.
    Raises:
        UsageError: there is none, or it is damaged.
    """
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads={threads} must be at least 1")
        torch.set_num_threads(threads)
    checkpoint = read_checkpoint(locate(path))
    allowed = [target.strip() for target in (allow_targets or "").strip("[]").split(",") if target.strip()]
    return replace(checkpoint, config=checkpoint.config | {"allow_targets": allowed})


def locate(path: str) -> Path | str:
    """The file that a path means."""
    directory = Path(path)
    if not directory.is_dir():
        return path
    candidates = [directory / folder / name for folder in ("checkpoints", "") for name in (BEST, LAST)]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if not found:
        raise UsageError(f"ckpt={path} is a directory without checkpoints/{BEST} or checkpoints/{LAST}")
    return found[0]


def load_model(checkpoint: Checkpoint) -> LanguageModel:
    """The language model of a checkpoint with its weights, in eval mode.

    The configuration inside is checked like one from a user: a checkpoint may come from anywhere.

    Raises:
        UsageError: the configuration is not one of this version, the weights do not fit it, or it is a classifier.
    """
    check_config(checkpoint.config)
    check_combination(checkpoint.config)
    model = build_for(checkpoint.config, checkpoint.vocab_size, checkpoint.data)
    if not isinstance(model, LanguageModel):
        raise UsageError(f"{checkpoint.path} holds a classifier, which writes no tokens: use one of task=lm")
    load_weights(model, checkpoint)
    return model.eval()
