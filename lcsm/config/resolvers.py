"""What YAML files may compute: sizes from other sizes, rates from other rates, names of directories."""

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

# Longest name of a job's directory that every file system takes, with room for the job's number.
LONGEST_NAME = 120


def short(text: str) -> str:
    """A directory name made of a job's overrides: no slashes, at most LONGEST_NAME characters."""
    cleaned = "".join(character if character.isalnum() or character in "=.,-_@+" else "-" for character in str(text))
    return cleaned[:LONGEST_NAME].rstrip("-.,")


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
    return next(heads for heads in range(max(1, total // width), 0, -1) if total % heads == 0)


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
