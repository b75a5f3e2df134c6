"""Costs of the algorithms: the order in letters, and counted operations at a length.

Letters as in `lcsm.shapes`: L length, D model width, H heads, N and P sizes of a head's memory, C tokens of a chunk.
Counted are multiplications and additions of one forward pass of one sequence: those of the memory and, where the shrink
reads the whole memory, those of its projections from and to the channels, as the literature of such systems counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from lcsm.ops.chunk.decay import CHUNK, WIDTHS
from lcsm.ops.convolution.fourier import good_size
from lcsm.ops.convolution.low_rank import POWERS_PER_LENGTH
from lcsm.ops.dense import powers
from lcsm.ops.spec import RecurrenceSpec, varies
from lcsm.ops.steps import lockstep

# Width of the blocks in which a decay that varies within a head is evaluated pair by pair where it is strong.
EXACT = WIDTHS[0]


@dataclass(frozen=True)
class Cost:
    """The cost of one way to run.

    Args:
        form: its arithmetic, as `lcsm show` prints it.
        order: cost of a whole sequence in letters.
        flops: multiplications and additions per token.
        depth: operations that wait for each other, over the whole sequence.
    """

    form: str
    order: str
    flops: int
    depth: int


@dataclass(frozen=True)
class Sizes:
    """Sizes that the formulas share.

    Args:
        spec: the static description.
        length: L, at least 1.
        projections: operations per token between channels and modes where the shrink reads the whole memory, else 0.
    """

    spec: RecurrenceSpec
    length: int
    projections: int

    @property
    def steps(self) -> int:
        """Writes of the whole sequence."""
        return self.length * self.spec.substeps

    @property
    def columns(self) -> int:
        """Value columns, with that of a denominator."""
        return self.spec.value_dim + self.spec.denominator

    @property
    def entries(self) -> int:
        """Multiplications and additions that act on every memory entry once; four times as many if it is complex."""
        spec = self.spec
        return spec.num_heads * spec.state_dim * self.columns * (1 if spec.phase is None else 4)

    def order(self, work: str, parallel: str = "") -> str:
        """`work` per token and head times the rest; with many inputs and outputs, the larger of it and D per head."""
        heads = "" if self.spec.num_heads == 1 else "H "
        if self.spec.reads == "memory":
            share = "D" if self.spec.num_heads == 1 else "D/H"
            return f"O(L {heads}N max({share}, {parallel}))" if parallel else f"O(L {heads}N {share})"
        return f"O(L {heads}{work})"

    @property
    def memory(self) -> str:
        """The size of a head's memory in letters."""
        return " ".join(letter for letter, size in (("N", self.spec.state_dim), ("P", self.columns)) if size > 1)


def recurrent_flops(spec: RecurrenceSpec) -> int:
    """Multiplications and additions of one token in the recurrent form: advance, write, read."""
    sizes = Sizes(spec, 1, 0)
    advance = {"diagonal": 1, "low_rank": 9, "dense": 2 * spec.state_dim, "shift": 0}[spec.kind]
    if spec.decay is None and spec.kind == "diagonal":
        advance = 0
    return sizes.entries * (spec.substeps * (advance + 2) + 2)


def reference(sizes: Sizes) -> Cost:
    spec = sizes.spec
    work = {"dense": "N² P"}.get(spec.kind, sizes.memory or "1")
    flops = recurrent_flops(spec) + sizes.projections
    return Cost("recurrent steps", sizes.order(work), flops, sizes.steps)


def elementwise(sizes: Sizes) -> Cost:
    flops = recurrent_flops(sizes.spec) + sizes.projections
    return Cost("fused recurrent steps", sizes.order(sizes.memory or "1"), flops, sizes.steps)


def loop(sizes: Sizes) -> Cost:
    return Cost("a matrix product per step", sizes.order("N² P"), recurrent_flops(sizes.spec), sizes.steps)


def lockstep_scan(sizes: Sizes) -> Cost:
    # the steps within chunks, then what chunks hand on to each of their tokens
    flops = recurrent_flops(sizes.spec) + 2 * sizes.spec.substeps * sizes.entries + sizes.projections
    depth = lockstep.CHUNK + ceil(sizes.steps / lockstep.CHUNK)
    return Cost("lock-step scan", sizes.order(sizes.memory or "1"), flops, depth)


def scan(sizes: Sizes) -> Cost:
    # outer product 1, pairs of steps 5 over all levels, read 2
    flops = 8 * sizes.spec.substeps * sizes.entries + sizes.projections
    return Cost("associative scan", sizes.order(sizes.memory or "1"), flops, 2 * ceil(log2(max(2, sizes.steps))))


