"""Costs and gains of a conversion: errors on text, time per token, state."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import nan
from typing import Any, NamedTuple

import torch
from torch import nn

from lcsm.conversion.model import Converted
from lcsm.conversion.streams import attach
from lcsm.conversion.system import ModalSystem
from lcsm.mixers.eos import EosMixer
from lcsm.models.language_model import LanguageModel
from lcsm.models.long_convolutions import Site
from lcsm.shapes import Tensor, Tokens
from lcsm.structures import Context

# tokens before and while the time of a step is taken
WARM, TIMED = 16, 64
# how far beyond the promised lags the kernel of a recurrence is looked at
BEYOND = 4
BYTES = 4


class Row(NamedTuple):
    """One long convolution in the report.

    Args:
        convolution: name of its module.
        method: how it was converted.
        lags: tokens up to which the conversion holds.
        taps, modes: exact first lags and complex modes per channel; modes are those of the most demanding channel.
        order_median, order_max: real states of the channels beside the taps.
        least_median, least_max: smallest order that any recurrence needs for the tolerance (a lower bound).
        kernel_error: largest relative 2-norm over the channels, after rounding.
        beyond: what the recurrence still remembers after its promised lags (2-norm up to four times as many, largest
            over the channels), relative to the kernel.
        output_error: relative 2-norm of the outputs of the layer on held-out text, given the same inputs.
        state_before, state_after: bytes of one sequence's memory.
        microseconds_before, microseconds_after: per token of one sequence, streamed with `stream=auto`.
    """

    convolution: str
    method: str
    lags: int
    taps: int
    modes: int
    order_median: float
    order_max: int
    least_median: float
    least_max: int
    kernel_error: float
    beyond: float
    output_error: float
    state_before: int
    state_after: int
    microseconds_before: float
    microseconds_after: float


def rows(before: LanguageModel, converted: Converted, batches: Iterable[tuple[Tokens, Context | None]]) -> list[Row]:
    """The report, one row for every long convolution.

    Args:
        before: the model that was converted, in eval mode.
        converted: what came out.
        batches: held-out text.
    """
    outputs = output_errors(before, converted, batches)
    streamed, recurrent = copy.deepcopy(before), copy.deepcopy(converted.model)
    convolvers = attach(streamed, "auto")
    attach(recurrent, "auto")
    found = []
    for index, (site, choice, lags) in enumerate(zip(converted.sites, converted.choices, converted.lags, strict=True)):
        system, fit = choice.fit.system, choice.fit
        channels = len(fit.errors)
        found.append(
            Row(
                convolution=site.name,
                method=choice.method,
                lags=lags,
                taps=system.taps.shape[1],
                modes=system.eigenvalues.shape[1],
                order_median=float(fit.orders.double().median()),
                order_max=int(fit.orders.max()),
                least_median=float(fit.certificate.least.double().median()),
                least_max=int(fit.certificate.least.max()),
                kernel_error=float(fit.errors.max()),
                beyond=float(remainder(system, site, lags)),
                output_error=outputs[site.name],
                state_before=BYTES * channels * convolvers[index].state_size(),
                state_after=BYTES * channels * system.state_size(),
                microseconds_before=step_time(streamed, site),
                microseconds_after=step_time(recurrent, site),
            )
        )
    return found


def remainder(system: ModalSystem, site: Site, lags: int) -> Tensor:
    """The 2-norm of the recurrence's kernel beyond its lags, relative to the convolution's, largest over channels."""
    kernel = site.kernel(lags).norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    return (system.kernel(BEYOND * lags)[:, lags:].norm(dim=1) / kernel).max()


@contextmanager
def recorded(model: nn.Module, names: list[str]) -> Iterator[dict[str, tuple[Any, Tensor]]]:
    """The first argument and first output of the named modules at their last call."""
    seen: dict[str, tuple[Any, Tensor]] = {}
    handles = []
    for name in names:

        def hook(module: nn.Module, arguments: Any, outputs: Any, name: str = name) -> None:
            seen[name] = arguments[0], outputs[0]

        handles.append(model.get_submodule(name).register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def output_errors(
    before: LanguageModel, converted: Converted, batches: Iterable[tuple[Tokens, Context | None]]
) -> dict[str, float]:
    """Relative 2-norm of what every long convolution misses on text, given the same inputs; NaN without text."""
    names = [site.name for site in converted.sites]
    missed, total = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    with torch.inference_mode(), recorded(before, names) as seen:
        for tokens, context in batches:
            before(tokens, context=context)
            for name in names:
                x, outputs = seen[name]
                found = converted.model.get_submodule(name)(x, None, context)[0]
                missed[name] += float((found - outputs).double().square().sum())
                total[name] += float(outputs.double().square().sum())
    return {name: (missed[name] / total[name]) ** 0.5 if total[name] else nan for name in names}


def step_time(model: LanguageModel, site: Site) -> float:
    """Microseconds of one token of one sequence in a module, the median over some tokens."""
    module, spec = model.get_submodule(site.name), site.module.recurrence.spec
    shape, start = [1, 1, spec.num_heads, spec.value_dim], None
    if isinstance(module, EosMixer):
        shape, start = [1, 1, model.backbone.d_model], module.initial_state()
    weight = model.embedding.weight
    x = torch.randn(shape, dtype=weight.dtype, device=weight.device)
    seconds = []
    with torch.inference_mode():
        _, state = module(x, start, None)
        for _ in range(WARM + TIMED):
            begin = time.perf_counter()
            _, state = module(x, state, None)
            seconds.append(time.perf_counter() - begin)
    return 1e6 * sorted(seconds[WARM:])[TIMED // 2]
