"""One readable table from a problem to the algorithms that fit it, best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lcsm.errors import UsageError
from lcsm.ops.chunk import chunk
from lcsm.ops.convolution import convolution
from lcsm.ops.cost import COSTS, Cost, Sizes
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
# They keep memories real, or filter with a real kernel.
REAL_INPUTS = ("rotate", "convolution")
KERNEL = "one kernel serves all steps, and Fourier transforms convolve it with the whole sequence"


@dataclass(frozen=True)
class Choice:
    """The algorithm that runs.

    Args:
        name, function: the algorithm.
        fits: every algorithm that serves the problem, best first.
        why: the reason, for people.
    """

    name: str
    function: Callable[..., Any]
    fits: tuple[str, ...]
    why: str


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
    | the same with constant decay                      | lockstep, elementwise, convolution, scan    |
    | a phase that all value columns share              | rotate, elementwise, scan                   |
    | the rest: decay none, scalar, rows, columns, both | chunk, elementwise, scan                    |
    | complex inputs                                    | as above without rotate and convolution     |
    """
    return preference(problem)[0]


def preference(problem: Problem) -> tuple[tuple[str, ...], str]:
    """What `fitting` returns, and why the first of them is preferred."""
    fits, why = _by_structure(problem)
    if problem.complex_inputs and fits[0] in REAL_INPUTS:
        why = f"the inputs are complex, which {fits[0]} cannot take"
    return tuple(name for name in fits if not (problem.complex_inputs and name in REAL_INPUTS)), why


def _by_structure(problem: Problem) -> tuple[tuple[str, ...], str]:
    """`preference` for real inputs."""
    if problem.kind == "shift":
        if problem.constant:
            return ("convolution", "reference"), KERNEL
        return ("reference",), "weights of a window that follow the tokens are summed step by step"
    if problem.growing:
        return ("convolution",), "modes may grow, so that only their kernel can be formed, never a memory"
    if problem.kind == "low_rank" or problem.substeps > 1:
        return _low_rank(problem)
    if problem.kind == "dense":
        if problem.constant_oscillation:
            why = "chunks meet through powers of one matrix, in few large products"
            return ("powers", "loop", "diagonalise", "reference"), why
        return ("loop", "reference"), "matrices that follow the tokens have no product that tokens could share"
    columns = problem.value_dim + problem.denominator
    if problem.per_channel or problem.state_dim == 1 or columns == 1:
        if problem.constant and problem.reads == "vector":
            return ("convolution", "elementwise", "scan", "reference"), KERNEL
        if varies(problem.rate, "L") or varies(problem.phase, "L") or problem.per_channel:
            why = "every memory entry goes its own way: no matrix product holds that, one fused pass over time does"
            return ("elementwise", "scan", "reference"), why
        why = "the decay is constant, so that all chunks step together through one table of its powers"
        return ("lockstep", "elementwise", "convolution", "scan", "reference"), why
    if problem.phase is not None:
        if varies(problem.phase, "P"):
            return ("elementwise", "scan", "reference"), "columns turn differently, so that every entry steps by itself"
        why = "all columns turn alike: expand and shrink turn instead, and a real memory runs in chunks"
        return ("rotate", "elementwise", "scan", "reference"), why
    why = "decays lie along rows or columns only, so that a chunk of tokens is a few matrix products"
    return ("chunk", "elementwise", "scan", "reference"), why


def _low_rank(problem: Problem) -> tuple[tuple[str, ...], str]:
    """The part of `_by_structure` for memories that erase while they write, or are written several times per token."""
    slow = "no faster algorithm serves "
    if problem.kind != "low_rank":
        return ("reference",), f"{slow}several writes per token without erasing"
    if problem.reads != "vector":
        return ("reference",), f"{slow}a low-rank oscillation whose whole memory is read"
    # what is written and what is erased share a strength: where it is data-driven, so is the oscillation
    if problem.constant and not varies(problem.gain, "L") and problem.substeps == 1:
        return ("convolution", "reference"), KERNEL
    if problem.phase is None:
        return ("delta", "reference"), "what a chunk erases is one triangular system, solved by matrix products"
    return ("reference",), f"{slow}a complex low-rank oscillation that follows the tokens"


def choose_algorithm(problem: Problem, request: str = "auto") -> Choice:
    """The algorithm for a problem; asked once, when the mixer is built.

    Args:
        problem: the static description.
        request: a name, or "auto" for the first that fits.
    Raises:
        UsageError: the requested algorithm is unknown or does not serve this problem; nothing falls back silently.
    """
    fits, why = preference(problem)
    name = fits[0] if request == "auto" else request
    if name not in fits:
        known = "does not serve these stages" if name in ALGORITHMS else "is not an algorithm"
        raise UsageError(f"mixer.algorithm={request!r} {known}: choose auto or one of {', '.join(fits)}")
    return Choice(name, ALGORITHMS[name], fits, why if request == "auto" else f"mixer.algorithm={request} asks for it")


def costs(problem: Problem, length: int, projections: int) -> dict[str, Cost]:
    """What every algorithm that serves a problem costs, best first.

    Args:
        problem: the static description.
        length: tokens of a sequence.
        projections: operations per token between channels and modes, where the shrink reads the whole memory.
    """
    return {name: COSTS[name](Sizes(problem, length, projections)) for name in fitting(problem)}
