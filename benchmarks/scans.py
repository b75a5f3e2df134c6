"""Elementwise, lock-step and convolution algorithms against plain-torch forms, and their growth with length.

    python benchmarks/scans.py [--repeats 5] [--quick]

One thread, process CPU time, median of interleaved repeats, forward plus backward; other programs that share the
machine's caches still slow both sides. The baselines below are the usual published forms: a parallel scan over
materialised decays with its own backward (mamba.py), a plain autograd associative scan of complex modes (S5), the
kernel by a complex exponential of every lag (S4D) and the plain FFT convolution.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lcsm.ops.convolution.convolution import convolution
from lcsm.ops.dense.loop import loop
from lcsm.ops.dense.powers import powers
from lcsm.ops.rotate import rotate
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.steps.elementwise import elementwise
from lcsm.ops.steps.lockstep import lockstep
from lcsm.structures import Dense, Diagonal, Shift


def prefixes(decay: Tensor, written: Tensor) -> Tensor:
    """All prefixes of h_t = decay_t h_{t-1} + written_t along axis 1 (Blelloch)."""
    length = written.shape[1]
    if length == 1:
        return written
    pairs = length // 2
    first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    odd = prefixes(decay[:, first] * decay[:, second], written[:, second] + decay[:, second] * written[:, first])
    even = written[:, 2::2] + decay[:, 2::2] * odd[:, : (length - 1) // 2]
    even = torch.cat([written[:, :1], even], 1)
    return torch.cat([torch.stack([even[:, :pairs], odd], 2).flatten(1, 2), even[:, pairs:]], 1)


class ParallelScan(torch.autograd.Function):
    """The parallel scan with a reversed scan as its backward pass."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, written: Tensor) -> Tensor:
        states = prefixes(decay, written)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        shifted = torch.cat([torch.ones_like(decay[:, :1]), decay[:, 1:].flip(1)], 1)
        found = prefixes(shifted, gradient.flip(1)).flip(1)
        return torch.cat([torch.zeros_like(states[:, :1]), found[:, 1:] * states[:, :-1]], 1), found


@dataclass
class Workload:
    """Ours and a baseline on the same leaves.

    Args:
        leaves: tensors that receive gradients.
        goal: smallest ratio of baseline time to our time that the project promises.
    """

    name: str
    ours: Callable[..., Tensor]
    baseline: Callable[..., Tensor] | None
    leaves: list[Tensor]
    goal: float | None = None

    def step(self, function: Callable[..., Tensor]) -> None:
        outputs = function(*self.leaves)
        torch.autograd.grad(outputs, self.leaves, torch.ones_like(outputs))


def leaf(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(*shape, dtype=dtype) * scale).requires_grad_()


def spec(
    kind: str, decay: str | None, phase: str | None, expand: str, shrink: str, sizes: tuple, **more: Any
) -> RecurrenceSpec:
    heads, size, width = sizes
    return RecurrenceSpec(
        kind=kind,
        decay=decay,
        phase=phase,
        expand=expand,
        shrink=shrink,
        num_heads=heads,
        state_dim=size,
        value_dim=width,
        **more,
    )


def mamba(batch: int, length: int, channels: int = 512, size: int = 16) -> Workload:
    """Selective scan; decay exp(step_t rate), the step also scales what is written."""
    step = F.softplus(torch.randn(batch, length, channels) - 3).requires_grad_()
    rate = (-torch.arange(1.0, size + 1).repeat(channels, 1)).requires_grad_()
    leaves = [leaf(batch, length, channels), step, rate, leaf(batch, length, size), leaf(batch, length, size)]
    declared = spec("diagonal", "HN*LH", None, "LN", "LN", (channels, size, 1))

    def ours(x: Tensor, step: Tensor, rate: Tensor, expand: Tensor, shrink: Tensor) -> Tensor:
        structure = Diagonal(log_decay=rate[None, None, :, :, None], step=step[..., None, None])
        expand, shrink = (value[:, :, None, :, None] for value in (expand, shrink))
        return elementwise(declared, structure, (x * step).unsqueeze(-1), expand, shrink)[0].squeeze(-1)

    def baseline(x: Tensor, step: Tensor, rate: Tensor, expand: Tensor, shrink: Tensor) -> Tensor:
        decay = (step.unsqueeze(-1) * rate).exp()
        states = ParallelScan.apply(decay, (x * step).unsqueeze(-1) * expand.unsqueeze(2))
        return (states @ shrink.unsqueeze(-1)).squeeze(-1)

    return Workload(f"Mamba, elementwise, B={batch} L={length}", ours, baseline, leaves, 4.5)


