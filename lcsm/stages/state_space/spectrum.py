"""Parametrisations of continuous-time rates: maps from trained numbers to real and imaginary parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from lcsm.errors import UsageError
from lcsm.shapes import Tensor
from lcsm.stages.settings import choose

# Real parts that are clipped stay below this: a memory of 10^4 units of time.
SLOWEST = -1e-4
# The inverse of a map that reaches only part of the numbers is taken this far inside of it.
MARGIN = 1e-3


class PartMap(NamedTuple):
    """A map from a trained number to a part of a rate, and the number that starts it at a wanted value."""

    value: Callable[[Tensor], Tensor]
    start: Callable[[Tensor], Tensor]


def same(value: Tensor) -> Tensor:
    """The number itself."""
    return value


def inverse_softplus(value: Tensor) -> Tensor:
    """The number whose softplus is `value` > 0."""
    return value + torch.log(-torch.expm1(-value))


# Every map but `free` keeps real parts negative. `sigmoid` and `gaussian` reach -1 at most: faster modes start there.
REAL = {
    "exp": PartMap(lambda p: -p.exp(), lambda re: (-re).log()),
    "softplus": PartMap(lambda p: -F.softplus(p), lambda re: inverse_softplus(-re)),
    "sigmoid": PartMap(lambda p: -p.sigmoid(), lambda re: (-re).clamp_max(1 - MARGIN).logit()),
    "gaussian": PartMap(lambda p: -(-p.square()).exp(), lambda re: (-(-re).clamp_max(1 - MARGIN).log()).sqrt()),
    "clip": PartMap(lambda p: p.clamp_max(SLOWEST), same),
    "free": PartMap(same, same),
}

# Maps of imaginary parts, applied to the imaginary parts of the initial spectrum as they are.
IMAGINARY: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": same,
    "negative": lambda q: q.clamp_max(SLOWEST),
    "exp": torch.exp,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "gaussian": lambda q: q.square().exp(),
    "clip": lambda q: q.clamp(-1, 1),
    "zero": torch.zeros_like,
}


def real_map(name: str) -> PartMap:
    """The map of real parts that the YAML names."""
    return choose("oscillation.real", name, REAL)


def stable_map(name: str) -> PartMap:
    """The map of real parts that the YAML names, for systems that must not grow."""
    if name == "free":
        raise UsageError(
            "oscillation.real=free lets modes grow, which only oscillation=dss_softmax can serve: "
            f"choose one of {', '.join(known for known in REAL if known != 'free')}"
        )
    return real_map(name)


def imaginary_map(name: str) -> Callable[[Tensor], Tensor]:
    """The map of imaginary parts that the YAML names."""
    return choose("oscillation.imaginary", name, IMAGINARY)
