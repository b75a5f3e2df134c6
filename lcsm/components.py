"""The class that a configuration node names; nothing that is not listed or ours is ever imported or called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from lcsm.errors import UsageError


def resolve(group: str, node: dict[str, Any], base: type, allowed: Sequence[str]) -> type:
    """The class behind `node["_target_"]`.

    Args:
        group: name of the configuration group, for messages.
        node: the group's settings with `_target_`, "package.module.Class".
        base: class that the target must subclass.
        allowed: targets outside lcsm that may be imported: the user has listed them in allow_targets, or a shipped
            option names them.
    Raises:
        UsageError: the target is not ours and not listed, cannot be found, or is not a component of this group.
    """
    target = node.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise UsageError(f"{group}._target_={target!r} must name a class, e.g. {base.__module__}.{base.__name__}")
    module_name, _, class_name = target.rpartition(".")
    if not (module_name.startswith("lcsm.") or target in allowed):
        raise UsageError(
            f"{group}._target_={target} is not part of lcsm and would run code of its own:\n"
            f"add allow_targets=[{target}] if you trust it"
        )
    try:
        component = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{group}._target_={target}: module {error.name} not found; is its folder on PYTHONPATH?"
        ) from error
    except AttributeError as error:
        raise UsageError(f"{group}._target_={target}: module {module_name} has no class {class_name}") from error
    if not (isinstance(component, type) and issubclass(component, base)):
        raise UsageError(f"{group}._target_={target} must be a subclass of {base.__module__}.{base.__name__}")
    return component


def find_local_modules() -> None:
    """Let the user's own modules be found in the working directory, as `python train.py` finds them beside itself."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
