"""Compare `lcsm.ops.chunk` with the plain batched forms of the literature: CPU time, median of interleaved runs.

    python benchmarks/chunk.py                        # the workload of the goals: B=4 L=2048 H=4 N=P=64, one thread
    python benchmarks/chunk.py --length 512 --long 2048 --repeats 3

The other forms are written here as their sources write them and left to autograd. All take the same [B L H .] tensors.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lcsm.ops.chunk.chunk import chunk
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import Diagonal

DECAYS = {"none": None, "scalar": "LH", "rows": "LHN", "columns": "LHP", "both": "LHN+LHP"}
# nats per step: the strong arm leaves the range of the midpoint form in every chunk
STRONG = 40.0


@dataclass
class Data:
    """One set of inputs, [B L H .], with the log-decays of rows and columns, None where there are none."""

    shrink: Tensor
    expand: Tensor
    inputs: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None

    def leaves(self) -> list[Tensor]:
        return [value for value in vars(self).values() if value is not None]


def make(decay: str, sizes: argparse.Namespace, length: int, strength: float = 1.0) -> Data:
    torch.manual_seed(0)
    base = (sizes.batch, length, sizes.heads)

    def log_decay(size: int) -> Tensor:
        return F.logsigmoid(torch.randn(*base, size) + 3) * strength

    data = Data(
        torch.randn(*base, sizes.state) / sizes.state**0.5,
        F.normalize(torch.randn(*base, sizes.state), dim=-1),
        torch.randn(*base, sizes.value),
        {"scalar": log_decay(1), "rows": log_decay(sizes.state), "both": log_decay(sizes.state)}.get(decay),
        log_decay(sizes.value) if decay in ("columns", "both") else None,
    )
    for leaf in data.leaves():
        leaf.requires_grad_()
    return data


def ours(decay: str, sizes: argparse.Namespace) -> Callable[[Data], Tensor]:
    spec = RecurrenceSpec(
        kind="diagonal",
        decay=DECAYS[decay],
        expand="LHN",
        shrink="LHN",
        num_heads=sizes.heads,
        state_dim=sizes.state,
        value_dim=sizes.value,
    )

    def run(data: Data) -> Tensor:
        rows = torch.zeros(1, 1, 1, 1, 1) if data.rows is None else data.rows[..., None]
        columns = None if data.columns is None else data.columns[..., None, :]
        structure = Diagonal(log_decay=rows, columns=columns)
        return chunk(spec, structure, data.inputs, data.expand[..., None], data.shrink[..., None])[0]

    return run


def blocks(values: Tensor, size: int) -> Tensor:
    """[B L H N] as [B H L/C C N]."""
    return values.transpose(1, 2).unflatten(2, (-1, size))


def joined(values: Tensor) -> Tensor:
    return values.flatten(2, 3).transpose(1, 2)


def batched_sums(data: Data, size: int = 64) -> Tensor:
    """Chunked linear attention with running sums of all chunks at once (fla naive_chunk_linear_attn)."""
    q, k, v = (blocks(value, size) for value in (data.shrink, data.expand, data.inputs))
    memory = k.transpose(-1, -2) @ v
    memory = memory.cumsum(2) - memory
    return joined(q @ memory + (q @ k.transpose(-1, -2)).tril() @ v)


def segment_sums(values: Tensor) -> Tensor:
    size = values.shape[-1]
    mask = torch.ones(size, size, dtype=torch.bool).tril(-1)
    sums = values[..., None].expand(*values.shape, size).masked_fill(~mask, 0).cumsum(-2)
    return sums.masked_fill(~mask.fill_diagonal_(True), -torch.inf)


def ssd_minimal(data: Data, size: int = 64) -> Tensor:
    """state-spaces/mamba, modules/ssd_minimal.py."""
    assert data.rows is not None
    x, b, c = (value.unflatten(1, (-1, size)) for value in (data.inputs, data.expand, data.shrink))
    a = data.rows[..., 0].unflatten(1, (-1, size)).permute(0, 3, 1, 2)
    total = a.cumsum(-1)
    near = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", c, b, segment_sums(a).exp(), x)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", b, (total[..., -1:] - total).exp(), x)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], 1)
    decay = segment_sums(F.pad(total[..., -1], (1, 0))).exp()
    states = torch.einsum("bhzc,bchpn->bzhpn", decay, states)[:, :-1]
    far = torch.einsum("bclhn,bchpn,bhcl->bclhp", c, states, total.exp())
    return (near + far).flatten(1, 2)


def carried(written: Tensor, decay: Tensor) -> Tensor:
    """Memories before every chunk from what each writes and what it keeps, [B H n N P]."""
    memory, found = torch.zeros_like(written[:, :, 0]), []
    for write, keep in zip(written.unbind(2), decay.unbind(2), strict=True):
        found.append(memory)
        memory = torch.addcmul(write, memory, keep)
    return torch.stack(found, 2)


def batched_midpoint(data: Data, size: int = 32) -> Tensor:
    """All chunks at once, scaled to the middle of each (the factored form of 2312.06635); rows, columns or both."""
    q, k, v = (blocks(value, size) for value in (data.shrink, data.expand, data.inputs))
    keep: Tensor | float = 1.0
    after: Tensor | float = 1.0
    read, write, k_end, v_end = q, k, k, v
    if data.rows is not None:
        total = blocks(data.rows, size).cumsum(3)
        middle, end = total[:, :, :, size // 2 - 1, None], total[:, :, :, -1:]
        read, write, q = q * (total - middle).exp(), k * (middle - total).exp(), q * total.exp()
        k_end, keep = k * (end - total).exp(), end.exp().transpose(3, 4)
    if data.columns is not None:
        total = blocks(data.columns, size).cumsum(3)
        middle, end = total[:, :, :, size // 2 - 1, None], total[:, :, :, -1:]
        v, v_end, after, keep = v * (middle - total).exp(), v * (end - total).exp(), total, keep * end.exp()
    written = k_end.transpose(-1, -2) @ v_end
    memory = carried(written, torch.as_tensor(keep).expand_as(written))
    near, far = (read @ write.transpose(-1, -2)).tril() @ v, q @ memory
    if data.columns is not None:
        near, far = near * (after - middle).exp(), far * torch.as_tensor(after).exp()
    return joined(near + far)


def batched_scalar(data: Data, size: int = 32) -> Tensor:
    """All chunks at once with the decays of all pairs of a chunk."""
    assert data.rows is not None
    q, k, v = (blocks(value, size) for value in (data.shrink, data.expand, data.inputs))
    total = blocks(data.rows, size).cumsum(3)
    mask = torch.ones(size, size, dtype=torch.bool).triu(1)
    pairs = (total - total.transpose(3, 4)).masked_fill(mask, -1e9).exp()
    written = (k * (total[:, :, :, -1:] - total).exp()).transpose(-1, -2) @ v
    memory = carried(written, total[:, :, :, -1:].exp().expand_as(written))
    return joined((q * total.exp()) @ memory + ((q @ k.transpose(-1, -2)) * pairs) @ v)


def quadratic(data: Data) -> Tensor:
    """All pairs of the sequence."""
    q, k, v = (value.transpose(1, 2) for value in (data.shrink, data.expand, data.inputs))
    return ((q @ k.transpose(-1, -2)).tril() @ v).transpose(1, 2)


def softmax(data: Data) -> Tensor:
    """torch's fused causal attention, which computes something else."""
    q, k, v = (value.transpose(1, 2) for value in (data.shrink, data.expand, data.inputs))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def timed(arms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of CPU time of every arm; one run of each in turn, after one run that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, arm in arms.items():
            start = time.process_time()
            arm()
            if turn:
                times[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def both_ways(forms: dict[str, Callable[[Data], Tensor]], data: Data, repeats: int) -> dict[str, tuple[float, float]]:
    """Milliseconds forward, and forward with backward, of every form."""
    weight = torch.randn_like(data.inputs)

    def forward(form: Callable[[Data], Tensor]) -> None:
        with torch.no_grad():
            form(data)

    def full(form: Callable[[Data], Tensor]) -> None:
        torch.autograd.grad(form(data), data.leaves(), weight, allow_unused=True)

    once = timed({name: lambda form=form: forward(form) for name, form in forms.items()}, repeats)  # type: ignore[misc]
    twice = timed({name: lambda form=form: full(form) for name, form in forms.items()}, repeats)  # type: ignore[misc]
    return {name: (once[name], twice[name]) for name in forms}


def compare(console: Console, sizes: argparse.Namespace) -> None:
    """Ours against the others, structure by structure."""
    others: dict[str, dict[str, Callable[[Data], Tensor]]] = {
        "none": {"batched sums": batched_sums, "quadratic": quadratic, "softmax (SDPA)": softmax},
        "scalar": {"ssd_minimal": ssd_minimal, "batched pairs": batched_scalar},
        "rows": {"batched midpoint": batched_midpoint},
        "columns": {"batched midpoint": batched_midpoint},
        "both": {"batched midpoint": batched_midpoint},
    }
    table = Table("decay", "form", "forward ms", "forward + backward ms", "ours is faster by", "difference")
    for decay, forms in others.items():
        data, mine = make(decay, sizes, sizes.length), ours(decay, sizes)
        times = both_ways({"lcsm chunk": mine, **forms}, data, sizes.repeats)
        expected = mine(data).detach()
        for name, (once, twice) in times.items():
            other = {"lcsm chunk": mine, **forms}[name](data).detach()
            difference = "" if form_differs(name) else f"{(other - expected).norm() / expected.norm():.0e}"
            ratio = f"{twice / times['lcsm chunk'][1]:.2f}"
            table.add_row(decay, name, f"{once:.1f}", f"{twice:.1f}", ratio, difference)
    console.print(table)


def form_differs(name: str) -> bool:
    return name.startswith("softmax")


def growth(console: Console, sizes: argparse.Namespace) -> None:
    """Time per token at two lengths, and with decays that need the exact form."""
    table = Table("decay", "us/token forward", f"at {sizes.long}", "us/token forward + backward", f"at {sizes.long}")
    for name, strength in [*((decay, 1.0) for decay in DECAYS), ("scalar", STRONG), ("rows", STRONG)]:
        short, long = (
            both_ways({"": ours(name, sizes)}, make(name, sizes, length, strength), max(2, sizes.repeats // 2))[""]
            for length in (sizes.length, sizes.long)
        )
        cells = []
        for index in (0, 1):
            first = short[index] * 1e3 / (sizes.batch * sizes.length)
            last = long[index] * 1e3 / (sizes.batch * sizes.long)
            cells += [f"{first:.2f}", f"{last:.2f} ({last / first:.2f} x)"]
        table.add_row(name if strength == 1 else f"{name}, strong", *cells)
    console.print(table)


def floor(console: Console, sizes: argparse.Namespace) -> None:
    """What the matrix products alone would cost at the measured rates."""
    square, left = torch.randn(1024, 1024), torch.randn(sizes.batch * sizes.heads, 64, 64)
    count = 20
    arms = {"1024": lambda: square @ square, "batched": lambda: [left @ left for _ in range(count)]}
    times = timed(arms, 7)
    rates = 2 * 1024**3 / times["1024"] / 1e6, count * 2 * left.shape[0] * 64**3 / times["batched"] / 1e6
    products = 64 * (sizes.state + sizes.value) + 2 * sizes.state * sizes.value
    backward = 64 * (3 * sizes.state + 2 * sizes.value) + 4 * sizes.state * sizes.value
    tokens = 2e-6 * sizes.batch * sizes.heads * sizes.length
    once, twice = tokens * products / rates[1], tokens * (products + backward) / rates[1]
    console.print(
        f"matrix products: {rates[0]:.0f} GFLOP/s (1024), {rates[1]:.0f} (batched 64); floor at the batched rate: "
        f"forward {once:.1f} ms, with backward {twice:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="time chunked matrix products against plain forms")
    for name, default in (("batch", 4), ("length", 2048), ("heads", 4), ("state", 64), ("value", 64), ("long", 16384)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    sizes = parser.parse_args()
    torch.set_num_threads(sizes.threads)
    console = Console()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    console.print(
        f"{machine}, torch {torch.__version__}, "
        f"{sizes.threads} thread(s), B={sizes.batch} L={sizes.length} H={sizes.heads} N={sizes.state} P={sizes.value}, "
        "float32, process CPU time, median"
    )
    floor(console, sizes)
    compare(console, sizes)
    growth(console, sizes)


if __name__ == "__main__":
    main()
