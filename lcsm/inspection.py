"""Inspection of a model and its memory: cards, decay spectra and token-mixing matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.mixers.attention import Attention
from lcsm.mixers.base import Mixer
from lcsm.mixers.eos import EosMixer
from lcsm.models.classifier import SequenceClassifier
from lcsm.models.language_model import LanguageModel
from lcsm.ops.convolution.step_powers import step_matrix
from lcsm.ops.recurrence import Recurrence
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.stages.state_space.mode_projection import ModeInput, ModeOutput
from lcsm.structures import Decaying, Dense, LowRank, widen

Model = LanguageModel | SequenceClassifier
STAGES = ("source", "input", "expand", "oscillation", "shrink", "normaliser")


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def projection_flops(module: nn.Module) -> int:
    """Multiplications and additions per token of the weight matrices and short convolutions of a module.

    Two for every entry of a weight with at least two axes; marked ones are decays, directions and the like, whose work
    is that of the recurrence, but for taps and for the matrices between channels and modes. Long kernels are
    formed once for many tokens.
    """
    kernels = [part for part in module.modules() if isinstance(part, KernelShrink)]
    once = {id(weight) for kernel in kernels for weight in kernel.parameters()}
    products = (ShortConvolution, ModeInput, ModeOutput)
    counted = {id(part.weight) for part in module.modules() if isinstance(part, products)}
    return sum(
        2 * weight.numel()
        for weight in module.parameters()
        if weight.ndim > 1
        and id(weight) not in once
        and (id(weight) in counted or not getattr(weight, "_no_decay", False))
    )


def card(model: Model, length: int, device: str = "cpu") -> dict[str, Any]:
    """The card of a layer or model that `lcsm show` prints.

    Args:
        model: the model; it may live on the meta device.
        length: position at which state size and cost are given.
        device: type of the device of the run, on which the algorithms depend.
    Returns:
        "layers": per layer its stages with class, axes and parameters, memory, structure, algorithm and why, the costs
        of every algorithm that fits, state size in real numbers, forward FLOPs per token in the recurrent form,
        parameters; and the sums for the model.
    """
    layers = [layer_card(name, layer, length, device) for name, layer in model.backbone.layers.named_children()]
    # the head of a classifier runs once per sequence
    head = 2 * model.vocab_size * model.backbone.d_model if isinstance(model, LanguageModel) else 0
    return {
        "layers": layers,
        "parameters": count_parameters(model),
        "state_size": sum(layer["state_size"] for layer in layers),
        "flops_per_token": sum(layer["flops_per_token"] for layer in layers) + head,
    }


def layer_card(name: str, layer: Any, length: int, device: str) -> dict[str, Any]:
    """The part of a card that describes one layer."""
    mixer: Mixer = layer.mixer
    choice = mixer.choice(device)
    stages, memory = {}, ""
    if isinstance(mixer, EosMixer):
        spec = mixer.recurrence.spec
        memory = f"H={spec.num_heads} heads of N={spec.state_dim} rows and P={spec.value_dim} columns"
        for stage in STAGES:
            part = mixer.output.normaliser if stage == "normaliser" else getattr(mixer, stage)
            stages[stage] = {
                "class": type(part).__name__,
                "axes": axes(stage, mixer),
                "parameters": count_parameters(part),
            }
    return {
        "name": f"layer {name}",
        "mixer": type(mixer).__name__,
        "channel": "none" if layer.channel is None else type(layer.channel).__name__,
        "stages": stages,
        "memory": memory,
        "structure": mixer.structure,
        "algorithm": choice.name,
        "why": choice.reason,
        "costs": {name: asdict(cost) for name, cost in mixer.costs(length, device).items()},
        "state_size": layer.state_size(length),
        "flops_per_token": projection_flops(layer) + mixer.recurrence_flops(length),
        "mixer_parameters": count_parameters(mixer),
        "parameters": count_parameters(layer),
    }


def axes(stage: str, mixer: EosMixer) -> str:
    """The shape of a stage's value with its constant axes written as 1, e.g. [B L 1 N 1]."""
    spec = mixer.recurrence.spec
    if stage == "input":
        return "[B L H P]" if "L" in mixer.input.varies else "[1 1 1 1]"
    if stage == "expand":
        declared = spec.expand
    elif stage == "shrink":
        declared = spec.shrink
    elif stage == "oscillation":
        parts = [
            f"{name} {shape(value)}"
            for name in ("decay", "phase", "gain")
            if (value := getattr(spec, name)) is not None
        ]
        return ", ".join(parts) or spec.kind
    else:
        return ""
    return shape(declared)


def shape(declared: str) -> str:
    """A declaration such as "LHN" as a shape, [B L H N 1]."""
    named = [axis if axis in declared else "1" for axis in "LHNP"]
    return f"[{' '.join(['B' if 'L' in declared else '1', *named])}]"


