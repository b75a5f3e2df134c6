"""The callbacks of a run from its configuration, in the order in which they must act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback
from lightning.pytorch.loggers import Logger

from lcsm.errors import UsageError
from lcsm.training.callbacks.averaging import AverageWeights
from lcsm.training.callbacks.best import Best
from lcsm.training.callbacks.checkpointing import Checkpointing, MakeHeader
from lcsm.training.callbacks.figures import Figures
from lcsm.training.callbacks.hyperparameters import Hyperparameters
from lcsm.training.callbacks.interruption import StopOnSignal
from lcsm.training.callbacks.memory import PeakMemory
from lcsm.training.callbacks.nonfinite import NonFiniteGuard
from lcsm.training.callbacks.progress import ProgressBar
from lcsm.training.callbacks.recording import LearningRates, Recorder
from lcsm.training.callbacks.resuming import Resume
from lcsm.training.callbacks.samples import TextSamples
from lcsm.training.callbacks.seeding import StepSeed
from lcsm.training.callbacks.stopping import StopEarly, ValidateAtEnd
from lcsm.training.callbacks.throughput import Throughput
from lcsm.training.callbacks.time_budget import TimeBudget
from lcsm.training.loggers import Events
from lcsm.training.signals import StopSignals

KNOWN = (
    "checkpoint", "progress", "throughput", "learning_rates", "hyperparameters", "nonfinite_skips", "ema", "stop_at",
    "patience", "figures", "samples",
)  # fmt: skip


@dataclass
class Callbacks:
    """The callbacks of a run, and those among them that are asked for results."""

    best: Best
    memory: PeakMemory
    checkpointing: Checkpointing | None = None
    throughput: Throughput | None = None
    stopping: StopEarly | None = None
    all: list[Callback] = field(default_factory=list)


def build_callbacks(
    config: dict[str, Any],
    *,
    task: Any,
    datamodule: Any,
    run_dir: Path,
    loggers: list[Logger],
    signals: StopSignals,
    make_header: MakeHeader,
    resumed: bool,
    facts: dict[str, float],
) -> Callbacks:
    """Build what `config["callbacks"]` asks for.

    A callback that the loggers, the data or the trainer cannot serve is left out: hyperparameters and samples without
    TensorBoard, samples without text. Seeding, a last validation, recording and stopping on a signal belong to every
    run.

    Args:
        config: the whole configuration.
        task: has `monitor`, `mode` and `stop_at`.
        datamodule: has `decode` where the data are text.
        run_dir: checkpoints and figures go below it.
        loggers: of the run.
        signals: notes signals.
        make_header: makes the header of a checkpoint.
        resumed: whether the run continues a checkpoint.
        facts: numbers of the run that stand beside its scores.
    """
    node = config["callbacks"]
    check_switches(node)
    built = Callbacks(Best(task.monitor, task.mode), PeakMemory())
    if node["checkpoint"]:
        make = partial(Checkpointing, run_dir / "checkpoints", make_header=make_header, tracker=built.best)
        built.checkpointing = with_settings("checkpoint", node, make)
    if node["throughput"]:
        built.throughput = Throughput(built.memory)
    stop_at = task.stop_at if node["stop_at"] == "auto" else node["stop_at"]
    if stop_at is not None or node["patience"] is not None:
        built.stopping = StopEarly(built.best, stop_at, node["patience"])
    built.all = [StepSeed(config["seed"]), ValidateAtEnd(), built.best, built.memory]
    if config["schedule"].get("max_time") is not None:
        built.all.append(TimeBudget())
    if resumed:
        built.all.append(Resume(config_wins=bool(config.get("resume_force"))))
    if node["nonfinite_skips"] is not None:
        good = built.checkpointing.describe_good if built.checkpointing else lambda: "checkpoints are switched off"
        built.all.append(NonFiniteGuard(node["nonfinite_skips"], good))
    built.all += [callback for callback in (built.throughput, built.stopping) if callback is not None]
    tensorboard = any(isinstance(logger, Events) for logger in loggers)
    if node["hyperparameters"] and tensorboard:
        built.all.append(
            Hyperparameters(config, tracker=built.best, memory=built.memory, throughput=built.throughput, facts=facts)
        )
    built.all += reporters(config, task.monitor, run_dir / "figures", tensorboard and hasattr(datamodule, "decode"))
    # the average must be up to date before anything is saved, and its weights in place while figures are drawn
    built.all += [AverageWeights(node["ema"])] if node["ema"] is not None else []
    built.all += [StopOnSignal(signals, built.checkpointing)]
    built.all += [built.checkpointing] if built.checkpointing is not None else []
    return built


def reporters(config: dict[str, Any], monitor: str, figures: Path, text: bool) -> list[Callback]:
    """The reporting callbacks: pictures, samples of text, rows of metrics, the bar."""
    node = config["callbacks"]
    callbacks: list[Callback] = [LearningRates()] if node["learning_rates"] else []
    if node["figures"]:
        callbacks.append(with_settings("figures", node, partial(Figures, figures)))
    if node["samples"] and text:
        callbacks.append(with_settings("samples", node, TextSamples))
    callbacks.append(Recorder())
    if node["progress"]:
        callbacks.append(ProgressBar(monitor, drawn=config["trainer"].get("enable_progress_bar", True)))
    return callbacks


def check_switches(node: dict[str, Any]) -> None:
    """Refuse switches that are unknown, missing or out of range."""
    for key in sorted({*node} ^ {*KNOWN}):
        state = "is not known" if key in node else "is missing"
        raise UsageError(f"callbacks.{key} {state}; there are {', '.join(KNOWN)}")
    for key in ("patience", "checkpoint.every", "figures.every", "samples.every"):
        section, _, name = key.partition(".")
        value = (node[section] or {}).get(name) if name else node[section]
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UsageError(f"callbacks.{key}={value} must be a whole number >= 1")
    if isinstance(node["stop_at"], str) and node["stop_at"] != "auto":
        raise UsageError(f"callbacks.stop_at={node['stop_at']} must be a number, auto (the task's own value) or null")


def with_settings(name: str, node: dict[str, Any], callback: Callable[..., Any]) -> Any:
    """A callback made of its node of settings."""
    try:
        return callback(**node[name])
    except TypeError as error:
        raise UsageError(f"callbacks.{name}: {str(error).partition('() ')[2]}; null switches it off") from error
