"""ETSC: Toeplitz coefficients as a recurrence, faithfully in single precision and by every exact way.

An exact array shares its symbol with what the reference computed. The harness compares with the exact ones; the
faithful replay is compared with the others here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lcsm.conversion.etsc import etsc, fading_radius, reference_etsc, reference_outputs
from lcsm.ops.streaming.base import Convolver, convolve
from lcsm.ops.streaming.ring import Ring
from lcsm.ops.streaming.tiles import Tiles
from lcsm.stages.activation import ELEMENTWISE
from tests.golden.case import Case
from tests.golden.convolutions import ACTIVATIONS


def batch_first(case: Case, x: Tensor) -> Tensor:
    """A sequence of the case as [B L C], and back."""
    layout = case.config["layout"]
    assert layout in ("BLD", "BDL"), layout
    return x if layout == "BLD" else x.transpose(1, 2)


def coefficients(case: Case) -> tuple[Tensor, float]:
    """What is converted, [C n], and the modulus of the eigenvalues."""
    config, raw = case.config, case.symbols("parameter")["t"]
    assert config["causal"] and config["readout"] == "re" and config["initial_state"] == "zero"
    assert raw.shape == (config["length"], config["dim"]) and not config["final_state"] and not config["gradients"]
    assert config["decay_in"] in ("eigenvalues", "coefficients", "none"), config["decay_in"]
    assert config["padding"] in ("zero_sum", "none") and config["dropped_root"] in ("one", "none")
    raw = ELEMENTWISE[ACTIVATIONS[config["activation"]]](raw.t())
    if config["decay_in"] == "coefficients":
        return raw * config["gamma"] ** torch.arange(raw.shape[1], dtype=raw.dtype), 1.0
    return raw, config["gamma"] if config["decay_in"] == "eigenvalues" else 1.0


def converted(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Eigenvalues [N] and weights [C N] as the reference forms them, in some precision."""
    config, (taps, gamma) = case.config, coefficients(case)
    return reference_etsc(taps.to(dtype), gamma, config["roots"], config["dropped_root"], config["padding"])


def repeated(case: Case) -> Tensor:
    """The kernel of the converted system at every step, [T C] in double precision: it returns after all roots."""
    config, (taps, gamma) = case.config, coefficients(case)
    padding = -taps.sum(1, keepdim=True) if config["padding"] == "zero_sum" else taps[:, :0]
    lags = torch.arange(config["total_length"])
    assert config["total_length"] == config["length"] + config["extra_steps"]
    taps = torch.nn.functional.pad(
        torch.cat([taps, padding], 1), (0, config["roots"] - taps.shape[1] - padding.shape[1])
    )
    return (gamma ** lags.double() * taps[:, lags % config["roots"]]).t()


def impulse(case: Case) -> Tensor:
    """One at the first step, [1 T C]."""
    found = torch.zeros(1, case.config["total_length"], case.config["dim"], dtype=torch.float64)
    found[:, 0] = 1
    return found


def streamed(convolver: Convolver, x: Tensor) -> Tensor:
    """A third at once, then token by token."""
    first = max(1, x.shape[1] // 3)
    outputs, place = convolver(x[:, :first], None)
    parts = [outputs]
    for t in range(first, x.shape[1]):
        outputs, place = convolver(x[:, t : t + 1], place)
        parts.append(outputs)
    return torch.cat(parts, 1)


def ways(case: Case) -> dict[str, Callable[[Tensor], Tensor]]:
    """The exact ways from inputs to outputs, in both precisions."""
    kernel, (values, weights) = repeated(case), converted(case, torch.float64)
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "reference recurrence in double precision": lambda x: reference_outputs(values, weights, x)
    }
    for dtype in (torch.float64, torch.float32):
        taps = kernel.to(dtype)
        system = etsc(kernel.t(), "odd", fading_radius(kernel.t()))
        rounded = system.rounded(dtype)
        found |= {
            f"Fourier transforms, {dtype}": lambda x, taps=taps: convolve(x.to(taps.dtype), taps),
            f"ring, {dtype}": lambda x, taps=taps: streamed(Ring(taps), x.to(taps.dtype)),
            f"tiles, {dtype}": lambda x, taps=taps: streamed(Tiles(taps), x.to(taps.dtype)),
            f"rounded odd roots, {dtype}": lambda x, system=rounded, dtype=dtype: streamed(
                system.stream(dtype), x.to(dtype)
            ),
            f"odd roots, {dtype}": lambda x, system=system, dtype=dtype: streamed(system.stream(dtype), x.to(dtype)),
        }
    return found


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case in every exact way, after the faithful one was compared with what the reference computed."""
    x, one = batch_first(case, case.symbols("input")["x"]), impulse(case)
    values, weights = converted(case, torch.float32)
    faithful = {
        "Lambda": values[:, None],
        "b": weights.t(),
        "y": batch_first(case, reference_outputs(values, weights, x.float())),
        "kernel": reference_outputs(values, weights, one.float())[0],
    }
    for symbol, golden in case.quantities("output").items():
        found = faithful[symbol].to(golden.value.dtype)
        assert not golden.compare or golden.excess(found) <= 1, f"faithful: {symbol} differs"
    values, weights = converted(case, torch.float64)
    for name, way in ways(case).items():
        yield (
            name,
            {
                "Lambda": values[:, None],
                "b": weights.t(),
                "y": batch_first(case, way(x)).double(),
                "kernel": way(one)[0].double(),
            },
        )
