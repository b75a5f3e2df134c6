"""Compare `lcsm.ops.delta` with plain torch forms of the delta rule: CPU time, median of interleaved runs.

    python benchmarks/delta.py                        # the workload of the goals: B=4 L=2048 H=4 N=P=64, one thread
    python benchmarks/delta.py --length 512 --long 2048 --repeats 3

The baselines are written from the published algorithm (2406.06484, listing 1) and left to autograd. All take the same
[B L H .] tensors.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lcsm.ops.delta.delta import delta
from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import Delta, LowRank

# The smallest ratio of the published form's time to ours that the project promises.
GOAL = 2.5
# nats per step: the strong arm leaves the range of the midpoint form in every chunk
STRONG = 40.0
ARMS = {
    "delta rule": (None, 1.0, True),
    "gated delta rule": ("LH", 1.0, True),
    "KDA": ("LHN", 1.0, True),
    "RWKV-7, any outer product": ("LHN", 1.0, False),
    "gated delta rule, strong": ("LH", STRONG, True),
    "KDA, strong": ("LHN", STRONG, True),
}


@dataclass
class Data:
    """One set of inputs, [B L H .]; log_decay is None where nothing decays."""

    shrink: Tensor
    key: Tensor
    inputs: Tensor
    beta: Tensor
    left: Tensor
    log_decay: Tensor | None

    def leaves(self, tied: bool) -> list[Tensor]:
        rest = [self.beta] if tied else [self.left]
        values = [self.shrink, self.key, self.inputs, *rest, self.log_decay]
        return [value for value in values if value is not None]


def make(decay: str | None, strength: float, sizes: argparse.Namespace, length: int) -> Data:
    torch.manual_seed(0)
    base = (sizes.batch, length, sizes.heads)
    count = {None: 0, "LH": 1, "LHN": sizes.state}[decay]
    data = Data(
        torch.randn(*base, sizes.state) / sizes.state**0.5,
        F.normalize(torch.randn(*base, sizes.state), dim=-1),
        torch.randn(*base, sizes.value),
        torch.sigmoid(torch.randn(*base, 1)),
        -F.normalize(torch.randn(*base, sizes.state), dim=-1),
        F.logsigmoid(torch.randn(*base, count) + 3) * strength if count else None,
    )
    for value in [*data.leaves(True), data.left]:
        value.requires_grad_()
    return data


def form(
    algorithm: Callable[..., tuple[Tensor, Tensor | None]], decay: str | None, tied: bool
) -> Callable[..., Tensor]:
    """One of our algorithms as a function of `Data`."""

    def run(data: Data) -> Tensor:
        _, _, heads, size = data.key.shape
        spec = RecurrenceSpec(
            kind="low_rank",
            decay=decay,
            gain="LH",
            expand="LHN",
            shrink="LHN",
            num_heads=heads,
            state_dim=size,
            value_dim=data.inputs.shape[3],
        )
        key, beta = data.key[..., None], data.beta[..., None]
        log_decay = data.key.new_zeros(1, 1, 1, 1, 1) if data.log_decay is None else data.log_decay[..., None]
        if tied:
            structure: LowRank = Delta(log_decay=log_decay, left=key, right=key, beta=beta)
        else:
            structure = LowRank(log_decay=log_decay, left=data.left[..., None], right=key)
        inputs = data.inputs * data.beta if tied else data.inputs
        return algorithm(spec, structure, inputs, key, data.shrink[..., None])[0]

    return run


def chunks(values: Tensor, size: int) -> Tensor:
    """[B L H .] as [B H chunks size .]."""
    return values.transpose(1, 2).unflatten(2, (-1, size)).contiguous()


def published(data: Data, size: int = 32, indexed: bool = True) -> Tensor:
    """The chunk form as published: substitution row by row for all chunks at once, then a loop over chunks.

    Args:
        indexed: take chunks by their index and assign the outputs, as the listing does, for which autograd makes a zero
            gradient of full size each time; False takes views and stacks, which it does not.
    """
    shrink, key, inputs, beta = (chunks(v, size) for v in (data.shrink, data.key, data.inputs, data.beta))
    lower = -((key * beta) @ key.mT).tril(-1)
    for row in range(1, size):
        earlier = (lower[..., row, :, None].clone() * lower[..., :, :row].clone()).sum(-2)
        lower[..., row, :row] = lower[..., row, :row] + earlier
    solve = lower + torch.eye(size)
    written, erased = solve @ (inputs * beta), solve @ (key * beta)
    memory = inputs.new_zeros(*inputs.shape[:2], key.shape[-1], inputs.shape[-1])
    if not indexed:
        return looped(shrink, key, written, erased, memory)
    outputs = torch.zeros_like(inputs)
    for index in range(key.shape[2]):
        values = written[:, :, index] - erased[:, :, index] @ memory
        near = (shrink[:, :, index] @ key[:, :, index].mT).tril()
        outputs[:, :, index] = shrink[:, :, index] @ memory + near @ values
        memory = memory + key[:, :, index].mT @ values
    return outputs.flatten(2, 3).transpose(1, 2)


def looped(shrink: Tensor, key: Tensor, written: Tensor, erased: Tensor, memory: Tensor) -> Tensor:
    """The loop over chunks on views."""
    outputs = []
    for reads, keys, values, erasing in zip(*(part.unbind(2) for part in (shrink, key, written, erased)), strict=True):
        values = values - erasing @ memory
        outputs.append(reads @ memory + (reads @ keys.mT).tril() @ values)
        memory = memory + keys.mT @ values
    return torch.cat(outputs, 2).transpose(1, 2)


def solved(data: Data, size: int = 64) -> Tensor:
    """The same with one triangular solve per chunk and stacked outputs: the best plain form that we know."""
    shrink, key, inputs, beta = (chunks(v, size) for v in (data.shrink, data.key, data.inputs, data.beta))
    lower = ((key * beta) @ key.mT).tril(-1)
    right = torch.cat([inputs * beta, key * beta], -1)
    right = torch.linalg.solve_triangular(lower + torch.eye(size), right, upper=False, unitriangular=True)
    written, erased = right.split([inputs.shape[-1], key.shape[-1]], -1)
    return looped(shrink, key, written, erased, inputs.new_zeros(*inputs.shape[:2], key.shape[-1], inputs.shape[-1]))


def timed(arms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each arm, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats + 1):
        for name, arm in arms.items():
            start = time.process_time()
            arm()
            if repeat > 0:
                times[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def both_ways(function: Callable[[Data], Tensor], data: Data, tied: bool) -> Callable[[], object]:
    """Forward and backward."""

    def step() -> object:
        outputs = function(data)
        return torch.autograd.grad(outputs, data.leaves(tied), torch.ones_like(outputs))

    return step


def forward(function: Callable[[Data], Tensor], data: Data) -> Callable[[], object]:
    """Forward alone, without gradients."""

    def step() -> object:
        with torch.no_grad():
            return function(data)

    return step


def error(function: Callable[[Data], Tensor], decay: str | None, tied: bool, data: Data) -> float:
    """Relative error of float32 against the recurrence in float64."""
    wide: dict[str, Any] = {
        name: None if value is None else value.detach().double() for name, value in vars(data).items()
    }
    with torch.no_grad():
        expected = form(reference, decay, tied)(Data(**wide))
        return float((function(data).double() - expected).norm() / expected.norm())


def compare(console: Console, sizes: argparse.Namespace) -> None:
    """Ours against the baselines, on the delta rule without decay."""
    data = make(None, 1.0, sizes, sizes.length)
    functions: dict[str, Callable[[Data], Tensor]] = {
        "lcsm delta": form(delta, None, True),
        "published, chunk 32": published,
        "published, on views": partial(published, indexed=False),
        "one solve, chunk 64": solved,
    }
    steps = timed({name: both_ways(function, data, True) for name, function in functions.items()}, sizes.repeats)
    reads = timed({name: forward(function, data) for name, function in functions.items()}, sizes.repeats)
    table = Table(title=f"delta rule, B={sizes.batch} L={sizes.length} H={sizes.heads} N={sizes.state} P={sizes.value}")
    for column in ("form", "forward ms", "f+b ms", "f+b / ours", "goal", "error"):
        table.add_column(column, justify="left" if column == "form" else "right")
    for name, function in functions.items():
        goal = f">= {GOAL}" if name == "published, chunk 32" else ""
        ratio = f"{steps[name] / steps['lcsm delta']:.2f}"
        wrong = f"{error(function, None, True, data):.0e}"
        table.add_row(name, f"{reads[name]:.1f}", f"{steps[name]:.1f}", ratio, goal, wrong)
    console.print(table)


def family(console: Console, sizes: argparse.Namespace) -> None:
    """Ours over the structures of the family, with the growth from a short to a long sequence."""
    table = Table(title="family: ms at the workload, then us per token at B=1 (goal: ratio <= 1.3)")
    for column in ("structure", "forward ms", "f+b ms", "error", f"L={sizes.length}", f"L={sizes.long}", "ratio"):
        table.add_column(column, justify="left" if column == "structure" else "right")
    for name, (decay, strength, tied) in ARMS.items():
        function, data = form(delta, decay, tied), make(decay, strength, sizes, sizes.length)
        found = timed({"f": forward(function, data), "fb": both_ways(function, data, tied)}, sizes.repeats)
        one = argparse.Namespace(**{**vars(sizes), "batch": 1})
        arms = {
            length: both_ways(function, make(decay, strength, one, length), tied)
            for length in (sizes.length, sizes.long)
        }
        times = timed({str(length): arm for length, arm in arms.items()}, sizes.repeats)
        short, long_ = (times[str(length)] / length * 1e3 for length in arms)
        wrong = f"{error(function, decay, tied, data):.0e}"
        cells = [f"{found['f']:.1f}", f"{found['fb']:.1f}", wrong, f"{short:.1f}", f"{long_:.1f}"]
        table.add_row(name, *cells, f"{long_ / short:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"batch": 4, "length": 2048, "heads": 4, "state": 64, "value": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--long", type=int, default=16384, help="length of the growth measurement")
    parser.add_argument("--repeats", type=int, default=7, help="measured repeats of every step")
    sizes = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    machine = platform.processor() or platform.machine()
    console.print(f"torch {torch.__version__}, {machine}, 1 thread, load {os.getloadavg()[0]:.1f}, CPU time, median")
    compare(console, sizes)
    family(console, sizes)


if __name__ == "__main__":
    main()
