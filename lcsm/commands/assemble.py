"""Data, model and task from a configuration; imports torch and Lightning, so commands import it when they need it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from lightning import LightningDataModule, seed_everything
from torch import nn
from torch.optim import Optimizer

from lcsm.batch import MEANING, Targets
from lcsm.commands.check_model import check_class
from lcsm.components import find_local_modules, resolve
from lcsm.config.locate import conf_directory, options
from lcsm.config.shipped import load
from lcsm.data.base import BatchDataModule
from lcsm.data.tokenizer import ByteTokenizer
from lcsm.errors import UsageError
from lcsm.models.build import build_for
from lcsm.tasks.base import Task
from lcsm.training.parameter_groups import SHIPPED, build_optimiser, check_rates, refuse_idle_patterns
from lcsm.training.run import check_trainer
from lcsm.training.schedules import Schedule

BASES = {"data": LightningDataModule, "task": Task, "optim": Optimizer, "schedule": Schedule}


def prepare(config: dict[str, Any]) -> None:
    """Threads and seeds of the process, before anything is built."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    if config["allow_targets"]:
        find_local_modules()
    seed_everything(config["seed"], workers=True, verbose=False)


def build(group: str, config: dict[str, Any], base: type, **provided: Any) -> Any:
    """The component of a group that is no part of the model."""
    node = config[group]
    component = resolve(group, node, base, config["allow_targets"])
    return component(**provided, **{key: value for key, value in node.items() if key != "_target_"})


def data_class(config: dict[str, Any]) -> type[Any]:
    """The class of the data.

    Raises:
        UsageError: the task is not one for these data.
    """
    kind: type[Any] = resolve("data", config["data"], LightningDataModule, config["allow_targets"])
    task: type[Any] = resolve("task", config["task"], Task, config["allow_targets"])
    found: Targets = getattr(kind, "targets", "positions")
    if task.targets != found:
        fitting = f"task={kind.task}" if issubclass(kind, BatchDataModule) else "another task"
        raise UsageError(
            f"{task.__name__} learns from {MEANING[task.targets]}, but {kind.__name__} has {MEANING[found]}:\n"
            f"use {fitting} for these data, or other data"
        )
    return kind


def build_datamodule(config: dict[str, Any]) -> Any:
    """The data module before its data are read.

    Raises:
        UsageError: the task is not one for these data, or a setting does not fit.
    """
    data_class(config)
    datamodule = build("data", config, LightningDataModule)
    nodes = [config["oscillation"], *(node.get("oscillation") for node in config["mixers"].values())]
    if any(node and node.get("irregular") for node in nodes) and not getattr(datamodule, "irregular", False):
        raise UsageError(
            f"oscillation.irregular=true needs the length of each step, which {type(datamodule).__name__} does not "
            "give:\nset it to false, or use data of your own with `irregular = True` and `dt`, [B L], in every batch"
        )
    return datamodule


def check_training(config: dict[str, Any]) -> None:
    """Whether data, task, optimiser, schedule and trainer take their settings; nothing is read or computed.

    Raises:
        UsageError: one of them does not, or the machine has not as many devices.
    """
    for group, base in BASES.items():
        check_class(group, group, config[group], base, (*config["allow_targets"], *SHIPPED))
    build_datamodule(config)
    build_optimiser(config | {"optim": config["optim"] | {"groups": None}})(nn.Linear(1, 1))
    check_rates(config["optim"])
    check_trainer(config["trainer"])


def check_groups(config: dict[str, Any]) -> None:
    """Whether every pattern of a parameter group that the model does not bring itself fits some parameter.

    Raises:
        UsageError: one fits none.
    """
    if not any((own or {}).get("match") for own in (config["optim"].get("groups") or {}).values()):
        return
    vocab_size, _, kind = sizes(config)
    with torch.device("meta"):
        refuse_idle_patterns(build_for(config, vocab_size, kind), config["optim"], shipped_patterns(config))


def shipped_patterns(config: dict[str, Any]) -> set[str]:
    """The patterns of parameter groups in the file of the chosen model."""
    name = (config.get("choices") or {}).get("model")
    brought = load("model", name) if name in options(conf_directory())["model"] else {}
    groups = brought.get("optim", {}).get("groups", {}).values()
    return {pattern for group in groups for pattern in group.get("match", ())}


def sizes(config: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Vocabulary, length and kind of labels that the data have, as far as that is known before they are read."""
    data, kind = config["data"], data_class(config)
    if issubclass(kind, BatchDataModule):
        return kind.preview({key: value for key, value in data.items() if key != "_target_"})
    return data.get("vocab_size") or ByteTokenizer.vocab_size, data.get("length") or 1024, {}


def build_data(config: dict[str, Any]) -> Any:
    """The data module, with its data ready so that the vocabulary is known."""
    datamodule = build_datamodule(config)
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule


def build_task(config: dict[str, Any], datamodule: Any) -> Task:
    """The model in its task."""
    model = build_for(config, datamodule.vocab_size, datamodule.describe())
    return build("task", config, Task, model=model, optimise=build_optimiser(config))
