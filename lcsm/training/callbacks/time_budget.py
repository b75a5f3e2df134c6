"""Tells the schedule how much of the time of a run is over."""

from __future__ import annotations

import logging
from typing import Any

from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import Timer
from torch.optim import Optimizer

log = logging.getLogger(__name__)


class TimeBudget(Callback):
    """Before each step hands the schedule the seconds that the trainer has counted towards `max_time`: those of all
    sessions of the run, validations and saves included. All ranks take the time of the first one.
    """

    def on_before_optimizer_step(self, trainer: Any, pl_module: LightningModule, optimizer: Optimizer) -> None:
        elapsed = trainer.strategy.broadcast(self.timer(trainer).time_elapsed())
        for factor in self.factors(trainer):
            factor.elapsed = elapsed

    def on_train_end(self, trainer: Any, pl_module: LightningModule) -> None:
        step, warmup_steps = trainer.global_step, self.factors(trainer)[0].warmup_steps
        if step < min(warmup_steps, trainer.max_steps) and self.timer(trainer).time_remaining() <= 0:
            log.warning(
                "trainer.max_time ended the run in its warm-up, at step %d of %d: no rate fell", step, warmup_steps
            )

    def timer(self, trainer: Any) -> Any:
        """The seconds that count towards `trainer.max_time`."""
        return next(callback for callback in trainer.callbacks if isinstance(callback, Timer))

    def factors(self, trainer: Any) -> list[Any]:
        """The schedule of every group of parameters."""
        return trainer.lr_scheduler_configs[0].scheduler.lr_lambdas
