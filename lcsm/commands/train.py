"""Train one model, or every model of a sweep."""

from __future__ import annotations

import atexit
import logging
import math
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcsm.commands.terminal import lasting_output
from lcsm.config.overview import train_usage

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import argparse

    from omegaconf import DictConfig

    from lcsm.config.compose import Plan
    from lcsm.training.errors import Interrupted
    from lcsm.training.lock import RunLock
    from lcsm.training.signals import StopSignals


def usage(arguments: Sequence[str]) -> str:
    """The text of `--help`."""
    return train_usage(arguments)


def run(arguments: Sequence[str]) -> int:
    """Check all jobs of the command line, then let Hydra run them.

    Returns:
        The exit status: 0 if all jobs are done, 1 if one failed, 128 + n if signal n stopped them.
    """
    from lcsm.training.errors import Interrupted
    from lcsm.training.signals import StopSignals

    # what a scheduler announces has nothing left to stop while the process ends
    atexit.register(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
    with lasting_output("stdout", "stderr"):
        try:
            with StopSignals():
                return start(arguments)
        except Interrupted as stop:
            say(stop)
            return stop.exit_code


def start(arguments: Sequence[str]) -> int:
    """The part of `run` that signals may stop."""
    from lcsm.config.compose import make_plan, read_arguments

    flags = read_arguments(arguments)
    if flags.cfg or flags.info or flags.hydra_help or flags.shell_completion:
        from lcsm.commands.services import serve

        serve(flags)
        return 0
    plan = make_plan(arguments)

    # torch is imported from here on
    from lcsm.commands.check_plan import check_plan

    check_plan(plan)
    from lcsm.training.lock import RunLock
    from lcsm.training.rank import is_first_rank
    from lcsm.training.run import make_writable

    if not is_first_rank():
        return run_single(flags, plan, None)
    # before Hydra writes into the directory, which may be that of a run that is under way
    make_writable(plan.directory)
    with RunLock(plan.directory) as lock:
        return run_sweep(flags, plan) if plan.sweep else run_single(flags, plan, lock)


def say(stop: Interrupted) -> None:
    """Say why a run ended, once for all its processes."""
    from lcsm.training.rank import was_started_first

    if was_started_first():
        sys.stderr.write(f"\nlcsm: {stop}\n")


def run_single(flags: argparse.Namespace, plan: Plan, lock: RunLock | None) -> int:
    """One job in this process."""
    from lcsm.config.compose import Composer
    from lcsm.config.places import word

    with Composer(flags) as composer:
        words = composer.words_with("hydra.mode=RUN", word("hydra.run.dir", plan.directory))
        result = composer.hydra.run(composer.name, partial(job, lock=lock), words).return_value
    if isinstance(result, BaseException):
        raise result
    return 0


def run_sweep(flags: argparse.Namespace, plan: Plan) -> int:
    """All jobs through Hydra's launcher, then a table of what became of each."""
    from lcsm.commands.sweep import JobRecord, print_table
    from lcsm.config.compose import Composer
    from lcsm.config.places import word

    JobRecord.directory = None
    try:
        with Composer(flags) as composer:
            directory = word("hydra.sweep.dir", plan.directory)
            words = composer.words_with(*composer.directory_words(), "hydra.mode=MULTIRUN", directory)
            composer.hydra.multirun(composer.name, job, words)
    finally:
        all_done = print_table(plan, JobRecord.directory)
    return 0 if all_done else 1


def job(config: DictConfig, lock: RunLock | None = None) -> float | None:
    """One job, as Hydra calls it.

    Args:
        config: of the job.
        lock: on the directory of a single run.
    Returns:
        The metric that the task monitors, for sweepers that choose the next job by it.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from lcsm.config.compose import plain
    from lcsm.training.errors import Interrupted
    from lcsm.training.signals import StopSignals

    single = HydraConfig.get().mode == RunMode.RUN
    try:
        with StopSignals() as signals:
            return train(plain(config), Path(HydraConfig.get().runtime.output_dir), single, signals, lock)
    except Interrupted as stop:
        say(stop)
        # not an Exception: a launcher must not go on with the next job
        raise SystemExit(stop.exit_code) from stop


def train(
    config: dict[str, Any],
    run_dir: Path,
    verbose: bool,
    signals: StopSignals | None = None,
    lock: RunLock | None = None,
) -> float | None:
    """Build data, model and task from a checked configuration and fit.

    Args:
        config: the resolved configuration as plain dictionaries.
        run_dir: where everything about the run is written.
        verbose: whether to print the score and where the run is.
        signals, lock: as in `fit`.
    Returns:
        The best value of the metric that the task monitors, the one of the checkpoint that is kept; None without any.
    """
    from lcsm.commands.assemble import build_data, build_task, prepare
    from lcsm.inspection import card
    from lcsm.training.rank import is_first_rank
    from lcsm.training.run import device_of, fit, interrupted

    prepare(config)
    if late := late_warmup(config["schedule"]):
        log.warning(late)
    datamodule = build_data(config)
    task = build_task(config, datamodule)
    model: Any = task.model
    device = device_of(config["trainer"])
    if slow := without_algorithm(model, config, device):
        log.warning(slow)
    facts = card(model, datamodule.length, device)
    if is_first_rank():
        log.info(in_a_line(config["model"]["name"], facts, datamodule.length))
    if config.get("compile"):
        model.backbone.compile_layers()
    known = {name: facts[name] for name in ("state_size", "flops_per_token")}
    results = fit(task, datamodule, config, run_dir, signals, known, lock)
    if verbose and is_first_rank():
        report(task.monitor, results, run_dir, config["paths"]["root"])
    if signals is not None and signals.number is not None:
        # it came when the run had ended: all is saved, but whoever started the run asked to stop
        raise interrupted(signals.number, results)
    return score(task.monitor, results)


def without_algorithm(model: Any, config: dict[str, Any], device: str) -> str:
    """The warning for layers that only the loop over time can run, "" where there are none."""
    from lcsm.commands.check_model import partners

    choices = [mixer.choice(device) for mixer in model.backbone.mixers()]
    slow = [index for index, choice in enumerate(choices) if choice.available == ("reference",)]
    if not slow:
        return ""
    hint = partners(config) or "other stages may have one: lcsm show"
    return f"layers {', '.join(map(str, slow))} run the loop over time, no faster algorithm fits these stages; {hint}"


def late_warmup(schedule: dict[str, Any]) -> str:
    """The warning for a warm-up that the run is too short for, "" where it is not."""
    steps, end = schedule.get("warmup_steps"), schedule.get("max_steps")
    if steps is None or end is None or steps <= end:
        return ""
    return f"schedule.warmup_steps={steps} is beyond the last step: the warm-up takes the whole run, {end} steps"


def in_a_line(name: str, facts: dict[str, Any], length: int) -> str:
    """A model for the log: size and cost, then how many layers have which structure and algorithm."""
    kinds = Counter(f"{layer['structure']} by {layer['algorithm']}" for layer in facts["layers"])
    return (
        f"model {name}: {facts['parameters']:,} parameters, {facts['state_size']:,} state numbers per sequence and "
        f"{facts['flops_per_token']:,} FLOPs per token at position {length}; layers: "
        + ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    )


def score(monitor: str, results: dict[str, Any]) -> float | None:
    """The best value of a metric, else its last one; None where nothing was measured."""
    values = (results.get(f"best/{monitor}"), results.get(monitor))
    return next((float(value) for value in values if value is not None and math.isfinite(value)), None)


def report(monitor: str, results: dict[str, Any], run_dir: Path, root: str) -> None:
    """The last lines of a run: the score, where it is, and how to look at it."""
    lines = [("run", shown(run_dir)), ("compare", f"tensorboard --logdir {root}")]
    if results["checkpoint"] is not None:
        lines.insert(1, ("checkpoint", shown(Path(results["checkpoint"]))))
    best, last = score(monitor, results), results.get(monitor)
    if best is not None:
        end = "" if last is None or last == best else f" (step {results['best/step']}; {last:.4f} at the end)"
        lines.insert(0, (monitor.rpartition("/")[2], f"{best:.4f}{end}"))
    sys.stdout.write("".join(f"{name:<11}{value}\n" for name, value in lines))


def shown(path: Path) -> str:
    """A path as short as it can be written from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
