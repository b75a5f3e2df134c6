"""The algorithms in one list, best first, and the choice among them for a problem on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lcsm.errors import UsageError
from lcsm.ops import cost
from lcsm.ops.chunk.chunk import chunk
from lcsm.ops.convolution.convolution import convolution
from lcsm.ops.cost import Cost, Sizes
from lcsm.ops.delta.delta import delta
from lcsm.ops.dense.diagonalise import diagonalise
from lcsm.ops.dense.loop import loop
from lcsm.ops.dense.powers import powers
from lcsm.ops.problem import Problem, varies
from lcsm.ops.reference import reference
from lcsm.ops.rotate import rotate
from lcsm.ops.steps.elementwise import elementwise
from lcsm.ops.steps.lockstep import lockstep
from lcsm.ops.steps.scan import scan


@dataclass(frozen=True)
class Algorithm:
    """A way to run a memory over many tokens.

    Args:
        name: what `mixer.algorithm` calls it.
        function: arguments and results as `ops.reference.reference`.
        serves: whether it runs a problem.
        reason: why it is the best where it is the first that serves a problem, as `lcsm show` prints it.
        cost: what it costs.
        devices: types of device that it runs on, such as "cuda"; None for all.
    """

    name: str
    function: Callable[..., Any]
    serves: Callable[[Problem], bool]
    reason: str | Callable[[Problem], str]
    cost: Callable[[Sizes], Cost]
    devices: tuple[str, ...] | None = None

    def runs_on(self, device: str) -> bool:
        """Whether it runs on a type of device."""
        return self.devices is None or device in self.devices

    def why(self, problem: Problem) -> str:
        """The reason in words for a problem that it serves first."""
        return self.reason if isinstance(self.reason, str) else self.reason(problem)


@dataclass(frozen=True)
class AlgorithmChoice:
    """The algorithm that runs on some device.

    Args:
        name, function: of the algorithm.
        available: names of all that serve the problem there, best first; without `name` where the device cannot run it.
        reason: why this one, as `lcsm show` prints it.
    """

    name: str
    function: Callable[..., Any]
    available: tuple[str, ...]
    reason: str


def has_kernel(problem: Problem) -> bool:
    """Whether one kernel gives all outputs: nothing but the inputs changes with time."""
    if problem.growing or not problem.constant:
        return problem.growing
    if problem.substeps > 1:
        return False
    if problem.kind == "low_rank":
        # what is written and what is erased share a beta: where it is data-driven, so is the oscillation
        return problem.reads == "vector" and not varies(problem.gain, "L")
    return problem.kind == "shift" or (goes_by_entry(problem) and problem.reads == "vector")


def convolves(problem: Problem) -> bool:
    """Whether Fourier transforms convolve the inputs with that kernel."""
    return has_kernel(problem) and not problem.complex_inputs


def is_diagonal(problem: Problem) -> bool:
    """Whether entries decay and turn, and nothing else."""
    return problem.kind == "diagonal" and not problem.growing


def goes_by_entry(problem: Problem) -> bool:
    """Whether every entry of a diagonal memory is a system of its own: N x P of them, or a single row or column."""
    single = problem.state_dim == 1 or problem.value_dim + problem.denominator == 1
    return is_diagonal(problem) and (problem.per_channel or single)


def goes_in_lockstep(problem: Problem) -> bool:
    """Whether such entries, of few rows and columns, keep one decay for all steps."""
    own = goes_by_entry(problem) and not problem.per_channel and not has_kernel(problem)
    return own and problem.constant_oscillation


def disentangles(problem: Problem) -> bool:
    """Whether those entries can be convolved one by one."""
    return goes_in_lockstep(problem) and not problem.complex_inputs


def turns_alike(problem: Problem) -> bool:
    """Whether all value columns share the phase of their row."""
    turns = problem.phase is not None and not varies(problem.phase, "P")
    return is_diagonal(problem) and not goes_by_entry(problem) and turns


def rotates(problem: Problem) -> bool:
    """Whether expand and shrink can turn instead of the memory."""
    return turns_alike(problem) and not problem.complex_inputs


def chunks(problem: Problem) -> bool:
    """Whether a chunk of tokens is a few matrix products."""
    return is_diagonal(problem) and not goes_by_entry(problem) and problem.phase is None


def erases(problem: Problem) -> bool:
    """Whether a real memory erases while it writes."""
    real = problem.phase is None and problem.reads == "vector"
    return problem.kind == "low_rank" and real and not has_kernel(problem)


def is_dense(problem: Problem) -> bool:
    """Whether a matrix mixes the rows."""
    return problem.kind == "dense"


def has_one_matrix(problem: Problem) -> bool:
    """Whether that matrix is the same at every step."""
    return is_dense(problem) and problem.constant_oscillation


def can_advance(problem: Problem) -> bool:
    """Whether a memory can be carried from step to step."""
    return not problem.growing


def why_kernel(problem: Problem) -> str:
    """The reason for `convolution` where one kernel gives all outputs."""
    if problem.growing:
        return "modes may grow, so that only their kernel can be formed, never a memory"
    return "one kernel serves all steps, and Fourier transforms convolve it with the whole sequence"


def why_elementwise(problem: Problem) -> str:
    """The reason for `elementwise`."""
    if problem.complex_inputs and (has_kernel(problem) or turns_alike(problem)):
        better = "convolution" if has_kernel(problem) else "rotate"
        return f"the inputs are complex, which {better} cannot take"
    if goes_by_entry(problem):
        return "every memory entry decays differently, which no matrix product can hold: one fused pass over time"
    return "columns turn differently, so that every entry steps by itself"


def why_reference(problem: Problem) -> str:
    """The reason for `reference`, where nothing else serves."""
    if has_kernel(problem):
        return "the inputs are complex, which convolution cannot take"
    if problem.kind == "shift" and problem.substeps == 1:
        return "weights of a window that follow the tokens are summed step by step"
    found = "several writes per token into a window"
    if problem.kind == "low_rank":
        whole, turning = "whose whole memory is read", "that is complex and follows the tokens"
        found = f"a low-rank oscillation {whole if problem.reads == 'memory' else turning}"
    return f"no faster algorithm serves {found}"


# In order of preference: the first that serves a problem on the device runs. `convolution` stands twice: it convolves
# the inputs of a constant system as a whole, and what enters the memory of a constant oscillation entry by entry.
ALGORITHMS = (
    Algorithm("convolution", convolution, convolves, why_kernel, cost.convolution),
    Algorithm(
        "delta", delta, erases, "what a chunk erases is one triangular system, solved by matrix products", cost.delta
    ),
    Algorithm(
        "rotate",
        rotate,
        rotates,
        "all columns turn alike: expand and shrink turn instead, and a real memory runs in chunks",
        cost.rotate,
    ),
    Algorithm(
        "chunk",
        chunk,
        chunks,
        "decays lie along rows or columns only, so that a chunk of tokens is a few matrix products",
        cost.chunk,
    ),
    Algorithm(
        "lockstep",
        lockstep,
        goes_in_lockstep,
        "the decay is constant, so that all chunks step together through one table of its powers",
        cost.lockstep_scan,
    ),
    Algorithm("elementwise", elementwise, is_diagonal, why_elementwise, cost.elementwise),
    Algorithm(
        "convolution",
        convolution,
        disentangles,
        "the decay is constant, so that Fourier transforms convolve every memory entry with its powers",
        cost.convolution,
    ),
    Algorithm("scan", scan, is_diagonal, "pairs of steps are one step, so that they meet in a tree", cost.scan),
    Algorithm(
        "powers",
        powers,
        has_one_matrix,
        "chunks meet through powers of one matrix, in few large products",
        cost.matrix_powers,
    ),
    Algorithm(
        "loop",
        loop,
        is_dense,
        "matrices that follow the tokens have no product that tokens could share",
        cost.loop,
    ),
    Algorithm("diagonalise", diagonalise, has_one_matrix, "eigenvectors make a matrix diagonal", cost.diagonalise),
    Algorithm("reference", reference, can_advance, why_reference, cost.reference),
)


def choose_algorithm(problem: Problem, request: str = "auto", device: str = "cpu") -> AlgorithmChoice:
    """The algorithm for a problem.

    Args:
        problem: the static description.
        request: a name, or "auto" for the first that serves the problem on the device.
        device: type of the device of the run.
    Raises:
        UsageError: the requested algorithm is unknown or does not serve this problem; nothing falls back silently.
    """
    known = [entry for entry in ALGORITHMS if entry.serves(problem)]
    available = tuple(entry.name for entry in known if entry.runs_on(device))
    wanted = available[0] if request == "auto" else request
    for entry in known:
        if entry.name == wanted:
            why = entry.why(problem) if request == "auto" else f"mixer.algorithm={request} asks for it"
            return AlgorithmChoice(wanted, entry.function, available, why)
    unfit = any(entry.name == request for entry in ALGORITHMS)
    fault = "does not serve these stages" if unfit else "is not an algorithm"
    raise UsageError(f"mixer.algorithm={request!r} {fault}: choose auto or one of {', '.join(available)}")


def runs_on(request: str | None, device: str) -> bool:
    """Whether nothing that `mixer.algorithm` asks for needs another type of device."""
    return all(entry.runs_on(device) for entry in ALGORITHMS if entry.name == request)


def fitting(problem: Problem, device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms that serve a problem on a type of device, best first."""
    return choose_algorithm(problem, device=device).available


def costs(problem: Problem, length: int, projections: int, device: str = "cpu") -> dict[str, Cost]:
    """Costs of every algorithm that serves a problem on a type of device, best first.

    Args:
        problem: the static description.
        length: tokens of a sequence.
        projections: operations per token between channels and modes, where the shrink reads the whole memory.
        device: type of the device of the run.
    """
    sizes = Sizes(problem, length, projections)
    return {entry.name: entry.cost(sizes) for entry in ALGORITHMS if entry.serves(problem) and entry.runs_on(device)}