@contextmanager
def recorded(model: Model) -> Iterator[dict[nn.Module, Any]]:
    """Keep what every stage and every attention input was during the calls inside the block."""
    kept: dict[nn.Module, Any] = {}

    def keep_output(module: nn.Module, arguments: Any, output: Any) -> None:
        kept[module] = output[0]

    def keep_input(module: nn.Module, arguments: Any) -> None:
        kept[module] = arguments[0]

    handles = []
    for mixer in model.backbone.mixers():
        if isinstance(mixer, EosMixer):
            stages = (mixer.expand, mixer.oscillation, mixer.shrink)
            handles += [stage.register_forward_hook(keep_output) for stage in stages]
        else:
            handles.append(mixer.register_forward_pre_hook(keep_input))
    training = model.training
    try:
        yield kept
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()


def decay_spectrum(model: Model, tokens: torch.Tensor) -> list[tuple[str, np.ndarray]]:
    """Per layer with a diagonal, low-rank or dense oscillation, the moduli of its eigenvalues on the given tokens.

    Args:
        model: the model.
        tokens: [B L], or vectors [B L F] where the model takes such.
    Returns:
        (layer name, flat array of values in [0, 1]); data-driven decays give one value per token.
    """
    found = []
    with torch.no_grad(), recorded(model) as kept:
        model.eval()
        look(model, tokens)
        for index, mixer in enumerate(model.backbone.mixers()):
            structure = kept[mixer.oscillation] if isinstance(mixer, EosMixer) else None
            if isinstance(structure, LowRank) and structure.left.shape[1] == 1:
                pairs = isinstance(mixer, EosMixer) and mixer.recurrence.spec.pairs
                moduli = torch.linalg.eigvals(step_matrix(structure, pairs)).abs().flatten()
            elif isinstance(structure, LowRank):
                moduli = torch.linalg.eigvals(transitions(structure, 16)).abs().flatten()
            elif isinstance(structure, Decaying):
                # every entry of a full N x P decay over a long text would be a large sample: a stretch is enough
                moduli = structure.log(0, min(tokens.shape[1], 64)).exp().flatten()
            elif isinstance(structure, Dense):
                moduli = torch.linalg.eigvals(structure.matrix[:, :64].double()).abs().flatten()
            else:
                continue
            found.append((f"layer{index}", moduli.float().cpu().numpy()))
    return found


def transitions(structure: LowRank, most: int) -> torch.Tensor:
    """The matrices of the first steps of the first sequence, at most `most`, [steps H N N], in float64."""
    first = structure.map(lambda value: value[:1].double())
    _, steps, heads, size, _ = first.right.shape
    identity = torch.eye(size, dtype=torch.float64, device=first.right.device).expand(1, heads, size, size)
    return torch.cat([first.advance(identity, t) for t in range(min(steps, most))])


def look(model: Model, tokens: torch.Tensor) -> None:
    """Let the blocks of a model read some tokens or vectors."""
    if isinstance(model, SequenceClassifier):
        model.encode(tokens)
    else:
        model(tokens)


def half_life(decays: np.ndarray) -> np.ndarray:
    """Tokens after which half of a memory entry is left: ln 2 / -ln(decay); infinite without decay."""
    with np.errstate(divide="ignore"):
        return np.log(2.0) / np.maximum(-np.log(decays), 0.0)


def mixing_matrix(model: Model, layer: int, tokens: torch.Tensor) -> np.ndarray:
    """The token-mixing matrix of a layer: how much every token reads of every earlier one.

    Row t, column s: the weight of the value written at s in what is read at t, averaged over heads and value channels;
    softmax weights for attention. Normaliser, gate and output projection are left out.

    Args:
        model: the model.
        layer: index of the layer.
        tokens: one sequence, [1 L], or of vectors [1 L F].
    Returns:
        [L L], zero above the diagonal.
    """
    mixer = model.backbone.mixers()[layer]
    with torch.no_grad(), recorded(model) as kept:
        model.eval()
        look(model, tokens)
        if isinstance(mixer, Attention):
            return mixer.weights(kept[mixer]).mean((0, 1)).float().cpu().numpy()
        if not isinstance(mixer, EosMixer):
            raise UsageError(f"layer {layer} is a {type(mixer).__name__}, whose mixing matrix is not known")
        expand, structure, shrink = kept[mixer.expand], kept[mixer.oscillation], widen(kept[mixer.shrink])
        recurrence, length = mixer.recurrence, tokens.shape[1]
        spec = replace(recurrence.spec, denominator=False)
        # one sequence per position, with an impulse there, at every write of that token
        impulses = torch.eye(length, device=tokens.device).repeat_interleave(spec.substeps, 1)[:, :, None, None]
        impulses = impulses.expand(-1, -1, spec.num_heads, spec.value_dim).to(widen(expand).real.dtype)
        plain = Recurrence(spec, "auto" if spec.growing else "reference", recurrence.log_scale_start)
        written = plain.write(structure, impulses, expand)
        outputs, _ = plain.run(written, shrink)
        # a read that includes the current token needs no bonus for it to be seen, and the bonus need not be linear
        read = mixer.shrink.read(outputs, written, shrink) if spec.exclusive else written.read(outputs)
        outputs = read.outputs if read.log_scale is None else read.outputs * read.log_scale.exp()
        if outputs.is_complex():
            outputs = outputs.abs()
        return outputs.mean((2, 3)).T.float().cpu().numpy()
