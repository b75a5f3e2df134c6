"""The checks of a model that need torch: every class is a component of its group, and the stages go together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from lcsm.components import find_local_modules, resolve
from lcsm.config import schemas
from lcsm.config.check import PROVIDED, check_fields, declared, nested
from lcsm.config.locate import conf_directory
from lcsm.config.signatures import of_object
from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.models.build import BASES, check_model, count_parameters, rehearse


def check_learning(config: dict[str, Any]) -> None:
    """Whether the model can be built, and whether it is one for the task: who predicts a token must not see it.

    Raises:
        UsageError: as in `check_combination`, or later tokens are seen where the next one is to be predicted.
    """
    settings = {"main": "mixer"} | {name: f"mixers.{name}.mixer" for name in config["mixers"]}
    mixers = check_combination(config).items()
    ways = [f"{settings[name]}.{mixer.causal_setting}" for name, mixer in mixers if mixer.causal_setting]
    # its averages hold later tokens while training
    ways += ["block.norm=layer"] if config["block"]["norm"] == "batch" else []
    if not ways:
        return

    from lcsm.tasks.base import Task

    task: type[Any] = resolve("task", config["task"], Task, config["allow_targets"])
    if task.predicts_next:
        raise UsageError(
            f"{task.__name__} predicts the next token, which this model sees: set {' and '.join(ways)},\n"
            "or learn labels: task=classification"
        )


def check_combination(config: dict[str, Any]) -> dict[str, Mixer]:
    """The components of a configuration that `lcsm.config.check.check_config` has passed, and whether they go together.

    Returns:
        The mixers by their names in `model.pattern`, without memory.
    Raises:
        UsageError: a class is not a component of its group, or stages cannot be combined.
    """
    check_classes(config)
    try:
        return check_model(config)
    except UsageError as error:
        hint = partners(config)
        if not hint or "oscillation" not in str(error) or len(str(error).splitlines()) > 2:
            raise
        raise UsageError(f"{error}\n{hint}") from error


def check_memory(config: dict[str, Any]) -> None:
    """Whether the weights fit into this machine, where they are made: 4 bytes for each, gradients and Adam left out.

    Raises:
        UsageError: they do not.
    """
    sizes = config["model"]
    numbers = count_parameters(config) + (config["data"].get("vocab_size") or 0) * sizes["d_model"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > memory:
        raise UsageError(
            f"a model of {numbers:.3g} parameters takes {4 * numbers / 2**30:,.0f} GiB, and this machine has "
            f"{memory / 2**30:,.0f}\nuse smaller sizes: model.d_model={sizes['d_model']}, model.num_layers="
            f"{sizes['num_layers']}, mixer.state_dim={config['mixer'].get('state_dim')}, data.vocab_size"
        )


def check_forward(config: dict[str, Any]) -> None:
    """Whether the layers run, forwards and back, before any data are read.

    Raises:
        UsageError: a stage refuses what another one gives; the text says which were combined.
    """
    try:
        rehearse(config)
    except UsageError as error:
        choices = config["choices"]
        chosen = " ".join(f"{group}={choices[group]}" for group in schemas.MIXER_GROUPS if group in choices)
        raise UsageError("\n".join([*str(error).splitlines()[:2], f"chosen: {chosen}"])) from error


def partners(config: dict[str, Any]) -> str:
    """Models that bring the stages that go with the chosen oscillation; "" where the chosen model is one, or none."""
    choices = config.get("choices") or {}
    option = choices.get("oscillation")
    chosen = re.compile(rf"override /oscillation: {re.escape(str(option))}$", re.MULTILINE)
    files = sorted((conf_directory() / "model").glob("*.yaml"))
    models = [path.stem for path in files if chosen.search(path.read_text(encoding="utf-8"))]
    if not models or choices.get("model") in models:
        return ""
    return f"model={' or model='.join(models[:3])} chooses all stages that go with oscillation={option}"


def stage_nodes(config: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Path, group and node of every component of the model."""
    for group in (*schemas.MIXER_GROUPS, "channel", "release"):
        yield group, group, config.get(group)
    for name, groups in config["mixers"].items():
        for group, node in groups.items():
            yield f"mixers.{name}.{group}", group, node


def check_classes(config: dict[str, Any]) -> None:
    """Every class of the model belongs to its group; the user's own ones are checked against their signature as well.

    Imports nothing outside lcsm but the modules of allow_targets.

    Raises:
        UsageError: a class cannot be found, is not of its group's kind, or does not take a setting.
    """
    allowed = config["allow_targets"]
    if allowed:
        find_local_modules()
    for path, group, node in stage_nodes(config):
        if node:
            check_class(path, group, node, BASES[group], allowed)


def check_class(path: str, group: str, node: dict[str, Any], base: type, allowed: Sequence[str]) -> None:
    """The class of a node belongs to its group, and the user's own ones in it take their settings."""
    component = resolve(path, node, base, allowed)
    for inner_path, inner in nested(path, node):
        if inner.get("_target_") in allowed:
            owner = component if inner is node else resolve(inner_path, inner, object, allowed)
            settings = {key: value for key, value in inner.items() if key != "_target_"}
            known, provided = declared(group, of_object(owner)), PROVIDED.get(group, frozenset())
            check_fields(f"{inner_path}.", settings, known, owner.__name__, provided)
