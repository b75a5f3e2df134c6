"""Signatures of the classes that a configuration names, as `inspect` gives them."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

from lcsm.config.locate import PACKAGE

# What the text of an annotation can raise, such as a name that only a type checker imports.
UNREADABLE = (NameError, AttributeError, TypeError, SyntaxError)
# Where the constructor of torch.nn.Module stands, which seems to take anything and takes nothing.
TORCH_MODULE = "torch.nn.modules.module"


@dataclass(frozen=True)
class Signature:
    """The arguments of a constructor.

    Attributes:
        fields: name -> annotation.
        required: names without a default.
        open: there are **keywords, so unknown names cannot be refused here.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    open: bool = False


@lru_cache
def of_target(target: str) -> Signature | None:
    """The signature of a class of lcsm, "lcsm.module.Class", by importing its module; None if there is none."""
    module, _, name = target.rpartition(".")
    found = getattr(imported(module), name, None)
    is_ours = isinstance(found, type) and found.__module__.partition(".")[0] == PACKAGE.name
    return of_object(found) if is_ours else None


def of_object(component: Any) -> Signature:
    """The signature of a class or function; an annotation that cannot be evaluated allows everything."""
    if getattr(getattr(component, "__init__", None), "__module__", None) == TORCH_MODULE:
        return Signature()
    try:
        parameters = inspect.signature(component, eval_str=True).parameters
    except UNREADABLE:
        parameters = inspect.signature(component).parameters
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return Signature(
        {name: rule(parameter) for name, parameter in named.items()},
        frozenset(name for name, parameter in named.items() if parameter.default is parameter.empty),
        any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()),
    )


def rule(parameter: inspect.Parameter) -> Any:
    """The annotation of a parameter; Any where there is none, or only its text."""
    known = parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str)
    return parameter.annotation if known else Any


def names(module: str) -> list[str]:
    """The public classes that a module of lcsm defines, for messages."""
    found = imported(module)
    members = [] if found is None else [member for member in vars(found).values() if isinstance(member, type)]
    return [member.__name__ for member in members if member.__module__ == module and member.__name__[0] != "_"]


def imported(module: str) -> ModuleType | None:
    """A module of lcsm; None for a module that is not there or not ours."""
    first, *rest = module.split(".")
    if first != PACKAGE.name or not all(part.isidentifier() for part in rest):
        return None
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        return None
