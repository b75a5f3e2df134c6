"""Writes what a step and a validation measured to all loggers, at the number of finished steps."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer

from lcsm.training.callbacks.progress_state import is_log_step, step_ended


class Recorder(Callback):
    """One row per log step: loss, gradient norm, learning rates, speed and memory; one per validation.

    Rows are written before the state of the step is saved, so that a resumed run misses none.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if step_ended(trainer) and is_log_step(trainer, trainer.global_step):
            write(trainer, pl_module.step_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            write(trainer, {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")})


class LearningRates(Callback):
    """Reports the rate of every parameter group as `lr/<group>`."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            pl_module.step_metrics[f"lr/{group['name']}"] = group["lr"]


def write(trainer: Trainer, metrics: dict[str, Any]) -> None:
    """Write metrics to every logger at the present step."""
    numbers = {name: float(value) for name, value in metrics.items()}
    for logger in trainer.loggers:
        logger.log_metrics(numbers, trainer.global_step)
