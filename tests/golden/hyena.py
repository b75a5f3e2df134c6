"""A Hyena operator and its filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer
from lcsm.stages.long_convolution.hyena import HyenaKernel
from lcsm.stages.long_convolution.products import HyenaInput, HyenaSource
from tests.golden.case import Case
from tests.golden.convolutions import check, convolve, evaluate
from tests.golden.given import taps
from tests.golden.replay import algorithms, call, finish, leaves_of


def make(config: dict[str, Any], **settings: Any) -> EosMixer:
    """The operator; its convolutions take the filters in their order."""
    width, order, common = config["d_model"], config["order"], {}

    def shrink() -> HyenaKernel:
        return HyenaKernel(
            1,
            config["length"],
            width,
            layer=0,
            common=common,
            order=order,
            span=config["l_max"],
            embedding_dim=config["emb_dim"],
            width=config["filter_order"],
            depth=config["num_inner_mlps"],
            frequency=config["w"],
            window=config["modulate"],
            window_range=[config["slow_decay_pct"], config["fast_decay_pct"]],
            window_target=config["target"],
            shift=config["shift"],
            normalised=config["normalized"],
        )

    source = HyenaSource(width, 1, width, order, True, config["short_filter_length"])
    return convolve(
        HyenaInput(order * width, 1, config["length"], width, shrink),
        shrink(),
        source=source,
        d_model=width,
        skip="inputs" if config["filter_bias"] else "none",
        gate="identity",
        gate_rank=0,
        bias=True,
        output="linear",
        **settings,
    )


def parameters(config: dict[str, Any], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The operator's parameters from the case's; all filters are one module."""
    blocks, width, depth = config["order"] - 2, config["d_model"], config["num_inner_mlps"]
    found = {
        "source.projection.weight": leaves["in_proj.weight"],
        "source.projection.bias": leaves["in_proj.bias"],
        "source.convolution.weight": taps(leaves["short_filter.weight"]),
        "source.convolution.bias": leaves["short_filter.bias"],
        "output.project.weight": leaves["out_proj.weight"],
        "output.project.bias": leaves["out_proj.bias"],
    }
    if config["filter_bias"]:
        bias = leaves["filter_fn.bias"].unflatten(0, (-1, width))
        found |= {f"input.blocks.{index}.skip": bias[index][None] for index in range(blocks)}
        found["skip.weight"] = bias[-1]
    filters = {"positions": leaves["filter_fn.pos_emb.z"][0], "frequency": frequency(leaves, depth)}
    for index in range(depth + 1):
        for kind in ("weight", "bias"):
            filters[f"maps.{index}.{kind}"] = leaves[f"filter_fn.implicit_filter.{2 * index}.{kind}"]
    filters["last.weight"] = leaves[f"filter_fn.implicit_filter.{2 * depth + 2}.weight"]
    place = "input.blocks.0.shrink.filter" if blocks else "shrink.filter"
    return found | {f"{place}.{name}": value for name, value in filters.items()}


def frequency(leaves: dict[str, Tensor], depth: int) -> Tensor:
    """The one frequency vector, which the case gives once per layer of sines."""
    found = [leaves[f"filter_fn.implicit_filter.{2 * index + 1}.freq"][0] for index in range(depth + 1)]
    assert all(torch.equal(value, found[0]) for value in found)
    return found[0]


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    check(
        case,
        short_filter_bias=True,
        short_filter_order="correlation",
        filter_activation="sine_shared_freq",
        filter_out_bias=False,
        filter_channel_order="order_slow_dim_fast",
        activation="none",
        causal=True,
        layout="BLD",
        filters=config["order"] - 1,
    )
    tensors, length = parameters(config, leaves), config["output_length"]
    sines = make(config).shrink.filter
    if config["modulate"]:
        assert torch.allclose(leaves["filter_fn.modulation.deltas"].flatten().abs(), sines.rates, rtol=1e-5)
        assert torch.allclose(leaves["filter_fn.pos_emb.t"][0], sines.times, atol=1e-6)
    own = {name.split("filter.")[1]: value for name, value in tensors.items() if "filter." in name}
    filters = evaluate(sines, own, lambda module: module(length)).flatten(1)
    for name in algorithms(make(config)):
        outputs, _ = call(make(config, algorithm=name), tensors, leaves["u"])
        yield from finish(case, name, leaves, {"filter": filters, "y": outputs[:, :length]})