def eos(batch: int, length: int, size: int = 16, width: int = 512) -> Workload:
    """The N x P decay of the EOS paper: one head, a rate per entry times a step per column."""
    step = F.softplus(torch.randn(batch, length, 1, 1, width) - 3).requires_grad_()
    rate = (-torch.rand(1, 1, 1, size, width)).requires_grad_()
    leaves = [leaf(batch, length, 1, width), step, rate, *(leaf(batch, length, 1, size, 1) for _ in range(2))]
    declared = spec("diagonal", "NP*LP", None, "LN", "LN", (1, size, width))

    def ours(x: Tensor, step: Tensor, rate: Tensor, expand: Tensor, shrink: Tensor) -> Tensor:
        return elementwise(declared, Diagonal(log_decay=rate, step=step), x, expand, shrink)[0]

    def baseline(x: Tensor, step: Tensor, rate: Tensor, expand: Tensor, shrink: Tensor) -> Tensor:
        states = ParallelScan.apply((step * rate).exp(), expand * x.unsqueeze(3))
        return (shrink * states).sum(3)

    return Workload(f"EOS N x P, elementwise, B={batch} L={length}", ours, baseline, leaves, 4.5)


def gated(batch: int, length: int, width: int = 512) -> Workload:
    """HGRN, minGRU: one gate per channel, N = 1."""
    leaves = [leaf(batch, length, width), (-torch.rand(batch, length, width)).requires_grad_()]
    declared = spec("diagonal", "LP", None, "", "", (1, 1, width))
    one = torch.ones(1, 1, 1, 1, 1)

    def ours(x: Tensor, log_decay: Tensor) -> Tensor:
        structure = Diagonal(log_decay=log_decay[:, :, None, None])
        return elementwise(declared, structure, x.unsqueeze(2), one, one)[0].squeeze(2)

    return Workload(
        f"minGRU, elementwise, B={batch} L={length}", ours, lambda x, g: ParallelScan.apply(g.exp(), x), leaves
    )


def modes(batch: int, length: int, size: int = 128) -> Workload:
    """S5, LRU, LDNN: constant complex modes, the whole memory is read."""
    leaves = [leaf(batch, length, size, dtype=torch.complex64), (-torch.rand(size)).requires_grad_(), leaf(size)]
    declared = spec("diagonal", "N", "N", "LN", "", (1, size, 1), reads="memory")
    one = torch.ones(1, 1, 1, 1, 1)

    def ours(written: Tensor, log_decay: Tensor, phase: Tensor) -> Tensor:
        structure = Diagonal(log_decay=log_decay[None, None, None, :, None], phase=phase[None, None, None, :, None])
        return lockstep(declared, structure, one[..., 0], written[:, :, None, :, None], one)[0].squeeze(2)

    def baseline(written: Tensor, log_decay: Tensor, phase: Tensor) -> Tensor:
        return prefixes(torch.complex(log_decay, phase).exp().expand(1, length, -1), written)

    return Workload(f"S5 modes, lockstep, B={batch} L={length}", ours, baseline, leaves, 4.5)


def s4d(batch: int, length: int, channels: int = 256, size: int = 32) -> Workload:
    """S4D: kernel and convolution."""
    rate, frequency = torch.rand(channels, size) * 0.1, torch.rand(channels, size)
    weights = leaf(channels, size, dtype=torch.complex64)
    leaves = [leaf(batch, length, channels), (-rate).requires_grad_(), frequency.requires_grad_(), weights]
    declared = spec("diagonal", "HN", "HN", "", "HN", (channels, size, 1), pairs=True)

    def ours(x: Tensor, log_decay: Tensor, phase: Tensor, weights: Tensor) -> Tensor:
        rows = [value[None, None, :, :, None] for value in (log_decay, phase, weights)]
        structure = Diagonal(log_decay=rows[0], phase=rows[1])
        return convolution(declared, structure, x.unsqueeze(-1), torch.ones(1, 1, 1, 1, 1), rows[2])[0].squeeze(-1)

    def baseline(x: Tensor, log_decay: Tensor, phase: Tensor, weights: Tensor) -> Tensor:
        lags = torch.arange(length) * torch.complex(log_decay, phase).unsqueeze(-1)
        return plain_convolution(x, 2 * torch.einsum("hn,hnl->hl", weights, lags.exp()).real)

    return Workload(f"S4D, convolution, B={batch} L={length}", ours, baseline, leaves, 10.0)


