"""Compose and check every job of a command line before Hydra runs the first.

Hydra composes again when it runs the jobs; here it is done once more beforehand so that all faults of all jobs are
found in seconds, without torch where that is possible, and said in our words.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hydra import version
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lcsm.config import schemas
from lcsm.config.check import check_config
from lcsm.config.foreign import OwnWordsLoader
from lcsm.config.hydra_private import Hydra, create_config_search_path, get_args_parser
from lcsm.config.locate import conf_directory
from lcsm.config.messages import (
    COMPOSITION_ERRORS,
    Names,
    explain,
    group_without_option,
    merged_options,
    not_a_directory,
)
from lcsm.config.places import check_places
from lcsm.config.resolvers import register_resolvers
from lcsm.errors import UsageError

VERSION_BASE = "1.3"
LAUNCHED_HERE = ("BasicLauncher", "JoblibLauncher")
register_resolvers()


@dataclass(frozen=True)
class Job:
    """One run: its overrides and its resolved configuration as plain dictionaries."""

    overrides: list[str]
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The jobs that a command line asks for.

    Attributes:
        sweep: whether Hydra runs it as a multirun.
        directory: where the run, or the sweep, is to be written.
        jobs: the jobs in order; only the first known one where a sweeper chooses its values while it runs.
        complete: whether `jobs` are all of them.
        here: whether the jobs run on this machine.
    """

    sweep: bool
    directory: Path
    jobs: list[Job] = field(default_factory=list)
    complete: bool = True
    here: bool = True


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags and the overrides.

    Raises:
        UsageError: an unknown flag, one without its value, or one that lcsm does not support.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}\nlcsm train --hydra-help lists the flags")

    parser.error = refuse  # type: ignore[method-assign]
    # flags and overrides may come in any order
    arguments = parser.parse_intermixed_args(list(argv))
    asked = (arguments.run, arguments.multirun, arguments.cfg, arguments.info, arguments.shell_completion)
    if sum(map(bool, asked)) > 1:
        raise UsageError("only one of --run, --multirun (-m), --cfg, --info and --shell-completion can be asked for")
    if arguments.cfg is None and (arguments.resolve or arguments.package is not None):
        raise UsageError("--resolve and --package say how --cfg prints the configuration: add --cfg job")
    if arguments.experimental_rerun is not None:
        raise UsageError(
            "--experimental-rerun loads a pickle, which can run code\nuse --config-path=RUN --config-name=config"
        )
    if arguments.config_dir is not None and not os.path.isdir(arguments.config_dir):
        raise UsageError(not_a_directory(arguments.config_dir))
    if arguments.config_path is not None and not os.path.isdir(arguments.config_path):
        raise UsageError(f"--config-path={arguments.config_path}: no such directory (from {Path.cwd()})")
    return arguments


