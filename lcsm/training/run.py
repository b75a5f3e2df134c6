"""One training run: trainer, loggers, callbacks, resume, and the end mark."""

from __future__ import annotations

import functools
import logging
import math
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf

from lcsm.errors import UsageError, first_line, shortened
from lcsm.tasks.base import Task
from lcsm.training.callbacks.best import Best
from lcsm.training.callbacks.build import Callbacks, build_callbacks
from lcsm.training.checkpoint_io import SafeCheckpointIO
from lcsm.training.checkpoints import BEST, Checkpoint, make_header
from lcsm.training.errors import Interrupted
from lcsm.training.files import misplaced, sweep_temporary, write_atomically, write_json
from lcsm.training.lock import RunLock
from lcsm.training.loggers import EVENTS, build_loggers
from lcsm.training.parameter_groups import group_lines, parameter_groups
from lcsm.training.quiet import quiet
from lcsm.training.rank import is_first_rank
from lcsm.training.resume import check_continues, find_checkpoint, tokenizer_state
from lcsm.training.signals import StopSignals
from lcsm.training.strategies import check_strategy

log = logging.getLogger(__name__)

END_MARK = "end.json"
CONFIG = "config.yaml"
# arguments of the trainer that belong to the run
OWN = ("callbacks", "logger", "plugins", "default_root_dir", "enable_checkpointing", "check_val_every_n_epoch",
       "use_distributed_sampler", "max_epochs")  # fmt: skip
# those of a trainer that only measures
MEASURED = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


def fit(
    task: Task,
    datamodule: Any,
    config: dict[str, Any],
    run_dir: str | Path,
    signals: StopSignals | None = None,
    facts: dict[str, float] | None = None,
    lock: RunLock | None = None,
) -> dict[str, Any]:
    """Train a task, or continue it, and return what came out.

    Args:
        task: model and optimiser.
        datamodule: set up as far as `vocab_size` and `describe()` need it; its `first_batch` is set here.
        config: the whole resolved configuration as plain data.
        run_dir: `config.yaml`, `checkpoints/`, `tb/`, `figures/`, `metrics.csv` and `end.json` go here.
        signals: already listening for signals; None listens from here on. From the start of training on, and
            afterwards, it only notes them.
        facts: numbers that stand beside the scores, e.g. state size and FLOPs per token; they enter hparams as
            `hp/<name>` and the end mark.
        lock: the lock on `run_dir` where the caller holds it; None takes it here.
    Returns:
        `status` ("finished", or "stopped" when `trainer.max_time` ended it), `step`, the last `val/...` metrics,
        `best/<metric>` and `best/step`, `tokens_per_second`, `seconds`, `peak_mib`, `parameters`, `checkpoint` (the
        best file, else the last; None without), `already_finished`.
    Raises:
        UsageError: the run cannot start or continue as asked.
        NonFiniteError: the numbers went wrong; the last good checkpoint is intact.
        Interrupted: a signal stopped the run; what it had trained is saved.
    """
    run_dir = Path(run_dir)
    make_writable(run_dir)
    with ExitStack() as stack:
        if signals is None:
            signals = stack.enter_context(StopSignals())
        if is_first_rank():
            if lock is None:
                stack.enter_context(RunLock(run_dir))
            for folder in ("", "checkpoints", EVENTS):
                sweep_temporary(run_dir / folder)
        stack.enter_context(quiet())
        checkpoint = find_checkpoint(config.get("resume"), run_dir, config)
        if checkpoint is not None:
            check_continues(checkpoint, config, task.model, datamodule)
            max_steps = config["trainer"]["max_steps"]
            if 0 <= max_steps <= checkpoint.step:
                return already_finished(checkpoint, task, run_dir, max_steps)
            log.info("continuing %s at step %d", checkpoint.path, checkpoint.step)
        if is_first_rank():
            for line in group_lines(parameter_groups(task.model, config["optim"])):
                log.info(line)
        return train(task, datamodule, config, run_dir, signals, checkpoint, facts or {})


