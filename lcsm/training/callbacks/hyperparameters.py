"""Hyperparameters beside their scores in TensorBoard, from the start of a run on."""

from __future__ import annotations

import math
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Callback, LightningModule, Trainer

from lcsm.training.callbacks.best import Best
from lcsm.training.callbacks.memory import PeakMemory
from lcsm.training.callbacks.throughput import Throughput
from lcsm.training.loggers import Events

COMPARED = ("mixer", "source", "input", "expand", "oscillation", "shrink", "normaliser", "channel", "schedule")


def flat_hyperparameters(config: dict[str, Any]) -> dict[str, Any]:
    """The settings by which runs are compared: a short flat set, for the columns of a table.

    Stages and the schedule appear under the name of the chosen option where the configuration knows it (`choices`),
    else of their class.
    """
    choices = config.get("choices") or {}
    flat: dict[str, Any] = {"model": config.get("model", {}).get("name")}
    for group in COMPARED:
        target = (config.get(group) or {}).get("_target_", "none")
        flat[group] = choices.get(group, target.rpartition(".")[2])
    for key in ("d_model", "num_layers"):
        flat[key] = config.get("model", {}).get(key)
    for key in ("num_heads", "state_dim"):
        flat[key] = (config.get("mixer") or {}).get(key)
    flat |= {"lr": config.get("optim", {}).get("lr"), "weight_decay": config.get("optim", {}).get("weight_decay")}
    flat |= {"batch_size": config.get("data", {}).get("batch_size"), "seed": config.get("seed")}
    return {key: value for key, value in flat.items() if value is not None}


def given_settings() -> set[str]:
    """The columns that the command line or a sweep of Hydra gave values, by which its runs differ."""
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {word.partition("=")[0].lstrip("+").rpartition(".")[2] for word in words}


class Hyperparameters(Callback):
    """Fills the hparams table of TensorBoard: settings at the start, scores (`hp/...`) after every validation.

    Scores are the best value of the monitored metric so far, tokens per second, peak memory and the number of
    parameters. A score has no value before it is measured, so that a run without a validation never looks best.

    Args:
        config: the whole configuration.
        tracker: the best value of the monitored metric; acts before this callback.
        memory: measures the peak memory of the run.
        throughput: measures the speed, None where that is switched off.
        facts: further numbers that are known from the start.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        tracker: Best,
        memory: PeakMemory,
        throughput: Throughput | None,
        facts: dict[str, float],
    ) -> None:
        self.config = config
        self.tracker = tracker
        self.memory = memory
        self.throughput = throughput
        self.facts = facts

    @property
    def score_name(self) -> str:
        return f"hp/{self.tracker.monitor.removeprefix('val/')}"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parameters = float(sum(parameter.numel() for parameter in pl_module.parameters()))
        scores = {self.score_name: self.tracker.value, "hp/parameters": parameters, "hp/peak_mib": math.nan}
        scores |= {f"hp/{name}": float(value) for name, value in self.facts.items()}
        if self.throughput is not None:
            scores["hp/tokens_per_second"] = math.nan
        for logger in tensorboards(trainer):
            # a resumed run has its row already
            if not logger.continued:
                logger.add_row(flat_hyperparameters(self.config), scores, trainer.global_step, given_settings())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        scores = {self.score_name: self.tracker.value}
        if (peak := self.memory.mib(pl_module.device)) is not None:
            scores["hp/peak_mib"] = peak
        if self.throughput is not None and self.throughput.tokens_per_second is not None:
            scores["hp/tokens_per_second"] = self.throughput.tokens_per_second
        for logger in tensorboards(trainer):
            logger.log_metrics(scores, trainer.global_step)


def tensorboards(trainer: Trainer) -> list[Events]:
    """The TensorBoard loggers of a trainer, on the rank that writes."""
    return [logger for logger in trainer.loggers if isinstance(logger, Events)] if trainer.is_global_zero else []
