"""One readable table from a problem to the algorithms that fit it, best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lcsm.errors import UsageError
from lcsm.ops.chunk import chunk
from lcsm.ops.convolution import convolution
from lcsm.ops.delta import delta
from lcsm.ops.dense import diagonalise, loop, powers
from lcsm.ops.elementwise import elementwise
from lcsm.ops.lockstep import lockstep
from lcsm.ops.problem import Problem, varies
from lcsm.ops.reference import reference
from lcsm.ops.rotate import rotate
from lcsm.ops.scan import scan

ALGORITHMS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(reference, elementwise, lockstep, scan, chunk, delta, rotate),
        *(convolution, powers, diagonalise, loop),
    )
}


@dataclass(frozen=True)
class Choice:
    """The algorithm that runs.

    Args:
        name, function: the algorithm.
        fits: every algorithm that serves the problem, best first.
    """

    name: str
    function: Callable[..., Any]
    fits: tuple[str, ...]


def fitting(problem: Problem) -> tuple[str, ...]:
    """The algorithms that serve a problem, in order of preference; `reference` serves all and is the last resort.

    | problem                                           | algorithms                                  |
    |---------------------------------------------------|---------------------------------------------|
    | shift, constant                                   | convolution                                 |
    | dense, constant oscillation                       | powers, loop, diagonalise                   |
    | dense, data-driven                                | loop                                        |
    | modes that may grow                               | convolution                                 |
    | low rank, all constant                            | convolution                                 |
    | low rank, data-driven, also several writes per token | delta                                    |
    | low rank of conjugate pairs, otherwise            | reference                                   |
    | several writes per token, diagonal                | reference                                   |
    | every entry on its own, all constant              | convolution, elementwise, scan              |
    | every entry on its own (P = 1, N = 1 or full N x P), decay data-driven or N x P | elementwise, scan |
    | the same with constant decay                      | lockstep, elementwise, scan                 |
    | a phase that all value columns share              | rotate, elementwise, scan                   |
    | the rest: decay none, scalar, rows, columns, both | chunk, elementwise, scan                    |
    """
    if problem.kind == "shift":
        return ("convolution", "reference") if problem.constant else ("reference",)
    if problem.growing:
        return ("convolution",)
    if problem.kind == "low_rank" or problem.substeps > 1:
        if problem.kind != "low_rank" or problem.reads != "vector":
            return ("reference",)
        # what is written and what is erased share a strength: where it is data-driven, so is the oscillation
        if problem.constant and not varies(problem.gain, "L") and problem.substeps == 1:
            return ("convolution", "reference")
        return ("delta", "reference") if problem.phase is None else ("reference",)
    if problem.kind == "dense":
        return ("powers", "loop", "diagonalise", "reference") if problem.constant_oscillation else ("loop", "reference")
    columns = problem.value_dim + problem.denominator
    if problem.per_channel or problem.state_dim == 1 or columns == 1:
        if problem.constant and problem.reads == "vector":
            return ("convolution", "elementwise", "scan", "reference")
        if varies(problem.rate, "L") or varies(problem.phase, "L") or problem.per_channel:
            return ("elementwise", "scan", "reference")
        return ("lockstep", "elementwise", "scan", "reference")
    if problem.phase is not None:
        fits = () if varies(problem.phase, "P") else ("rotate",)
        return (*fits, "elementwise", "scan", "reference")
    return ("chunk", "elementwise", "scan", "reference")


def choose(problem: Problem, request: str = "auto") -> Choice:
    """The algorithm for a problem; asked once, when the mixer is built.

    Args:
        problem: the static description.
        request: a name, or "auto" for the first that fits.
    Raises:
        UsageError: the requested algorithm is unknown or does not serve this problem; nothing falls back silently.
    """
    fits = fitting(problem)
    name = fits[0] if request == "auto" else request
    if name not in fits:
        known = "does not serve these stages" if name in ALGORITHMS else "is not an algorithm"
        raise UsageError(f"mixer.algorithm={request!r} {known}: choose auto or one of {', '.join(fits)}")
    return Choice(name, ALGORITHMS[name], fits)