def make_writable(run_dir: Path) -> None:
    """Make the run directory and try to write in it, before anything expensive happens."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            fault = misplaced(run_dir)
    except OSError as error:
        # file systems such as /proc answer so for a folder that is there and takes none
        why = "it takes no folders" if isinstance(error, FileNotFoundError) else error.strerror
        raise UsageError(
            f"run directory {shortened(str(run_dir))} cannot be written: {why}\n"
            "choose another place, such as paths.root=..."
        ) from error
    if fault is not None:
        raise UsageError(f"run directory {run_dir}: {fault}")


def train(
    task: Task,
    datamodule: Any,
    config: dict[str, Any],
    run_dir: Path,
    signals: StopSignals,
    checkpoint: Checkpoint | None,
    facts: dict[str, float],
) -> dict[str, Any]:
    """The part of `fit` between a decided start and the end mark."""
    path, step = (None, None) if checkpoint is None else (checkpoint.path, checkpoint.step)
    loggers = build_loggers(config["logger"], run_dir, path, step)
    callbacks = build_callbacks(
        config,
        task=task,
        datamodule=datamodule,
        run_dir=run_dir,
        loggers=loggers,
        signals=signals,
        make_header=functools.partial(
            make_header,
            config=config,
            vocab_size=datamodule.vocab_size,
            tokenizer=tokenizer_state(datamodule),
            data=datamodule.describe(),
        ),
        resumed=checkpoint is not None,
        facts=facts,
    )
    trainer = build_trainer(config["trainer"], run_dir, loggers, callbacks)
    datamodule.first_batch = 0 if checkpoint is None else batches_done(checkpoint)
    end: dict[str, Any] = {"status": "failed"}
    start = time.perf_counter()
    mark = run_dir / END_MARK
    signals.defer(speaks=is_first_rank())
    if is_first_rank():
        mark.unlink(missing_ok=True)
        write_config(config, run_dir / CONFIG)
    try:
        trainer.fit(task, datamodule=datamodule, ckpt_path=path and str(path), weights_only=True)
        end = facts | summary(trainer, task, callbacks, time.perf_counter() - start)
    except Interrupted:
        end = {"status": "interrupted"}
        raise
    except UsageError as error:
        end["error"] = str(error)
        raise
    finally:
        if trainer.is_global_zero:
            write_end(mark, {"step": trainer.global_step} | end)
    if signals.number is not None:
        # it came when the run was ending anyway: all is saved, but whoever started the run asked to stop
        raise interrupted(signals.number, end)
    return end


def interrupted(number: int, result: dict[str, Any]) -> Interrupted:
    """The error of a signal that came after training."""
    return Interrupted(number, result["step"], Path(result["checkpoint"]) if result["checkpoint"] else None)


def build_trainer(config: dict[str, Any], run_dir: Path, loggers: list[Logger], callbacks: Callbacks) -> Trainer:
    """The trainer of a `trainer` node; validation intervals count optimiser steps."""
    arguments = dict(config)
    taken = [name for name in OWN if arguments.pop(name, None) is not None]
    if taken:
        raise UsageError(f"trainer.{taken[0]} is set by the run itself; leave it out")
    if arguments.get("max_steps") is None or arguments["max_steps"] < 1:
        raise UsageError(
            f"trainer.max_steps={arguments.get('max_steps')} must be at least 1: training is counted in steps"
        )
    interval = arguments.get("val_check_interval")
    if isinstance(interval, float):
        raise UsageError(f"trainer.val_check_interval={interval} must be a whole number of steps: there are no epochs")
    if isinstance(interval, int):
        arguments["val_check_interval"] = interval * (arguments.get("accumulate_grad_batches") or 1)
    # our own bar is one of the callbacks
    arguments["enable_progress_bar"] = False
    return make_trainer(
        arguments,
        callbacks=callbacks.all,
        logger=loggers or False,
        plugins=[SafeCheckpointIO()],
        default_root_dir=run_dir,
        enable_checkpointing=callbacks.checkpointing is not None,
        check_val_every_n_epoch=None,
        use_distributed_sampler=False,
        enable_autolog_hparams=False,
    )


def make_trainer(arguments: dict[str, Any], **own: Any) -> Trainer:
    """Lightning's trainer.

    Args:
        arguments: settings of the `trainer` node.
        own: those that belong to the run.
    Raises:
        UsageError: Lightning refuses a setting, or the machine has not as many devices.
    """
    check_strategy(arguments)
    try:
        trainer = Trainer(**arguments, **own)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UsageError(f"trainer: {first_line(error)}") from error
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        raise UsageError(
            f"trainer.devices={arguments['devices']} would run {trainer.num_devices} processes on {cores} CPU cores: "
            f"use trainer.devices=1 to {cores}"
        )
    return trainer


def check_trainer(config: dict[str, Any]) -> None:
    """Refuse a `trainer` node that Lightning or this machine cannot run."""
    with quiet():
        make_trainer(measuring(config) | {"max_time": config.get("max_time")}, **MEASURED)


def device_of(config: dict[str, Any]) -> str:
    """Type of the device that a `trainer` node trains on."""
    with quiet():
        return make_trainer(measuring(config), **MEASURED).strategy.root_device.type


def measuring(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a `trainer` node that also count where nothing is trained."""
    used = ("accelerator", "devices", "num_nodes", "strategy", "precision", "limit_val_batches", "deterministic")
    return {name: value for name, value in config.items() if name in used}


