"""Errors and times of long convolutions as streams and recurrences.

python experiments/etsc/run.py error fit time plot         all sections, some minutes on one core
python experiments/etsc/run.py time --quick                one section, small sizes

Each section writes a CSV beside this file; plot draws what is there. See README.md.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.progress import track

from lcsm.conversion.etsc import etsc, reference_etsc, reference_outputs, rounding_etsc
from lcsm.conversion.modal import certificate, search
from lcsm.conversion.system import ModalSystem, relative_error
from lcsm.ops.hankel import lower_bound
from lcsm.ops.streaming.base import Convolver, convolve
from lcsm.ops.streaming.boxes import Boxes, Piece
from lcsm.ops.streaming.ring import Ring
from lcsm.ops.streaming.tiles import Tiles
from lcsm.stages.long_convolution.hyena import HyenaKernel
from lcsm.stages.long_convolution.toeplitz import ToeplitzKernel

FOLDER = Path(__file__).parent
CHANNELS, WIDTH = 3, 64
Tensor = torch.Tensor


def kernels(length: int) -> dict[str, tuple[Tensor, float]]:
    """Coefficients [C n] and the decay that they carry, by kind."""
    torch.manual_seed(length)
    white = torch.randn(CHANNELS, length)
    return {
        "white": (white, 1.0),
        "uniform (0, 10)": (10 * torch.rand(CHANNELS, length), 1.0),
        "white 0.99^k": (white * 0.99 ** torch.arange(length), 0.99),
    }


def streamed(convolver: Convolver, x: Tensor) -> Tensor:
    """Token by token."""
    outputs, place = [], None
    for t in range(x.shape[1]):
        output, place = convolver(x[:, t : t + 1], place)
        outputs.append(output)
    return torch.cat(outputs, 1)


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def ways(kernel: Tensor, gamma: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """From inputs [1 n C] to outputs, all in single precision."""
    taps = kernel.t().contiguous()
    # the release decays by its eigenvalues, from the coefficients before the decay
    raw = kernel / gamma ** torch.arange(kernel.shape[1])
    system = rounding_etsc(kernel)
    return {
        "released recurrence": lambda x: reference_outputs(*reference_etsc(raw, gamma), x),
        "recurrence, rounded": lambda x: streamed(system.rounded().stream(), x),
        "recurrence, stream=etsc": lambda x: streamed(system.stream(), x),
        "tiles": lambda x: streamed(Tiles(taps), x),
        "ring": lambda x: streamed(Ring(taps), x),
        "FFT": lambda x: convolve(x, taps),
    }


def error(quick: bool) -> Iterator[dict[str, Any]]:
    """Relative error (2-norm) of outputs for white inputs, and of the kernel that the weights alone give."""
    for length in (64, 512) if quick else (64, 512, 2048, 8192):
        for kind, (kernel, gamma) in kernels(length).items():
            x = torch.randn(1, length, CHANNELS)
            exact = convolve(x.double(), kernel.double().t())
            for way, run in ways(kernel, gamma).items():
                yield {"n": length, "kernel": kind, "way": way, "error": relative(run(x), exact)}
            if length <= 512:
                fit = gradient(kernel.double(), length // 2, 400 if quick else 1500).rounded()
                yield {
                    "n": length,
                    "kernel": kind,
                    "way": "gradient fit",
                    "error": relative(streamed(fit.stream(), x), exact),
                }


def gradient(kernel: Tensor, modes: int, steps: int) -> ModalSystem:
    """A modal fit by Adam on log-decays, angles, residues and the tap at lag 0, from a random start."""
    count, length = kernel.shape
    lags = torch.arange(length - 1, dtype=torch.float64)
    rate = torch.empty(count, modes, dtype=torch.float64).uniform_(-7, -2).requires_grad_()
    angle = (torch.rand(count, modes, dtype=torch.float64) * torch.pi).requires_grad_()
    weights = (0.1 * kernel.std() * torch.randn(count, modes, 2, dtype=torch.float64)).requires_grad_()
    first = kernel[:, :1].clone()
    optimiser = torch.optim.Adam([rate, angle, weights], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, least = None, torch.full((count,), torch.inf, dtype=torch.float64)
    for _ in range(steps):
        optimiser.zero_grad()
        powers = (-rate.exp()[..., None] * lags).exp()
        turns = angle[..., None] * lags
        found = (powers * (weights[..., :1] * turns.cos() - weights[..., 1:] * turns.sin())).sum(1)
        missed = (found - kernel[:, 1:]).square().sum(1) / kernel.square().sum(1)
        if float(missed.detach().sum()) < float(least.sum()):
            least = missed.detach()
            values = torch.polar((-rate.detach().exp()).exp(), angle.detach())
            best = ModalSystem(first, values, torch.view_as_complex(weights.detach().clone()))
        missed.sum().backward()
        optimiser.step()
        schedule.step()
    assert best is not None, "the first step is better than nothing"
    return best


def fitted_kernels(length: int) -> dict[str, Tensor]:
    """Kernels of untrained models and of systems with known or no structure, [C n] in double precision."""
    torch.manual_seed(0)
    lags = torch.arange(length, dtype=torch.float64)
    tnn = ToeplitzKernel(
        CHANNELS, length, 1, 64, 6, "relu", "simple_rms", 1e-8, True, False, "raw", None, "fixed", 0.99, "identity"
    )
    hyena = HyenaKernel(CHANNELS, length, 1, 0, {}, 2, length, 33, 64, 2, 14.0, True, [1.5, 0.3], 0.01, 0.0, False)
    rates = torch.exp(-0.5 * 0.05 + 1j * torch.pi * 0.05 * torch.arange(32, dtype=torch.float64))
    s4d = (torch.randn(CHANNELS, 32, 1, dtype=torch.complex128) * rates[:, None] ** lags).sum(1).real
    with torch.no_grad():
        found = {"TNN": tnn.kernel(length)[..., 0].double(), "Hyena": hyena.kernel(length)[..., 0].double()}
    white = torch.randn(CHANNELS, length, dtype=torch.float64)
    return {**found, "S4D, 64 states": s4d, "white 0.99^k": white * 0.99**lags, "white": white}


def fit(quick: bool) -> Iterator[dict[str, Any]]:
    """Largest relative error of a kernel over the channels, against the order, and what is out of reach for any."""
    length = 128 if quick else 512
    for kind, kernel in fitted_kernels(length).items():
        values, rows = certificate(kernel, 1e-9, length)[1:]
        bound = lower_bound(values, rows) / kernel.norm(dim=1)[:, None]
        for order in (8, 32) if quick else (8, 16, 32, 64):
            _, errors = search(kernel, 1e-9, 1, order)
            found = gradient(kernel, order // 2, 200 if quick else 1500)
            adam = relative_error(found.kernel(length), kernel)
            yield {
                "kernel": kind,
                "order": order,
                "lower bound": float(bound[:, order].max()),
                "modal": float(errors.max()),
                "gradient": float(adam.max()),
            }


def growing_cache(kernel: Tensor) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """What the release is compared with: the whole past is copied and multiplied at every token."""
    taps = kernel.flip(0)[:, None]

    def step(x: Tensor, past: Any) -> tuple[Tensor, Any]:
        past = x.transpose(0, 1) if past is None else torch.cat([past, x.transpose(0, 1)])
        return (past[-len(taps) :] * taps[-len(past) :]).sum(0)[:, None], past

    return step


def whole_again(kernel: Tensor) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
    """One FFT of the last K tokens per token."""

    def step(x: Tensor, past: Any) -> tuple[Tensor, Any]:
        past = x if past is None else torch.cat([past, x], 1)[:, -len(kernel) :]
        return convolve(past, kernel)[:, -1:], past

    return step


def steppers(length: int) -> dict[str, Callable[[Tensor, Any], tuple[Tensor, Any]]]:
    """Every way to take one token, for a kernel of some length."""
    torch.manual_seed(0)
    kernel, taps = torch.randn(length, WIDTH), 8
    pieces, offset = [], 0
    while offset < length:
        factor = 2 ** max(0, len(pieces) - 1)
        pieces.append(Piece(torch.randn(taps, WIDTH), factor, offset))
        offset += taps * factor
    values = torch.polar(torch.full((WIDTH, 8), 0.99), torch.rand(WIDTH, 8) * 3)
    modal = ModalSystem(torch.randn(WIDTH, 1), values, torch.randn(WIDTH, 8, dtype=torch.complex64))
    hybrid = ModalSystem(torch.randn(WIDTH, 32), values, torch.randn(WIDTH, 8, dtype=torch.complex64))
    return {
        "whole FFT again": whole_again(kernel),
        "growing cache": growing_cache(kernel),
        "ring": Ring(kernel),
        "tiles": Tiles(kernel),
        "boxes (SGConv, 8 taps)": Boxes(pieces, "linear"),
        "etsc": etsc(kernel.t()).stream(),
        "hybrid (32 taps, order 16)": hybrid.stream(),
        "modal (order 16)": modal.stream(),
    }


def timed(step: Callable[[Tensor, Any], tuple[Tensor, Any]], tokens: int, limit: float) -> list[float]:
    """Seconds of every token of one sequence, as many as the limit allows."""
    x, place, found = torch.randn(1, 1, WIDTH), None, []
    with torch.inference_mode():
        while len(found) < tokens and sum(found) < limit:
            begin = time.perf_counter()
            _, place = step(x, place)
            found.append(time.perf_counter() - begin)
    return found


def times(quick: bool) -> Iterator[dict[str, Any]]:
    """Microseconds per token after the kernel was filled once, and how much later tokens cost than earlier ones."""
    for length in (64, 512) if quick else (64, 256, 1024, 4096, 16384):
        for way, step in steppers(length).items():
            seconds = timed(step, 2 * length + 64, 2.0 if quick else 8.0)
            late = seconds[len(seconds) // 2 :]
            yield {
                "n": length,
                "way": way,
                "tokens": len(seconds),
                "mean": 1e6 * sum(late) / len(late),
                "median": 1e6 * sorted(late)[len(late) // 2],
                "largest": 1e6 * max(late),
            }


def write(name: str, rows: list[dict[str, Any]]) -> None:
    with (FOLDER / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def read(name: str) -> list[dict[str, str]]:
    path = FOLDER / f"{name}.csv"
    return list(csv.DictReader(path.open())) if path.exists() else []


def lines(axis: Any, rows: list[dict[str, str]], x: str, y: str, label: str) -> None:
    """One line for each value of a column."""
    for name in dict.fromkeys(row[label] for row in rows):
        chosen = [row for row in rows if row[label] == name]
        axis.loglog([float(row[x]) for row in chosen], [float(row[y]) for row in chosen], marker="o", label=name)
    axis.set(xlabel=x, ylabel=y)
    axis.grid(True, alpha=0.3)


def plot() -> None:
    """One picture for each section that has a table."""
    errors, fits, seconds = read("error"), read("fit"), read("time")
    if errors:
        drawing = Figure(figsize=(15, 4.5), layout="constrained")
        kinds = list(dict.fromkeys(row["kernel"] for row in errors))
        for axis, kind in zip(drawing.subplots(1, len(kinds), sharey=True), kinds, strict=True):
            lines(axis, [row for row in errors if row["kernel"] == kind], "n", "error", "way")
            axis.set_title(kind)
        axis.legend(fontsize="small")
        drawing.savefig(FOLDER / "error.png", dpi=100)
    if fits:
        drawing = Figure(figsize=(15, 4), layout="constrained")
        kinds = list(dict.fromkeys(row["kernel"] for row in fits))
        for axis, kind in zip(drawing.subplots(1, len(kinds), sharey=True), kinds, strict=True):
            rows = [row for row in fits if row["kernel"] == kind]
            for way in ("lower bound", "modal", "gradient"):
                values = [max(float(row[way]), 1e-9) for row in rows]
                axis.loglog([int(row["order"]) for row in rows], values, marker="o", label=way)
            axis.set(title=kind, xlabel="order", ylim=(1e-9, 2))
            axis.grid(True, alpha=0.3)
        axis.legend()
        drawing.savefig(FOLDER / "fit.png", dpi=100)
    if seconds:
        drawing = Figure(figsize=(8, 5), layout="constrained")
        axis = drawing.subplots()
        lines(axis, seconds, "n", "mean", "way")
        axis.set(
            ylabel="microseconds per token", xlabel="lags of the kernel", title=f"{WIDTH} channels, one CPU thread"
        )
        axis.legend(fontsize="small")
        drawing.savefig(FOLDER / "time.png", dpi=100)


SECTIONS: dict[str, Callable[[bool], Iterator[dict[str, Any]]]] = {"error": error, "fit": fit, "time": times}


def main(words: list[str]) -> None:
    torch.set_num_threads(1)
    unknown = set(words) - {*SECTIONS, "plot", "--quick"}
    if unknown:
        sys.exit(f"{sorted(unknown)[0]!r} is none of {', '.join([*SECTIONS, 'plot', '--quick'])}")
    chosen = [word for word in words if word != "--quick"] or [*SECTIONS, "plot"]
    for name in chosen:
        if name != "plot":
            write(name, list(track(SECTIONS[name]("--quick" in words), description=name, total=None)))
    if "plot" in chosen:
        plot()


if __name__ == "__main__":
    main(sys.argv[1:])
