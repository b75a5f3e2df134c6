"""Ends a run at the end of a step when a signal asked for it."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from lcsm.training.callbacks.checkpointing import Checkpointing
from lcsm.training.callbacks.progress_state import is_last_step, largest_of_ranks, step_ended, validation_follows
from lcsm.training.errors import Interrupted
from lcsm.training.signals import StopSignals


class StopOnSignal(Callback):
    """Saves and raises `Interrupted` at the end of the step in which a signal came.

    During a validation the run stops at once, as its state was saved before; the validation after the last step is
    finished. Several ranks agree at the end of a step, never inside the handler.

    Args:
        signals: notes the signal.
        checkpointing: saves; None where checkpoints are switched off.
    """

    def __init__(self, signals: StopSignals, checkpointing: Checkpointing | None) -> None:
        self.signals = signals
        self.checkpointing = checkpointing

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning has put its own handlers in place, which stop a run between accumulated batches and save inside
        # the handler
        self.signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.install()
        if number := self.number_on_any_rank(trainer):
            self.stop(trainer, number)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not step_ended(trainer) or is_last_step(trainer):
            return
        if number := self.number_on_any_rank(trainer):
            if self.checkpointing is not None:
                self.checkpointing.save(trainer, validation_due=validation_follows(trainer))
            self.stop(trainer, number)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        number = self.signals.number if trainer.world_size == 1 else None
        if number is not None and (trainer.sanity_checking or not is_last_step(trainer)):
            self.stop(trainer, number)

    def number_on_any_rank(self, trainer: Trainer) -> int:
        """The signal that came on a rank, 0 where none did."""
        return largest_of_ranks(trainer, self.signals.number or 0)

    def stop(self, trainer: Trainer, number: int) -> None:
        """Leave the training loop; loggers and loaders are closed on the way."""
        saved = self.checkpointing is not None and self.checkpointing.saved_step is not None
        checkpoint = self.checkpointing.last if saved and self.checkpointing is not None else None
        raise Interrupted(number, trainer.global_step, checkpoint)
