"""The algorithms in one list, best first, and the choice among them for a recurrence on a device."""

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
from lcsm.ops.reference import reference
from lcsm.ops.rotate import rotate
from lcsm.ops.spec import RecurrenceSpec, varies
from lcsm.ops.steps.elementwise import elementwise
from lcsm.ops.steps.lockstep import lockstep
from lcsm.ops.steps.scan import scan


@dataclass(frozen=True)
class Algorithm:
    """A way to run a memory over many tokens.

    Args:
        name: what `mixer.algorithm` calls it.
        function: arguments and results as `ops.reference.reference`.
        serves: whether it runs a recurrence.
        reason: why it is the best where it is the first that serves a recurrence, as `lcsm show` prints it.
        cost: what it costs.
        devices: types of device that it runs on, such as "cuda"; None for all.
    """

    name: str
    function: Callable[..., Any]
    serves: Callable[[RecurrenceSpec], bool]
    reason: str | Callable[[RecurrenceSpec], str]
    cost: Callable[[Sizes], Cost]
    devices: tuple[str, ...] | None = None

    def runs_on(self, device: str) -> bool:
        """Whether it runs on a type of device."""
        return self.devices is None or device in self.devices

    def why(self, spec: RecurrenceSpec) -> str:
        """The reason in words for a recurrence that it serves first."""
        return self.reason if isinstance(self.reason, str) else self.reason(spec)


@dataclass(frozen=True)
class AlgorithmChoice:
    """The algorithm that runs on some device.

    Args:
        name, function: of the algorithm.
        available: all that serve the recurrence there, best first; without `name` where the device cannot run it.
        reason: why this one, as `lcsm show` prints it.
    """

    name: str
    function: Callable[..., Any]
    available: tuple[str, ...]
    reason: str


def has_kernel(spec: RecurrenceSpec) -> bool:
    """Whether one kernel gives all outputs: nothing but the inputs changes with time."""
    if spec.growing or not spec.constant:
        return spec.growing
    if spec.substeps > 1:
        return False
    if spec.kind == "low_rank":
        # what is written and what is erased share a beta: where it is data-driven, so is the oscillation
        return spec.reads == "vector" and not varies(spec.gain, "L")
    return spec.kind == "shift" or (goes_by_entry(spec) and spec.reads == "vector")


def convolves(spec: RecurrenceSpec) -> bool:
    """Whether Fourier transforms convolve the inputs with that kernel."""
    return has_kernel(spec) and not spec.complex_inputs


def is_diagonal(spec: RecurrenceSpec) -> bool:
    """Whether entries decay and turn, and nothing else."""
    return spec.kind == "diagonal" and not spec.growing


def goes_by_entry(spec: RecurrenceSpec) -> bool:
    """Whether every entry of a diagonal memory is a system of its own: N x P of them, or a single row or column."""
    single = spec.state_dim == 1 or spec.value_dim + spec.denominator == 1
    return is_diagonal(spec) and (spec.per_channel or single)


def goes_in_lockstep(spec: RecurrenceSpec) -> bool:
    """Whether such entries, of few rows and columns, keep one decay for all steps."""
    own = goes_by_entry(spec) and not spec.per_channel and not has_kernel(spec)
    return own and spec.constant_oscillation


def disentangles(spec: RecurrenceSpec) -> bool:
    """Whether those entries can be convolved one by one."""
    return goes_in_lockstep(spec) and not spec.complex_inputs


def turns_alike(spec: RecurrenceSpec) -> bool:
    """Whether all value columns share the phase of their row."""
    turns = spec.phase is not None and not varies(spec.phase, "P")
    return is_diagonal(spec) and not goes_by_entry(spec) and turns


def rotates(spec: RecurrenceSpec) -> bool:
    """Whether expand and shrink can turn instead of the memory."""
    return turns_alike(spec) and not spec.complex_inputs


def chunks(spec: RecurrenceSpec) -> bool:
    """Whether a chunk of tokens is a few matrix products."""
    return is_diagonal(spec) and not goes_by_entry(spec) and spec.phase is None


def erases(spec: RecurrenceSpec) -> bool:
    """Whether a real memory erases while it writes."""
    real = spec.phase is None and spec.reads == "vector"
    return spec.kind == "low_rank" and real and not has_kernel(spec)


