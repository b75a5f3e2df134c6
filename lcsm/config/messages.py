"""Hydra's and OmegaConf's errors, said in one to three lines with the key and the nearest valid names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue, OmegaConfBaseException

from lcsm.config.check import MOVED, NAMED, former_name, moved
from lcsm.config.suggest import did_you_mean, listed
from lcsm.errors import first_line

# What composing a configuration can raise because of what a user wrote.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, RecursionError)

# Hydra's launchers that come with an extra of lcsm.
EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm"}

# Options that are gone, and the one of their group that has the same values.
RENAMED = {
    "expand/lru": "modes",
    "expand/projection": "data_driven",
    "expand/tnl": "silu",
    "input/hgrn": "silu_biased",
    "input/tnn": "silu_biased",
    "oscillation/lightnet": "softmax",
    "oscillation/lrpe": "rotation_learned",
    "shrink/hgrn2": "silu",
    "shrink/lru": "modes",
    "shrink/tnl": "silu",
}


@dataclass(frozen=True)
class Names:
    """The names that the command line can give.

    Attributes:
        groups: group -> its options.
        config: a composed configuration with the user's choices of options but not the faulty values.
    """

    groups: Mapping[str, Sequence[str]]
    config: dict[str, Any]


def explain(error: Exception, overrides: Sequence[str], names: Callable[[], Names]) -> str:
    """The message for an error of composition.

    Args:
        error: one of COMPOSITION_ERRORS.
        overrides: the command line's `key=value` words.
        names: finds the valid names; called only where they help.
    """
    if isinstance(error, RecursionError):
        return "a file of the configuration is in its own defaults, or nested too deep: take out what leads back to it"
    if isinstance(error, MissingConfigException):
        return missing_option(error, names())
    if isinstance(error, OverrideParseException):
        return not_readable(error.override)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, MissingMandatoryValue):
        key = cause.full_key or first_line(cause).rpartition(" ")[2]
        return f"{key} has no value; give it one: {key}=..."
    if isinstance(cause, InterpolationResolutionError):
        return f"{cause.full_key}: {first_line(cause)}"
    if isinstance(cause, yaml.YAMLError):
        return yaml_fault(cause)
    text = str(error)
    unknown = re.match(r"(?:In '(?P<file>[^']*)': )?Could not (?:override|delete)[^']*'~?(?P<key>[^']*)'", text)
    if unknown:
        where = f"in conf/{unknown['file']}.yaml: " if unknown["file"] else ""
        return where + unknown_key(unknown["key"], overrides, names())
    if isinstance(cause, OmegaConfBaseException) and "Cannot merge DictConfig with" in first_line(cause):
        key = str(cause.full_key)
        if value_of(key, overrides).startswith("{"):
            return f"{key} holds a list: write {key}=[...]"
        return f"{key} holds settings by name: set one of them, e.g. {key}.NAME=..."
    lines = [line.strip() for line in [*text.splitlines(), *(str(cause).splitlines() if cause is not error else [])]]
    lines = [line for line in lines if line and not line.startswith(("See https", "object_type", "reference_type"))]
    return "\n".join(lines[:3])


def missing_option(error: MissingConfigException, names: Names) -> str:
    """`oscillation=foo` where there is no such option."""
    missing = error.missing_cfg_file or ""
    # groups of Hydra lie in folders; in ours a folder is part of the option's name, as experiment=lra/listops/s5
    group, _, option = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    if not option:
        group, option = "", missing
    options = nested_options(group, names.groups) or [name for name in error.options or () if name]
    where = re.match(r"In '([^']*)'", str(error))
    if not group:
        return f"--config-name={option}: no such file in the configuration directories"
    place = f" (named in {where[1]}.yaml)" if where and where[1] != "train" else ""
    if option in EXTRAS:
        return f"{group}={option} is not installed: pip install -c constraints.txt -e '.[{EXTRAS[option]}]'"
    if missing in RENAMED:
        return f"{group}={option} is not an option{place}: it is {group}={RENAMED[missing]} now, with the same values"
    if group == "mixer" and option in names.groups.get("model", ()):
        return (
            f"mixer={option} is not an option{place}: its values stand in model={option} now\n"
            f"choose that, or set mixer.KEY one by one\noptions of mixer: {listed(options)}"
        )
    hint = did_you_mean(option, options)
    return f"{group}={option} is not an option{place}{hint}\noptions of {group}: {listed(options)}"


def nested_options(group: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The options of a group, those in folders too."""
    inner = [f"{name}/{option}" for name in groups if name.startswith(f"{group}/") for option in groups[name]]
    return [*groups.get(group, []), *(name.removeprefix(f"{group}/") for name in inner)]


