"""Saves `last.ckpt` and `best.ckpt`, always at the end of an optimiser step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lcsm.errors import UsageError
from lcsm.training.callbacks.best import Best
from lcsm.training.callbacks.nonfinite import require_finite_weights
from lcsm.training.callbacks.progress_state import is_last_step, step_ended, validation_follows
from lcsm.training.checkpoints import BEST, HEADER, LAST, MODEL_PREFIX, copy_checkpoint, read_checkpoint

logger = logging.getLogger(__name__)

MakeHeader = Callable[..., dict[str, Any]]


class Checkpointing(Checkpoint):
    """Keeps the newest and the best state of a run.

    `last.ckpt` is written every `every` steps, before and after each validation, when a logger fails and at the end;
    `best.ckpt` when a validation improved the monitored metric. What is saved before a validation says so, and a
    resumed run then starts with it.

    Args:
        directory: where the files go.
        make_header: makes the header of a checkpoint from `step`, `weights` and `metrics`.
        tracker: tells whether a validation was the best so far; acts before this callback.
        every: steps between two saves; None saves around validations and at the end only.
    Attributes:
        saved_step: step of the newest file, None before the first.
    """

    def __init__(self, directory: Path, *, make_header: MakeHeader, tracker: Best, every: int | None) -> None:
        self.directory = directory
        self.make_header = make_header
        self.tracker = tracker
        self.every = every
        self.metrics: dict[str, float] = {}
        self.saved_step: int | None = None
        self.validation_due = False
        self.loaded_step: int | None = None
        self.failures = 0

    @property
    def last(self) -> Path:
        return self.directory / LAST

    @property
    def best(self) -> Path:
        return self.directory / BEST

    def state_dict(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "validation_due": self.validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.metrics = state_dict["metrics"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.loaded_step = checkpoint["global_step"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.loaded_step is None:
            return
        if trainer.ckpt_path == str(self.last):
            self.saved_step = self.loaded_step
            if self.tracker.step == self.loaded_step:
                # the run may have died between the two files
                self.copy_to_best(trainer, self.last)
        # every process must decide alike, so that nobody waits for the others in vain
        earlier = Path(str(trainer.ckpt_path)).with_name(BEST)
        if earlier.resolve() == self.best.resolve() and earlier.exists():
            return
        if earlier.exists() and valid_step(earlier) == self.tracker.step:
            # a run that goes on in another directory takes its best file along
            self.copy_to_best(trainer, earlier)
        else:
            self.tracker.forget()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not step_ended(trainer):
            return
        follows = validation_follows(trainer)
        if is_last_step(trainer):
            # the validation after the last step saves; without one this is the last chance
            if not follows:
                self.save(trainer)
        elif follows or (self.every and trainer.global_step % self.every == 0) or self.logger_failed(trainer):
            self.save(trainer, validation_due=follows)

    def logger_failed(self, trainer: Trainer) -> bool:
        """Whether a logger has failed since the last step: then the disk may be full, and what is done is saved first.

        Loggers write on one rank only, and all ranks save together: with several it is left to the next save.
        """
        before, self.failures = self.failures, sum(getattr(each, "failed", False) for each in trainer.loggers)
        return self.failures > before and trainer.world_size == 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.metrics = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")
        }
        self.save(trainer)
        if self.tracker.improved:
            self.copy_to_best(trainer, self.last)

    def save(self, trainer: Trainer, validation_due: bool = False) -> None:
        """Write `last.ckpt`.

        Raises:
            NonFiniteError: a weight is not finite; the earlier checkpoint stays.
            UsageError: the file cannot be written.
        """
        require_finite_weights(trainer, self.describe_good())
        self.validation_due = validation_due
        trainer.save_checkpoint(self.last, weights_only=False)
        self.saved_step = trainer.global_step

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        weights = {
            name.removeprefix(MODEL_PREFIX): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(MODEL_PREFIX)
        }
        checkpoint[HEADER] = self.make_header(step=trainer.global_step, weights=weights, metrics=self.metrics)

    def copy_to_best(self, trainer: Trainer, source: Path) -> None:
        """Make `best.ckpt` a copy of a file such as `last.ckpt`."""
        if trainer.is_global_zero:
            copy_checkpoint(source, self.best)
        trainer.strategy.barrier("best checkpoint")

    def describe_good(self) -> str:
        """The place of the newest good state, in words."""
        if self.saved_step is None:
            return "no checkpoint was saved before"
        return f"last good checkpoint: {self.last} (step {self.saved_step})"


def valid_step(path: Path) -> int | None:
    """The step of a checkpoint, None where it is damaged."""
    try:
        return read_checkpoint(path).step
    except UsageError as error:
        logger.warning("not taken along: %s", error)
        return None
