"""The position of the training loop, in the terms of the callbacks."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Trainer


def step_ended(trainer: Trainer) -> bool:
    """Whether the batch that just ended completed an optimiser step; only then can a checkpoint hold whole steps."""
    return not trainer.fit_loop._should_accumulate()


def is_last_step(trainer: Trainer) -> bool:
    """Whether no step follows."""
    return trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step


def validation_follows(trainer: Trainer) -> bool:
    """Whether the trainer validates after the batch that just ended."""
    if not trainer.enable_validation:
        return False
    interval = trainer.val_check_batch
    due = interval is not None and (trainer.fit_loop.total_batch_idx + 1) % interval == 0
    return due or is_last_step(trainer)


def is_log_step(trainer: Any, step: int) -> bool:
    """Whether the metrics of a step are written, steps counted from 1."""
    return trainer.log_every_n_steps > 0 and step % trainer.log_every_n_steps == 0


def on_any_rank(trainer: Trainer, flag: bool) -> bool:
    """Whether the flag is set on a rank; all ranks get the same answer."""
    return bool(largest_of_ranks(trainer, int(flag)))


def largest_of_ranks(trainer: Trainer, number: int) -> int:
    """The largest of a small number of each rank; all ranks get the same answer."""
    if trainer.world_size == 1:
        return number
    numbers = torch.tensor(float(number), device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(numbers, reduce_op="max"))
