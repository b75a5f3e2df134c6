"""The end of a run: with a validation, and early when a metric is good enough or no longer improves."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

from lcsm.training.callbacks.best import Best
from lcsm.training.callbacks.progress_state import is_last_step, step_ended

logger = logging.getLogger(__name__)


class ValidateAtEnd(Callback):
    """Makes the last step end with a validation, also where the interval does not divide the number of steps."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_ended(trainer) and is_last_step(trainer):
            trainer.should_stop = True


class StopEarly(Callback):
    """Stops after a validation.

    Args:
        tracker: the best value of the monitored metric; acts before this callback.
        stop_at: value at which training ends, None for never.
        patience: number of validations without a better value after which training ends, None for never.
    """

    def __init__(self, tracker: Best, stop_at: float | None, patience: int | None) -> None:
        self.tracker = tracker
        self.stop_at = stop_at
        self.patience = patience

    def reason(self) -> str | None:
        """The reason to end the run, None while it should go on."""
        seen = self.tracker
        if self.stop_at is not None and not math.isnan(seen.latest) and not seen.better(self.stop_at, seen.latest):
            return f"{seen.monitor}={seen.latest:.4g} has reached stop_at={self.stop_at:g}"
        if self.patience is not None and seen.waited >= self.patience:
            return f"{seen.monitor} has not improved on {seen.value:.4g} in {seen.waited} validations (patience)"
        return None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a run that had stopped stays stopped when it is resumed with the same settings
        trainer.should_stop = trainer.should_stop or self.reason() is not None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        reason = self.reason()
        if reason is not None:
            logger.info("step %d: %s; training ends", trainer.global_step, reason)
            trainer.should_stop = True