def batches_done(checkpoint: Checkpoint) -> int:
    """Number of training batches that a checkpoint has behind it, those of accumulation included."""
    return int(checkpoint.content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"])


def summary(trainer: Trainer, task: Task, callbacks: Callbacks, seconds: float) -> dict[str, Any]:
    """The result of a run."""
    checkpointing, throughput, stopping = callbacks.checkpointing, callbacks.throughput, callbacks.stopping
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    if not metrics and checkpointing is not None:
        metrics = checkpointing.metrics
    complete = trainer.global_step >= trainer.max_steps or (stopping is not None and stopping.reason() is not None)
    result: dict[str, Any] = {
        "status": "finished" if complete else "stopped",
        "step": trainer.global_step,
        "seconds": seconds,
        "tokens_per_second": throughput.tokens_per_second if throughput else None,
        "peak_mib": callbacks.memory.mib(task.device),
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "checkpoint": None,
        "already_finished": False,
        f"best/{task.monitor}": None if callbacks.best.step is None else callbacks.best.value,
        "best/step": callbacks.best.step,
        **metrics,
    }
    if checkpointing is not None:
        found = [path for path in (checkpointing.best, checkpointing.last) if path.exists()]
        result["checkpoint"] = str(found[0]) if found else None
    return result


def already_finished(checkpoint: Checkpoint, task: Task, run_dir: Path, max_steps: int) -> dict[str, Any]:
    """The result of a run that has nothing left to do."""
    log.info("already at step %d of %d (%s): nothing to train", checkpoint.step, max_steps, checkpoint.path)
    best = checkpoint.content["callbacks"].get(Best.__name__, {})
    best_file = Path(checkpoint.path).with_name(BEST)
    result = {
        "status": "finished",
        "step": checkpoint.step,
        "seconds": 0.0,
        "tokens_per_second": None,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "checkpoint": str(best_file if best_file.exists() else checkpoint.path),
        "already_finished": True,
        f"best/{task.monitor}": best.get("value"),
        "best/step": best.get("step"),
        **checkpoint.metrics,
    }
    if is_first_rank() and not (run_dir / END_MARK).exists():
        write_end(run_dir / END_MARK, result)
    return result


def write_config(config: dict[str, Any], path: Path) -> None:
    """Keep the configuration beside the results."""
    text = OmegaConf.to_yaml(OmegaConf.create(config))
    try:
        write_atomically(path, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}\nmake room or choose another place") from error


def write_end(path: Path, result: dict[str, Any]) -> None:
    """Write the end mark. Where that fails, how the run ended counts more than the mark."""
    try:
        write_json(path, finite(result))
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)


def finite(result: dict[str, Any]) -> dict[str, Any]:
    """A result as strict JSON holds it: null for what is not a finite number."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in result.items()
    }


def evaluate(task: Task, datamodule: Any, config: dict[str, Any]) -> dict[str, float]:
    """The validation metrics of a task with its present weights, without writing anything.

    Args:
        task: its model holds the weights to be measured.
        datamodule: gives the validation loaders.
        config: the whole configuration; device, precision and `limit_val_batches` of its trainer are used.
    """
    with quiet():
        trainer = make_trainer(measuring(config["trainer"]), **MEASURED)
        trainer.validate(task, datamodule=datamodule, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}