def plain_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """The usual form: channels first, twice the length, everything at once."""
    length = x.shape[1]
    spectrum = torch.fft.rfft(x.transpose(1, 2), n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
    return torch.fft.irfft(spectrum, n=2 * length)[..., :length].transpose(1, 2)


def long(batch: int, length: int, channels: int = 256) -> Workload:
    """TNN, SGConv, Hyena: a kernel as long as the sequence."""
    leaves = [leaf(batch, length, channels), leaf(channels, length, scale=0.02)]
    declared = spec("shift", None, None, "N", "HN", (channels, length, 1))
    newest = F.one_hot(torch.tensor(0), length).float()[None, None, None, :, None]

    def ours(x: Tensor, kernel: Tensor) -> Tensor:
        return convolution(declared, Shift(), x.unsqueeze(-1), newest, kernel[None, None, ..., None])[0].squeeze(-1)

    # promised where the temporaries of the plain form leave the cache
    goal = 2.5 if length >= 8192 else None
    return Workload(f"long kernel, convolution, B={batch} L={length}", ours, plain_convolution, leaves, goal)


def turned(batch: int, length: int, heads: int = 4, size: int = 64) -> Workload:
    """LRPE: a learned phase per row around the chunk algorithm."""
    leaves = [leaf(batch, length, heads, size), leaf(1, 1, heads, size, 1)]
    leaves += [leaf(batch, length, heads, size, 1, scale=0.1) for _ in range(2)]
    declared = spec("diagonal", None, "HN", "LHN", "LHN", (heads, size, size))

    def ours(x: Tensor, phase: Tensor, expand: Tensor, shrink: Tensor) -> Tensor:
        structure = Diagonal(log_decay=torch.zeros(1, 1, 1, 1, 1), phase=phase)
        return rotate(declared, structure, x, expand, shrink)[0]

    return Workload(f"LRPE, rotate, B={batch} L={length}", ours, None, leaves)


def matrices(name: str, batch: int, length: int, heads: int = 4, size: int = 32) -> Workload:
    """A learned dense matrix per head."""
    matrix = torch.linalg.qr(torch.randn(1, 1, heads, size, size)).Q * 0.99
    leaves = [leaf(batch, length, heads, size), matrix.requires_grad_()]
    leaves += [leaf(batch, length, heads, size, 1, scale=0.1) for _ in range(2)]
    declared = spec("dense", "HN", None, "LHN", "LHN", (heads, size, size))
    algorithm = {"loop": loop, "powers": powers}[name]

    def ours(x: Tensor, matrix: Tensor, expand: Tensor, shrink: Tensor) -> Tensor:
        return algorithm(declared, Dense(matrix=matrix), x, expand, shrink)[0]

    return Workload(f"dense, {name}, B={batch} L={length}", ours, None, leaves)


def medians(steps: Sequence[Callable[..., None]], repeats: int) -> list[float]:
    """Median CPU seconds of each step, measured in turn."""
    times: list[list[float]] = [[] for _ in steps]
    for repeat in range(repeats + 1):
        for found, step in zip(times, steps, strict=True):
            start = time.process_time()
            step()
            if repeat > 0:
                found.append(time.process_time() - start)
    return [sorted(found)[len(found) // 2] for found in times]


def peak_megabytes(step: Callable[[], None]) -> float:
    """Most bytes that torch held at once during a step, beyond those held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    held = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def compare(workloads: list[Workload], repeats: int) -> Table:
    """Ours against the baselines."""
    table = Table(title="forward + backward against plain torch")
    for column in ("workload", "ours ms", "baseline ms", "ratio", "goal", "ours MB", "baseline MB"):
        table.add_column(column, justify="left" if column == "workload" else "right")
    for one in workloads:
        assert one.baseline is not None
        steps = [lambda one=one: one.step(one.ours), lambda one=one: one.step(one.baseline)]
        ours, baseline = medians(steps, repeats)
        sizes = [f"{peak_megabytes(step):.0f}" for step in steps]
        goal = "" if one.goal is None else f"{one.goal:.1f}"
        table.add_row(one.name, f"{ours * 1e3:.1f}", f"{baseline * 1e3:.1f}", f"{baseline / ours:.1f}", goal, *sizes)
    return table


def growth(builders: dict[str, Callable[[int], Workload]], lengths: tuple[int, int], repeats: int) -> Table:
    """Microseconds per token at two lengths; an algorithm of linear complexity keeps them."""
    table = Table(title="forward + backward, us per token, B=1 (goal: ratio <= 1.3)")
    for column in ("algorithm", *(f"L={length}" for length in lengths), "ratio"):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    for name, build in builders.items():
        workloads = [build(length) for length in lengths]
        steps = [lambda one=one: one.step(one.ours) for one in workloads]
        short, long_ = (t / n * 1e6 for t, n in zip(medians(steps, repeats), lengths, strict=True))
        table.add_row(name, f"{short:.2f}", f"{long_:.2f}", f"{long_ / short:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measured repeats of every step")
    parser.add_argument("--quick", action="store_true", help="short sequences: only shows that the benchmark runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scale = 8 if arguments.quick else 1
    length, long_length = 2048 // scale, 16384 // scale
    console = Console()
    console.print(
        f"torch {torch.__version__}, {platform.processor() or platform.machine()}, 1 thread, CPU time, median"
    )
    workloads = [mamba(4, length), eos(4, length), gated(4, length), modes(4, length), s4d(4, length)]
    workloads += [long(4, length), long(4, long_length)]
    console.print(compare(workloads, arguments.repeats))
    builders: dict[str, Callable[[int], Workload]] = {
        "elementwise (Mamba)": lambda n: mamba(1, n),
        "elementwise (minGRU)": lambda n: gated(1, n),
        "lockstep (S5)": lambda n: modes(1, n),
        "convolution (S4D)": lambda n: s4d(1, n),
        "convolution (long kernel)": lambda n: long(1, n),
        "rotate (LRPE)": lambda n: turned(1, n),
        "loop (dense)": lambda n: matrices("loop", 1, n),
        "powers (dense)": lambda n: matrices("powers", 1, n),
    }
    console.print(growth(builders, (length, long_length), arguments.repeats))


if __name__ == "__main__":
    main()
