"""Resolvers for YAML files: sizes from other sizes, rates from other rates, names of directories."""

import math
from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

# Longest name of a job's directory that every file system takes, with room for the job's number.
LONGEST_NAME = 120
# Divisors that are tried one by one, so that a mistyped size is answered at once.
MOST_TRIED = 10**6


def short(text: str) -> str:
    """A directory name made of a job's overrides: no slashes, at most LONGEST_NAME characters."""
    cleaned = "".join(character if character.isalnum() or character in "=.,-_@+" else "-" for character in str(text))
    return cleaned[:LONGEST_NAME].rstrip("-.,")


def divisors(number: int) -> list[int]:
    """The divisors of a size, in order; of sizes beyond the square of MOST_TRIED some may be left out."""
    small = [divisor for divisor in range(1, min(math.isqrt(max(number, 0)), MOST_TRIED) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)})


def divide(number: int, divisor: int) -> int:
    """A size as a share of another one, e.g. `${divide:${model.d_model},${.num_heads}}`."""
    if divisor < 1 or number % divisor:
        raise ValueError(f"{divisor} does not divide {number}: change the number of heads, or set this size itself")
    return number // divisor


def multiply(number: Any, factor: float) -> Any:
    """A multiple of a size or a rate, e.g. `${multiply:${model.d_model},2}`; what is no number stays as it is."""
    return number * factor if isinstance(number, (int, float)) else number


def smaller(limit: float, number: Any) -> Any:
    """A rate within a limit, e.g. `${min:1e-3,${optim.lr}}`; what is no number is left to the checks of its own key."""
    return min(limit, number) if isinstance(number, (int, float)) else number


def heads_of(width: int, total: int) -> int:
    """Heads that share a width, each at least so wide, or one: e.g. `${heads_of:64,${model.d_model}}`."""
    return max((heads for heads in divisors(total) if heads * width <= total), default=1)


def register_resolvers() -> None:
    """Make them known to OmegaConf."""
    known: dict[str, Callable[..., Any]] = {
        "short": short,
        "divide": divide,
        "multiply": multiply,
        "min": smaller,
        "heads_of": heads_of,
    }
    for name, function in known.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
