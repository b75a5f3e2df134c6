"""Tells the schedule how much of the time of a run is over."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import Timer
from torch.optim import Optimizer


class TimeBudget(Callback):
    """Before each step hands the schedule the seconds that the trainer has counted towards `max_time`: those of all
    sessions of the run, validations and saves included. All ranks take the time of the first one.
    """

    def on_before_optimizer_step(self, trainer: Any, pl_module: LightningModule, optimizer: Optimizer) -> None:
        (timer,) = (callback for callback in trainer.callbacks if isinstance(callback, Timer))
        elapsed = trainer.strategy.broadcast(timer.time_elapsed())
        for factor in trainer.lr_scheduler_configs[0].scheduler.lr_lambdas:
            factor.elapsed = elapsed
