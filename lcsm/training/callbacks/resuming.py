"""Puts a run back where its checkpoint left it, beyond what Lightning restores."""

from __future__ import annotations

import copy
from typing import Any

from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import WeightAveraging

from lcsm.errors import UsageError
from lcsm.training.callbacks.checkpointing import Checkpointing


class Resume(Callback):
    """Restores a pending validation, the training weights of an averaged run and, if forced, the settings of the
    configuration.

    Lightning restores the optimiser and the schedule as they were stored. Where the configuration was changed on
    purpose (`resume_force`), learning rates, decay and schedule are those of the configuration, at the step of the
    checkpoint.

    Args:
        config_wins: whether the configuration overrides the stored optimiser settings.
    """

    def __init__(self, config_wins: bool) -> None:
        self.config_wins = config_wins
        self.stored_groups: list[dict[str, Any]] = []
        self.own_groups: list[dict[str, Any]] = []
        self.own_factors: list[Any] = []

    def on_load_checkpoint(self, trainer: Any, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)
        if "current_model_state" in checkpoint and not averages:
            pl_module.load_state_dict(checkpoint["current_model_state"])
        even_out(checkpoint["loops"]["fit_loop"])
        if checkpoint["callbacks"].get(Checkpointing.__qualname__, {}).get("validation_due"):
            place_before_validation(checkpoint["loops"]["fit_loop"])
        self.stored_groups = checkpoint["optimizer_states"][0]["param_groups"]

    def on_fit_start(self, trainer: Any, pl_module: LightningModule) -> None:
        groups = trainer.optimizers[0].param_groups
        self.own_groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]
        # copies: restoring writes the stored settings into the schedule
        self.own_factors = copy.deepcopy(trainer.lr_scheduler_configs[0].scheduler.lr_lambdas)
        here = [(sorted(group), len(group["params"])) for group in groups]
        there = [(sorted(group), len(group["params"])) for group in self.stored_groups]
        if here != there:
            raise UsageError(
                "the optimiser or its parameter groups differ from those of the checkpoint, so its state does not fit\n"
                "restore the optim settings of that run or start a new run"
            )

    def on_train_start(self, trainer: Any, pl_module: LightningModule) -> None:
        # the trainer has seen the mark of a validation that is due; kept, every later checkpoint would carry it
        trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()
        if not self.config_wins:
            return
        schedule = trainer.lr_scheduler_configs[0].scheduler
        for own, stored in zip(self.own_factors, schedule.lr_lambdas, strict=True):
            own.elapsed = stored.elapsed
        schedule.lr_lambdas = self.own_factors
        schedule.base_lrs = [group["initial_lr"] for group in self.own_groups]
        for group, own, factor in zip(
            trainer.optimizers[0].param_groups, self.own_groups, self.own_factors, strict=True
        ):
            group.update(own)
            group["lr"] = own["initial_lr"] * factor(schedule.last_epoch)
        schedule._last_lr = [group["lr"] for group in trainer.optimizers[0].param_groups]


def place_before_validation(fit_loop: dict[str, Any]) -> None:
    """Make Lightning start with the validation that was due when the state was saved.

    It takes a state saved after a training batch for one whose validation is done, but repeats a validation that looks
    interrupted in its first batch. The training batch is complete by then.
    """
    training, validation = (fit_loop[f"epoch_loop.{name}batch_progress"] for name in ("", "val_loop."))
    for counts in (training["total"], training["current"]):
        counts["completed"] = counts["processed"]
    validation["total"]["ready"] += 1
    validation["total"]["started"] += 1
    validation["current"] = dict.fromkeys(validation["current"], 0)
    validation["is_last_batch"] = False


def even_out(fit_loop: dict[str, Any]) -> None:
    """Count the batches of validations that are complete, and no other.

    Totals of earlier versions may be uneven, for which Lightning would repeat a part of a validation that is done and
    report its scores as those of the whole.
    """
    total = fit_loop["epoch_loop.val_loop.batch_progress"]["total"]
    total.update(dict.fromkeys(total, total["completed"]))