def chunk(sizes: Sizes) -> Cost:
    return _chunk(sizes, sizes.spec.state_dim, "chunks of matrix products", 0)


def rotate(sizes: Sizes) -> Cost:
    # real and imaginary part are rows of their own, and every row of expand and shrink turns once
    spec = sizes.spec
    turning = 12 * spec.substeps * spec.num_heads * spec.state_dim
    return _chunk(sizes, 2 * spec.state_dim, "rotation, then chunks", turning + sizes.projections)


def _chunk(sizes: Sizes, rows: int, form: str, extra: int) -> Cost:
    spec = sizes.spec
    size = min(CHUNK, sizes.steps)
    pairs = 2 * size * (rows + sizes.columns)
    within = 4 * EXACT * rows if varies(spec.rate, "N") else 0
    within += 4 * EXACT * sizes.columns if varies(spec.rate, "P") else 0
    flops = spec.substeps * spec.num_heads * (pairs + within + 4 * rows * sizes.columns) + extra
    return Cost(form, sizes.order("(C (N + P) + N P)"), flops, ceil(sizes.steps / size))


def delta(sizes: Sizes) -> Cost:
    spec, steps = sizes.spec, sizes.steps
    size, rows, columns = min(CHUNK, steps), spec.state_dim, sizes.columns
    flops = 6 * size * rows + 4 * size * columns + size**2 + 6 * rows * columns
    flops += 8 * EXACT * rows if varies(spec.decay, "N") else 0
    total = spec.num_heads * spec.substeps * flops
    return Cost("chunks with a triangular system", sizes.order("(C (C + N + P) + N P)"), total, ceil(steps / size))


def convolution(sizes: Sizes) -> Cost:
    spec, length = sizes.spec, sizes.steps
    size = good_size(2 * length - 1)
    # a real transform and a product of spectra, per token of one channel
    transform, product = 2.5 * size * log2(size) / length, 3 * size / length
    depth = 2 * ceil(log2(size))
    if not spec.constant or spec.reads == "memory":
        parts = 1 if spec.phase is None else 2
        entries = spec.substeps * sizes.entries
        flops = entries * (3 * transform + product) * parts + 3 * entries + sizes.projections
        return Cost(
            "disentangle, then convolution by FFT",
            sizes.order(f"{sizes.memory or '1'} log L", "log L"),
            int(flops),
            depth,
        )
    shared = not any(varies(axes, "P") for axes in (spec.rate, spec.phase, spec.direction, spec.shrink))
    kernels = spec.num_heads * (1 if shared else sizes.columns)
    flops = spec.num_heads * sizes.columns * (2 * transform + product) + kernels * (transform + _evaluation(sizes))
    channels = "P log L" if sizes.columns > 1 else "log L"
    work = channels if spec.kind == "shift" else f"(N + {channels})"
    return Cost("convolution by FFT", sizes.order(work), int(flops), depth)


def _evaluation(sizes: Sizes) -> float:
    """Operations per lag of one kernel."""
    rows, pair = sizes.spec.state_dim, 1 if sizes.spec.phase is None else 2
    if sizes.spec.kind == "shift":
        return 0
    if sizes.spec.kind == "diagonal":
        return 2 * pair * rows
    if rows**2 > POWERS_PER_LENGTH * sizes.length:
        # four sums over the modes at every frequency
        return 32 * rows
    # powers of one step, then rows times columns
    return 2 * pair * rows + 2 * (pair * rows) ** 3 * log2(max(2, sizes.length)) / sizes.length


def matrix_powers(sizes: Sizes) -> Cost:
    spec, size = sizes.spec, powers.CHUNK
    rows, columns = spec.state_dim, sizes.columns
    flops = spec.num_heads * (size * rows**2 + 2 * size * (rows + columns) + 4 * rows * columns) * spec.substeps
    return Cost("chunks by powers of the matrix", sizes.order("(C N² + N P)"), flops, ceil(sizes.steps / size))


def diagonalise(sizes: Sizes) -> Cost:
    spec = sizes.spec
    rows = spec.state_dim
    # eigenvectors once, expand and shrink turned into them at every token, then complex modes
    once = 25 * spec.num_heads * rows**3 // sizes.length
    flops = once + spec.substeps * spec.num_heads * rows * (8 * rows + 7 * 4 * sizes.columns)
    return Cost(
        "eigenvectors, then a diagonal",
        sizes.order("(N² + N P)"),
        flops,
        lockstep.CHUNK + ceil(sizes.steps / lockstep.CHUNK),
    )
