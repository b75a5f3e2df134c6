"""The end of a run: with a validation, and early when a metric is good enough or no longer improves."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning import Callback, LightningModule, Trainer

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
        monitor: name of the validation metric.
        mode: "min" or "max".
        stop_at: value at which training ends, None for never.
        patience: number of validations without a better value after which training ends, None for never.
    """

    def __init__(self, monitor: str, mode: str, stop_at: float | None, patience: int | None) -> None:
        self.monitor = monitor
        self.mode = mode
        self.stop_at = stop_at
        self.patience = patience
        self.value = self.best = math.nan
        self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value, self.best, self.waited = state_dict["value"], state_dict["best"], state_dict["waited"]

    def better(self, value: float, than: float) -> bool:
        return math.isnan(than) or (value < than if self.mode == "min" else value > than)

    def reason(self) -> str | None:
        """Why the run should end, None while it should go on."""
        if self.stop_at is not None and not math.isnan(self.value) and not self.better(self.stop_at, self.value):
            return f"{self.monitor}={self.value:.4g} has reached stop_at={self.stop_at:g}"
        if self.patience is not None and self.waited >= self.patience:
            return f"{self.monitor} has not improved on {self.best:.4g} in {self.waited} validations (patience)"
        return None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a run that had stopped stays stopped when it is resumed with the same settings
        trainer.should_stop = trainer.should_stop or self.reason() is not None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        self.value = float(trainer.callback_metrics[self.monitor])
        if not math.isnan(self.value) and self.better(self.value, self.best):
            self.best, self.waited = self.value, 0
        else:
            self.waited += 1
        reason = self.reason()
        if reason is not None:
            logger.info("step %d: %s; training ends", trainer.global_step, reason)
            trainer.should_stop = True
