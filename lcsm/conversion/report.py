"""The report of a conversion beside its checkpoint: tables as CSV and Markdown, and a figure."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from io import BytesIO, StringIO
from math import isnan
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from lcsm.conversion.measure import Row
from lcsm.conversion.modal import Certificate
from lcsm.conversion.model import Converted
from lcsm.ops.hankel import lower_bound
from lcsm.shapes import Tensor

# columns that people read first, by title
SHOWN: dict[str, Callable[[Row], str]] = {
    "convolution": lambda row: row.convolution.removeprefix("backbone.layers.").removesuffix(".mixer"),
    "method": lambda row: row.method,
    "taps": lambda row: str(row.taps),
    "order": lambda row: str(row.order_max),
    "least": lambda row: str(row.least_max),
    "kernel": lambda row: short(row.kernel_error),
    "beyond": lambda row: short(row.beyond),
    "output": lambda row: short(row.output_error),
    "bytes": lambda row: f"{size(row.state_before)}→{size(row.state_after)}",
    "µs": lambda row: f"{row.microseconds_before:.0f}→{row.microseconds_after:.0f}",
}
LEGEND = (
    "Per layer. taps: exact first lags. order: real states beside them, of the most demanding channel. least: fewest "
    "states of any recurrence that meets the tolerance, where taps behind the first one count as states. kernel, "
    "output: relative errors (2-norm), the output's on held-out text. beyond: what is remembered after the promised "
    "tokens. bytes of one sequence's memory and µs per token: streamed exactly (stream=auto) → converted."
)
# what is remembered beyond the promised tokens, relative to the kernel, and is no more than rounding in float32
NOTHING = 1e-6
# convolutions that the figure shows at most
DRAWN = 8


def short(value: float) -> str:
    """A small number in few characters, a dash for what was not measured."""
    if isnan(value):
        return "-"
    return f"{value:.1e}".replace("e-0", "e-")


def size(count: int) -> str:
    """A number of bytes in few characters."""
    return f"{count / 1024:.3g}K" if count < 1 << 20 else f"{count / (1 << 20):.3g}M"


class Score(NamedTuple):
    """A validation metric before and after."""

    metric: str
    before: float
    after: float


def cells(row: Row) -> list[str]:
    """The shown columns of a row as text."""
    return [cell(row) for cell in SHOWN.values()]


def holds(converted: Converted, rows: Sequence[Row]) -> int | None:
    """Tokens up to which the conversion holds; None for a text of any length."""
    lags, held = min(converted.lags), max(site.lags for site in converted.sites)
    return None if lags >= held and max(row.beyond for row in rows) < NOTHING else lags


def promise(converted: Converted, rows: Sequence[Row]) -> str:
    """The length up to which the conversion holds."""
    lags, worst = min(converted.lags), max(row.beyond for row in rows)
    held = max(site.lags for site in converted.sites)
    if lags < held:
        return f"Holds up to {lags} tokens, although the convolution remembers {held}: lags={held} keeps them all."
    if holds(converted, rows) is None:
        return f"Holds for texts of any length: nothing is remembered beyond {lags} tokens."
    return (
        f"Holds up to {lags} tokens. From there on the convolution forgets what is older than its memory, while the "
        f"recurrence still remembers {worst:.2g} of it (relative 2-norm of the kernel); lags=N asks for N tokens."
    )


def warning(rows: Sequence[Row], tolerance: float) -> str | None:
    """The sentence where nothing met the tolerance."""
    worst = max(row.kernel_error for row in rows)
    if worst <= tolerance:
        return None
    return f"No method meets tolerance={tolerance:g}: the largest error of a kernel is {worst:.2g}."


def markdown(converted: Converted, rows: Sequence[Row], scores: Sequence[Score], tolerance: float) -> str:
    """The whole report."""
    lines = [f"# {converted.config['name']}: long convolutions as recurrences", "", promise(converted, rows), ""]
    if missed := warning(rows, tolerance):
        lines += [missed, ""]
    lines += [f"| {' | '.join(SHOWN)} |", "|" + " --- |" * len(SHOWN)]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows]
    lines += ["", f"Tolerance {tolerance:g}. {LEGEND}"]
    if scores:
        lines += ["", "| metric | before | after | relative change |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {s.metric} | {s.before:.6g} | {s.after:.6g} | {change(s):.2g} |" for s in scores]
    return "\n".join(lines) + "\n"


def change(score: Score) -> float:
    """The relative change of a metric."""
    return (score.after - score.before) / score.before if score.before else 0.0


def table(rows: Sequence[Row]) -> str:
    """All columns as CSV."""
    target = StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    return target.getvalue()


def figure(converted: Converted) -> bytes:
    """A PNG: for each convolution the kernel and fit of its worst channel, and Hankel spectra of all channels."""
    count = min(DRAWN, len(converted.sites))
    drawing = Figure(figsize=(12, 2.6 * count), layout="constrained")
    axes = drawing.subplots(count, 3, squeeze=False)
    for row, site, choice, lags in zip(axes, converted.sites, converted.choices, converted.lags, strict=False):
        fit, channel = choice.fit, int(choice.fit.errors.argmax())
        worst = torch.tensor([channel])
        kernel, found = site.kernel(lags)[channel], fit.system.select(worst).kernel(2 * lags)[0]
        row[0].plot(kernel, label="convolution", linewidth=2)
        row[0].plot(found, label=choice.method, linewidth=1)
        row[0].set(title=f"{site.name.removeprefix('backbone.')}: kernel of channel {channel}", xlabel="lag")
        row[0].legend()
        row[1].semilogy((found[:lags] - kernel).abs().clamp_min(1e-12))
        row[1].set(title=f"its error, order {int(fit.orders[channel])}", xlabel="lag")
        draw_spectrum(row[2], fit.certificate, site.kernel(lags).norm(dim=1))
    target = BytesIO()
    drawing.savefig(target, format="png", dpi=100)
    return target.getvalue()


def draw_spectrum(axis: object, found: Certificate, norms: Tensor) -> None:
    """The error out of reach of any recurrence, against its order, over the channels."""
    if found.values.shape[1] == 0:
        return
    bounds = lower_bound(found.values, max(1, found.rows))[:, :-1] / norms.clamp_min(1e-300)[:, None]
    levels = torch.quantile(bounds.clamp_min(1e-12), torch.tensor([0.0, 0.5, 1.0], dtype=bounds.dtype), dim=0)
    orders = torch.arange(bounds.shape[1])
    axis.semilogy(orders, levels[1], label="median channel")  # type: ignore[attr-defined]
    axis.fill_between(orders, levels[0], levels[2], alpha=0.3, label="all channels")  # type: ignore[attr-defined]
    axis.set(title="least possible error (Hankel spectrum)", xlabel="order")  # type: ignore[attr-defined]
    axis.legend()  # type: ignore[attr-defined]
