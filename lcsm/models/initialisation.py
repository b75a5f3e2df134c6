"""Weights that start as in a published release, where torch.nn starts them otherwise."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lcsm.errors import UsageError
from lcsm.models.classifier import SequenceClassifier
from lcsm.models.language_model import LanguageModel
from lcsm.stages.base import Normaliser
from lcsm.stages.gated.channels import BlockLinear
from lcsm.stages.settings import choose
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.stages.state_space.mode_projection import TRUNCATED_STD

Model = LanguageModel | SequenceClassifier

# Where the matrices of a layer are that have a role of their own, by the names of the modules; the longest name counts.
PLACES = {
    "mixer.source": "source",
    "mixer.input": "input",
    "mixer.expand": "expand",
    "mixer.oscillation": "oscillation",
    "mixer.shrink": "shrink",
    "mixer.second_pass.shrink": "shrink",
    "mixer.output": "mixer_output",
    "mixer.output.gate": "gate",
    "mixer.output.mix": "linear",
    "channel.gate": "channel_gate",
    "channel.contract": "channel_output",
}
# Matrices whose start is that of `linear` where the release says nothing else of them.
MATRICES = {"head", *PLACES.values()}
# What the size of a start may depend on.
QUANTITIES = {name: name for name in ("fan_in", "widening", "width", "layers", "branches", "depth")}


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Draw the initial values of one component from (seed, its name), so that changing one leaves the others alone.

    A component is a stage, a channel mixer, the embedding, or a mixer with its skip, second pass and output.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        yield


def truncated(weight: Tensor, size: float) -> None:
    """Normal numbers of standard deviation `size` after they are cut at two deviations of the normal ones."""
    std = size / TRUNCATED_STD
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


DRAWS: dict[str, Callable[[Tensor, float], Any]] = {
    "normal": lambda weight, size: nn.init.normal_(weight, std=size),
    "truncated": truncated,
    "uniform": lambda weight, size: nn.init.uniform_(weight, -size, size),
    "orthogonal": nn.init.orthogonal_,
    "constant": nn.init.constant_,
    "scaled": lambda weight, size: weight.mul_(size),
}


class Start(NamedTuple):
    """The initial values of the weights of one role.

    Args:
        role: its name, for messages.
        draw: writes them in place, given their size.
        size: standard deviation, bound, gain, value or factor, as `Release` says.
        times: quantity -> power, which multiply the size.
    """

    role: str
    draw: Callable[[Tensor, float], Any]
    size: float
    times: Mapping[str, float]

    def amount(self, quantities: Mapping[str, float]) -> float:
        """The size where these quantities hold."""
        missing = [name for name in self.times if name not in quantities]
        if missing:
            raise UsageError(f"release.{self.role}.times: what it starts has no {missing[0]}; use another quantity")
        return self.size * prod(quantities[name] ** power for name, power in self.times.items())


def start_of(role: str, node: Any) -> Start:
    """The start that a setting describes.

    Raises:
        UsageError: it is no mapping of draw, size and times, or names an unknown draw or quantity.
    """
    known = isinstance(node, dict) and set(node) == {"draw", "size", "times"} and isinstance(node["times"], dict)
    numbers = (node["size"], *node["times"].values()) if known else ()
    if not known or not all(isinstance(number, (int, float)) for number in numbers) or node["size"] < 0:
        raise UsageError(
            f"release.{role}={node} must be null, or like {{draw: normal, size: 0.02, times: {{}}}}, size >= 0"
        )
    for quantity in node["times"]:
        choose(f"release.{role}.times", quantity, QUANTITIES)
    return Start(role, choose(f"release.{role}.draw", node["draw"], DRAWS), node["size"], node["times"])


@dataclass
class Release:
    """The initial values of a release by role; a role without one keeps that of torch.nn.

    A start is a mapping of

        draw: normal (size is the standard deviation), truncated (the same, cut at two deviations), uniform (bound),
            orthogonal (gain), constant (value) or scaled (the factor of what torch.nn drew)
        size: a number >= 0
        times: powers of quantities that multiply it. fan_in (inputs of a matrix, taps of a convolution), widening
            (outputs per input of a matrix, at least 1), width (of the model), layers (their number), branches (twice
            that), depth (number of the layer, from 1, over their number)

    Parameters of stages that are no linear maps, and maps that `parameters.own_start` marks, are left alone.

    Args:
        linear: of linear maps that have no start of their own below.
        bias: of linear maps.
        convolution, convolution_bias: of short convolutions.
        source, input, expand, oscillation, shrink, gate: linear maps of these stages, and of the gate on the outputs.
        mixer_output, channel_output: linear maps that end a mixer or a channel mixer.
        channel_gate: of channel mixers.
        head: of a language model, where it has weights of its own.
        kernel, kernel_bias: of the networks that make the kernels of long convolutions.
        normaliser: the weight of the norm of the outputs of a memory.
        embedding: of tokens in a language model; None: `model.embedding_std`.
        embedding_factor: what embedded tokens are multiplied by in a language model, a constant; None: 1.
    Raises:
        UsageError: a start is malformed.
    """

    linear: dict[str, Any] | None
    bias: dict[str, Any] | None
    convolution: dict[str, Any] | None
    convolution_bias: dict[str, Any] | None
    source: dict[str, Any] | None
    input: dict[str, Any] | None
    expand: dict[str, Any] | None
    oscillation: dict[str, Any] | None
    shrink: dict[str, Any] | None
    gate: dict[str, Any] | None
    mixer_output: dict[str, Any] | None
    channel_gate: dict[str, Any] | None
    channel_output: dict[str, Any] | None
    head: dict[str, Any] | None
    kernel: dict[str, Any] | None
    kernel_bias: dict[str, Any] | None
    normaliser: dict[str, Any] | None
    embedding: dict[str, Any] | None
    embedding_factor: dict[str, Any] | None

    def __post_init__(self) -> None:
        nodes = {field.name: getattr(self, field.name) for field in fields(self)}
        self.starts = {role: start_of(role, node) for role, node in nodes.items() if node is not None}

    def apply(self, model: Model, seed: int) -> None:
        """Start the weights of a model; each draws from (seed, its name)."""
        with torch.no_grad():
            for name, role, weight, quantities in places(model):
                start = self.starts.get(role) or (self.starts.get("linear") if role in MATRICES else None)
                if start is not None:
                    with seeded(seed, f"release {name}"):
                        start.draw(weight, start.amount(quantities))
        factor = self.starts.get("embedding_factor")
        if factor is not None and isinstance(model, LanguageModel):
            model.embedding_factor = factor.amount(quantities_of(model))


def quantities_of(model: Model) -> dict[str, float]:
    """The quantities that all weights of a model have in common."""
    layers = len(model.backbone.layers)
    return {"width": model.backbone.d_model, "layers": layers, "branches": 2 * layers}


def places(model: Model) -> Iterator[tuple[str, str, nn.Parameter, dict[str, float]]]:
    """Name, role, weight and quantities of everything that a release may start."""
    common = quantities_of(model)
    for name, module in model.named_modules():
        parts, quantities = name.split("."), common
        if parts[:2] == ["backbone", "layers"] and len(parts) > 2:
            quantities = common | {"depth": (int(parts[2]) + 1) / common["layers"]}
            parts = parts[3:]
        for role, attribute in roles(parts, module, isinstance(model, LanguageModel)):
            weight = getattr(module, attribute, None)
            if weight is None or getattr(weight, "_own_start", False):
                continue
            if isinstance(module, (nn.Linear, BlockLinear)):
                outputs, inputs = module.weight.shape[-2:]
                quantities = quantities | {"fan_in": inputs, "widening": max(outputs / inputs, 1.0)}
            elif isinstance(module, ShortConvolution):
                quantities = quantities | {"fan_in": module.kernel_size}
            yield f"{name}.{attribute}", role, weight, quantities


def roles(parts: list[str], module: nn.Module, writes_tokens: bool) -> list[tuple[str, str]]:
    """The roles of a module's weights with their names.

    Args:
        parts: the name of the module, in a layer that inside of it.
        module: itself.
        writes_tokens: whether the model is a language model.
    """
    if isinstance(module, ShortConvolution):
        return [("convolution", "weight"), ("convolution_bias", "bias")]
    if isinstance(module, Normaliser):
        return [("normaliser", "weight")]
    if isinstance(module, nn.Embedding):
        return [("embedding", "weight")] if writes_tokens else []
    if not isinstance(module, (nn.Linear, BlockLinear)):
        return []
    if getattr(module.weight, "_lr_group", None) == "kernel":
        return [("kernel", "weight"), ("kernel_bias", "bias")]
    if parts == ["head"] and writes_tokens:
        return [("head", "weight")]
    places = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return [(next((PLACES[place] for place in places if place in PLACES), "linear"), "weight"), ("bias", "bias")]
