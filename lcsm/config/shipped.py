"""Settings that no class of lcsm declares, as the shipped YAML files of their group give them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from omegaconf import OmegaConf

from lcsm.config.locate import conf_directory
from lcsm.config.schemas import SWITCH_TYPES
from lcsm.config.signatures import Signature


@lru_cache
def reference(group: str) -> dict[str, Signature]:
    """Settings and types of each class outside lcsm that the files of a group name; nothing else is accepted."""
    nodes = [load(group, path.stem) for path in sorted((conf_directory() / group).glob("*.yaml"))]
    known = {node.pop("_target_"): node for node in nodes if not node.get("_target_", "lcsm.").startswith("lcsm.")}
    return {target: Signature({key: kind(value) for key, value in node.items()}) for target, node in known.items()}


@lru_cache
def switches(group: str) -> dict[str, Any]:
    """The settings of a group of switches: name -> annotation, or the settings of a switch that has some of its own."""
    merged: dict[str, Any] = {}
    for path in sorted((conf_directory() / group).glob("*.yaml")):
        for name, value in load(group, path.stem).items():
            if isinstance(value, dict):
                merged[name] = {
                    key: SWITCH_TYPES.get(f"{group}.{name}.{key}", kind(item)) for key, item in value.items()
                }
            elif name not in merged:
                merged[name] = SWITCH_TYPES.get(f"{group}.{name}", kind(value) | None)
    return merged


def load(group: str, option: str) -> dict[str, Any]:
    """The settings of an option together with those of the options of its group that it inherits."""
    path = conf_directory() / group / f"{option}.yaml"
    node = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(node, dict)
    inherited: dict[str, Any] = {}
    for entry in node.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            inherited |= load(group, entry)
    return inherited | {str(key): value for key, value in node.items()}


def kind(value: Any) -> Any:
    """The type that a shipped value stands for; Any where it does not tell."""
    if value is None or (isinstance(value, str) and "${" in value):
        return Any
    return type(value)