def not_readable(override: str) -> str:
    """A word of the command line that does not follow the grammar of overrides."""
    if "=" not in override:
        return f"{override!r} cannot be read: write key=value, e.g. oscillation=diag or trainer.max_steps=100"
    key, _, value = override.partition("=")
    return f"{key}={value} cannot be read: quote special characters, e.g. '{key}=\"{value}\"'"


def yaml_fault(error: yaml.YAMLError) -> str:
    """A file that is not YAML."""
    mark = getattr(error, "problem_mark", None)
    place = f"{mark.name}, line {mark.line + 1}: " if mark is not None else ""
    return f"{place}{getattr(error, 'problem', None) or first_line(error)}"


def unknown_key(key: str, overrides: Sequence[str], names: Names) -> str:
    """A key or group that does not exist, or that cannot be reached with the words given."""
    value = value_of(key, overrides)
    if key in (f"{group}.name" for group in NAMED):
        return former_name(key.partition(".")[0], value)
    written = f"{key}={value}" if value else key
    group = key.partition("@")[0]
    if value.startswith("{"):
        return f"{written}: {key} has no such settings; give each a word of its own, {key}.NAME=..."
    if "@" in key or key in names.groups:
        return (
            f"{written}: nothing in the configuration uses {group} there\n"
            f"write +{written} to add it, e.g. +{group}@mixers.second.{group}={(names.groups.get(group) or ['...'])[0]}"
        )
    parent, _, leaf = key.rpartition(".")
    node = {name: value for name, value in reach(names.config, parent).items() if name != "_target_"}
    if parent.rpartition(".")[2] == "mixer" and MOVED.get(leaf, "").partition(".")[0] in node:
        return moved(written, parent, leaf)
    if parent and node:
        return f"{written}: {parent} has no setting {leaf!r}{did_you_mean(leaf, node)}\nits settings: {listed(node)}"
    if parent and parent in names.config:
        return f"{written}: the chosen option of {parent} has no settings; choose another one of {parent}/"
    keys = [*names.groups, *flat(names.config)] if parent else [*names.groups, *names.config]
    return f"{written}: no key {key!r} in the configuration{did_you_mean(key, keys)}\nlcsm --help lists the groups"


def value_of(key: str, overrides: Sequence[str]) -> str:
    """The value of a key as the command line writes it; "" for nothing."""
    return next((word.partition("=")[2] for word in overrides if word.lstrip("+~").partition("=")[0] == key), "")


def reach(config: dict[str, Any], path: str) -> dict[str, Any]:
    """The mapping at a dotted path, {} if there is none."""
    node: Any = config
    for part in path.split(".") if path else []:
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def flat(config: dict[str, Any], prefix: str = "") -> list[str]:
    """All dotted keys."""
    found = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found.extend(flat(value, f"{prefix}{key}."))
    return found


def group_without_option(override: str, options: Sequence[str]) -> str:
    """`callbacks=null`, `callbacks=3` or `callbacks=`."""
    key = override.lstrip("+").partition("=")[0]
    way = f"write {key}=none" if "none" in options else "name one of them"
    return f"{override} does not name an option of {key}: {way}\noptions of {key}: {listed(options)}"


def merged_options(group: str, options: Sequence[object]) -> str:
    """`oscillation=[ones,diag]`, of which Hydra would make one node."""
    names = ",".join(map(str, options))
    return (
        f"{group}=[{names}] names several options, whose settings would be mixed: name one,\n"
        f"or run each of them: -m {group}={names}"
    )


def not_a_directory(path: str) -> str:
    """A --config-dir that is not there."""
    return f"--config-dir={path}: no such directory (from {Path.cwd()})"