class Composer:
    """Composes configurations from the directories that a command line names.

    A context manager, because Hydra keeps the directories in a process-wide object that must be cleared before it runs.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        # a run keeps its configuration as config.yaml
        self.name = arguments.config_name or ("config" if arguments.config_path else "train")
        # a saved configuration has no settings of Hydra: they are added
        self.words = [*(["+hydra=default"] if arguments.config_path else []), *arguments.overrides]
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.main = Path(arguments.config_path or conf_directory()).resolve()
        self.loader = OwnWordsLoader(self.search_path(), self.words)

    def search_path(self) -> ConfigSearchPath:
        """The search path of options: Hydra's own, the main directory, that of lcsm, that of --config-dir."""
        search_path = create_config_search_path(str(self.main))
        if self.main != conf_directory():
            search_path.prepend("lcsm", f"file://{conf_directory()}", anchor=SearchPathQuery(provider="schema"))
        if self.arguments.config_dir is not None:
            directory = Path(self.arguments.config_dir).resolve()
            search_path.prepend("command-line", f"file://{directory}", anchor=SearchPathQuery(provider="schema"))
        return search_path

    def __enter__(self) -> Composer:
        version.setbase(VERSION_BASE)
        self.hydra = Hydra("train", self.loader)
        GlobalHydra.instance().initialize(self.hydra)
        return self

    def __exit__(self, *_: object) -> None:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of these overrides, sweeps left out, with Hydra's own node.

        Raises:
            UsageError: anything that a user wrote wrongly.
        """
        try:
            for override in self.parse(overrides):
                self.check_group(override)
            config = self.hydra.compose_config(
                config_name=self.name,
                overrides=list(overrides),
                run_mode=RunMode.RUN,
                from_shell=True,
                validate_sweep_overrides=False,
            )
        except COMPOSITION_ERRORS as error:
            raise UsageError(explain(error, overrides, lambda: self.names(overrides))) from error
        # Hydra does not note the choice of a file that lists several options
        shipped = self.name == "train" and self.main == conf_directory()
        for group in schemas.GROUPS if shipped else ():
            if group in config and group not in config.hydra.runtime.choices:
                raise UsageError(merged_options(group, ["...", "..."]))
        return config

    def compose_job(self, overrides: Sequence[str]) -> DictConfig:
        """As `compose`, for one of many jobs: files are read once per choice of options, values are set on a copy.

        Raises:
            UsageError: anything that a user wrote wrongly.
        """
        parsed = self.parse(overrides)
        is_choice = [bool(self.options(word.key_or_group)) and not isinstance(word.value(), dict) for word in parsed]
        choices = tuple(word for word, chosen in zip(overrides, is_choice, strict=True) if chosen)
        if choices not in self.composed:
            self.composed[choices] = self.compose(choices)
        config = copy.deepcopy(self.composed[choices])
        values = [word for word, chosen in zip(parsed, is_choice, strict=True) if not chosen]
        try:
            self.loader.set_values(config, values)
            self.loader.check(config)
        except COMPOSITION_ERRORS as error:
            raise UsageError(explain(error, overrides, lambda: self.names(overrides))) from error
        return config

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides as Hydra reads them."""
        return OverridesParser.create(config_loader=self.loader).parse_overrides(list(overrides))

    def words_with(self, *words: str) -> list[str]:
        """The words of the command line and some that are added to them."""
        self.loader.accept(words)
        return [*self.words, *words]

    def directory_words(self) -> list[str]:
        """Overrides that leave what all jobs of a sweep share out of the names of their directories."""
        words = self.parse(self.words)
        shared = [
            str(word.key_or_group) for word in words if not word.is_sweep_override() and not word.is_hydra_override()
        ]
        excluded = self.compose([]).hydra.job.config.override_dirname.exclude_keys
        return [f"hydra.job.config.override_dirname.exclude_keys=[{','.join([*excluded, *shared])}]"]

    def options(self, group: str) -> list[str]:
        """The options of a group, [] if there is no such group."""
        return self.loader.get_group_options(group, ObjectType.CONFIG)

    def check_group(self, override: Override) -> None:
        """A group takes the name of an option; Hydra itself answers null with a bare ValueError."""
        options = self.options(override.key_or_group)
        if not options or override.is_delete() or override.is_sweep_override():
            return
        value = override.value()
        names = value if isinstance(value, list) else [value]
        if not isinstance(value, dict) and not all(isinstance(name, str) and name for name in names):
            raise UsageError(group_without_option(str(override.input_line), options))
        if isinstance(value, list):
            raise UsageError(merged_options(override.key_or_group, names))

    def names(self, overrides: Sequence[str]) -> Names:
        """Valid names, from the configuration that the choices of options alone give."""
        groups = {group: self.options(group) for group in self.hydra.list_all_config_groups()}
        words = [word for word in overrides if word.partition("=")[0] in groups]
        for chosen in (words, []):
            try:
                config = self.hydra.compose_config(self.name, chosen, RunMode.RUN, validate_sweep_overrides=False)
            except COMPOSITION_ERRORS:
                continue
            return Names(groups, OmegaConf.to_container(without_hydra(config), resolve=False))  # type: ignore[arg-type]
        return Names(groups, {})

    def resolve(self, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
        """The plain dictionaries of a composed configuration; empty optional groups become None."""
        try:
            HydraConfig.instance().set_config(config)
            check_places(config, {word.key_or_group for word in self.loader.own})
            directory = OmegaConf.select(config, "hydra.run.dir")
            with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
                config.hydra.runtime.output_dir = str(directory)
            HydraConfig.instance().set_config(config)
            return plain(config)
        except COMPOSITION_ERRORS as error:
            raise UsageError(explain(error, overrides, lambda: self.names(overrides))) from error


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy without Hydra's own node."""
    rest = config.copy()
    with read_write(rest), open_dict(rest):
        rest.pop("hydra", None)
    return rest


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain dictionaries, interpolations resolved; an empty optional group becomes None."""
    container = OmegaConf.to_container(without_hydra(config), resolve=True, throw_on_missing=True)
    assert isinstance(container, dict)
    for key in ("choices", "mixers"):
        if not isinstance(container.get(key, {}), dict):
            raise UsageError(f"{key}={container[key]!r} must be a mapping of names to settings")
    settings = {str(key): value for key, value in container.items()}
    for group in schemas.OPTIONAL:
        settings[group] = settings.get(group) or None
    choices = settings.get("choices") or {}
    settings["choices"] = {group: name for group, name in choices.items() if not group.startswith(("hydra", "sizes"))}
    for named in (settings.get("mixers") or {}).values():
        for group in schemas.STAGES:
            if isinstance(named, dict) and group in named:
                named[group] = named[group] or None
    return settings


def make_plan(argv: Sequence[str]) -> Plan:
    """Compose every job of a command line and check all that needs no model.

    Args:
        argv: the words after the command's name.
    Raises:
        UsageError: a fault in any of the jobs; the text names the job where there are several.
    """
    arguments = read_arguments(argv)
    with Composer(arguments) as composer:
        base = composer.compose(composer.words)
        sweep = base.hydra.mode == RunMode.MULTIRUN or arguments.multirun
        if not sweep:
            refuse_sweep_words(composer)
            job = checked_job(composer, base, composer.words)
            return Plan(False, Path(base.hydra.run.dir), [job])
        return plan_sweep(composer, base, composer.words)


def checked_job(composer: Composer, config: DictConfig, overrides: list[str]) -> Job:
    """Resolve a job and check all that needs no model.

    Raises:
        UsageError: a fault; it says so where an experiment set for its own model what the chosen one does not have.
    """
    try:
        job = Job(overrides, composer.resolve(config, overrides))
        check_config(job.config)
    except UsageError as error:
        given, lines = {word.partition("=")[0] for word in overrides}, str(error).splitlines()
        key = re.match(r"[\w.]*", lines[0])
        if not {"experiment", "model"} <= given or (key and key[0] in given):
            raise
        chosen = config.hydra.runtime.choices
        lines[2:] = [
            f"experiment={chosen.experiment} sets it for its own model: "
            f"start from task={chosen.task} data={chosen.data} model={chosen.model}"
        ]
        raise UsageError("\n".join(lines)) from error
    return job


def refuse_sweep_words(composer: Composer) -> None:
    """Several values for one key in a single run."""
    for override in composer.parse(composer.words):
        if override.is_sweep_override():
            key, _, value = str(override.input_line).partition("=")
            way = f",\nor write {key}=[{value}] for a list" if not composer.options(override.key_or_group) else ""
            raise UsageError(f"{key}={value} gives several values to one key: add -m to run them all{way}")


def plan_sweep(composer: Composer, base: DictConfig, words: Sequence[str]) -> Plan:
    """Every job of a sweep, composed and checked."""
    task_words = [str(word) for word in base.hydra.overrides.task]
    hydra_words = [str(word) for word in base.hydra.overrides.hydra]
    params = base.hydra.sweeper.get("params") or {}
    swept = [*(f"{key}={value}" for key, value in params.items()), *task_words]
    try:
        parsed = composer.parse(swept)
        complete = base.hydra.sweeper._target_.rpartition(".")[2] == "BasicSweeper"
        # other sweepers choose their values while they run; what they do not choose can be checked
        if not complete:
            parsed = [override for override in composer.parse(task_words) if not override.is_sweep_override()]
        combinations = every_job(parsed)
    except COMPOSITION_ERRORS as error:
        raise UsageError(explain(error, swept, lambda: composer.names(words))) from error
    jobs = []
    for number, overrides in enumerate(combinations):
        try:
            config = composer.compose_job([*hydra_words, *overrides])
            refuse_nested_processes(config)
            jobs.append(checked_job(composer, config, overrides))
        except UsageError as error:
            raise in_job(error, number, combinations) from error
    here = base.hydra.launcher._target_.rpartition(".")[2] in LAUNCHED_HERE
    return Plan(True, Path(base.hydra.sweep.dir), jobs, complete, here)


def every_job(words: Sequence[Override]) -> list[list[str]]:
    """The overrides of each job of a sweep, one for every combination of values, as by Hydra's basic sweeper."""
    values: dict[str, list[str]] = {}
    for word in words:
        if word.is_sweep_override() and not word.is_discrete_sweep():
            raise UsageError(
                "hydra/sweeper=basic runs lists and ranges, e.g. 1,2,3 or range(1,4); intervals need another sweeper"
            )
        texts = word.sweep_string_iterator() if word.is_sweep_override() else [word.get_value_element_as_str()]
        values[word.get_key_element()] = [f"{word.get_key_element()}={text}" for text in texts]
    return [list(job) for job in itertools.product(*values.values())]


def refuse_nested_processes(config: DictConfig) -> None:
    """Hydra's basic launcher and Lightning's DDP together start the sweep once per device."""
    launcher, devices = config.hydra.launcher._target_.rpartition(".")[2], config.trainer.devices
    several = devices not in (1, "1", "auto") and not (isinstance(devices, list) and len(devices) == 1)
    if launcher == "BasicLauncher" and several:
        raise UsageError(
            f"trainer.devices={devices} in a sweep: the basic launcher would start the whole sweep once per device\n"
            "use one process per job, hydra/launcher=joblib or submitit_slurm, or trainer.devices=1"
        )


def in_job(error: UsageError, number: int, jobs: Sequence[Sequence[str]]) -> UsageError:
    """The error with the job that it belongs to, still at most three lines.

    Args:
        error: what is wrong with the job.
        number: which of the jobs it is.
        jobs: the overrides of every job; those that all of them share are left out.
    """
    lines = str(error).splitlines()
    if len(jobs) > 1:
        shared = set(jobs[0]).intersection(*jobs)
        varied = " ".join(word for word in jobs[number] if word not in shared)
        lines[0] = f"job {number} of {len(jobs)} ({varied}): {lines[0]}"
    return UsageError("\n".join(lines[:3]))