def is_dense(spec: RecurrenceSpec) -> bool:
    """Whether a matrix mixes the rows."""
    return spec.kind == "dense"


def has_one_matrix(spec: RecurrenceSpec) -> bool:
    """Whether that matrix is the same at every step."""
    return is_dense(spec) and spec.constant_oscillation


def can_advance(spec: RecurrenceSpec) -> bool:
    """Whether a memory can be carried from step to step."""
    return not spec.growing


def why_kernel(spec: RecurrenceSpec) -> str:
    """The reason for `convolution` where one kernel gives all outputs."""
    if spec.growing:
        return "modes may grow, so that only their kernel can be formed, never a memory"
    return "one kernel serves all steps, and Fourier transforms convolve it with the whole sequence"


def why_elementwise(spec: RecurrenceSpec) -> str:
    """The reason for `elementwise`."""
    if spec.complex_inputs and (has_kernel(spec) or turns_alike(spec)):
        better = "convolution" if has_kernel(spec) else "rotate"
        return f"the inputs are complex, which {better} cannot take"
    if goes_by_entry(spec):
        return "every memory entry decays differently, which no matrix product can hold: one fused pass over time"
    return "columns turn differently, so that every entry steps by itself"


def why_reference(spec: RecurrenceSpec) -> str:
    """The reason for `reference`, where nothing else serves."""
    if has_kernel(spec):
        return "the inputs are complex, which convolution cannot take"
    if spec.kind == "shift" and spec.substeps == 1:
        return "weights of a window that follow the tokens are summed step by step"
    found = "several writes per token into a window"
    if spec.kind == "low_rank":
        whole, turning = "whose whole memory is read", "that is complex and follows the tokens"
        found = f"a low-rank oscillation {whole if spec.reads == 'memory' else turning}"
    return f"no faster algorithm serves {found}"


# In order of preference: the first that serves a recurrence on the device runs. `convolution` stands twice: it
# convolves the inputs of a constant system as a whole, and what enters the memory of a constant oscillation entry by
# entry.
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


def choose_algorithm(spec: RecurrenceSpec, request: str = "auto", device: str = "cpu") -> AlgorithmChoice:
    """The algorithm for a recurrence.

    Args:
        spec: the static description.
        request: a name, or "auto" for the first that serves the recurrence on the device.
        device: type of the device of the run.
    Raises:
        UsageError: the requested algorithm is unknown or does not serve this recurrence; nothing falls back silently.
    """
    known = [entry for entry in ALGORITHMS if entry.serves(spec)]
    available = tuple(entry.name for entry in known if entry.runs_on(device))
    wanted = available[0] if request == "auto" else request
    for entry in known:
        if entry.name == wanted:
            why = entry.why(spec) if request == "auto" else f"mixer.algorithm={request} asks for it"
            return AlgorithmChoice(wanted, entry.function, available, why)
    unfit = any(entry.name == request for entry in ALGORITHMS)
    fault = "does not serve these stages" if unfit else "is not an algorithm"
    raise UsageError(f"mixer.algorithm={request!r} {fault}: choose auto or one of {', '.join(available)}")


def runs_on(request: str | None, device: str) -> bool:
    """Whether nothing that `mixer.algorithm` asks for needs another type of device."""
    return all(entry.runs_on(device) for entry in ALGORITHMS if entry.name == request)


def fitting(spec: RecurrenceSpec, device: str = "cpu") -> tuple[str, ...]:
    """Names of the algorithms that serve a recurrence on a type of device, best first."""
    return choose_algorithm(spec, device=device).available


def costs(spec: RecurrenceSpec, length: int, projections: int, device: str = "cpu") -> dict[str, Cost]:
    """Costs of every algorithm that serves a recurrence on a type of device, best first.

    Args:
        spec: the static description.
        length: tokens of a sequence.
        projections: operations per token between channels and modes, where the shrink reads the whole memory.
        device: type of the device of the run.
    """
    sizes = Sizes(spec, length, projections)
    return {entry.name: entry.cost(sizes) for entry in ALGORITHMS if entry.serves(spec) and entry.runs_on(device)}
