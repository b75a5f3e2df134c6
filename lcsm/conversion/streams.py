"""Exact generation with long convolutions: every one of a model gets a stream in place of its memory of inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lcsm.conversion.model import MAX_ORDER, RECURRENT, convert_kernels
from lcsm.conversion.system import ModalSystem
from lcsm.errors import UsageError
from lcsm.mixers.eos import EosMixer
from lcsm.models.language_model import LanguageModel
from lcsm.models.long_convolutions import Site, find_sites
from lcsm.ops.recurrence import Recurrence, Written
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.streaming.base import Convolver, Place
from lcsm.ops.streaming.boxes import Boxes, Piece
from lcsm.ops.streaming.ring import Ring
from lcsm.ops.streaming.tiles import Tiles
from lcsm.shapes import Factor, Float, Inputs, Outputs, Resets, Stream, Tensor, Writes
from lcsm.stages.base import Shrink
from lcsm.stages.long_convolution.block import ShiftBlock
from lcsm.stages.long_convolution.modal import ModalKernel, ModalOscillation, ModalShrink
from lcsm.stages.long_convolution.multiscale import MultiscaleKernel
from lcsm.stages.segments import resets_of
from lcsm.structures import Context, Shift, Structure, widen

EXACT, CONVERTED = ("auto", "ring", "tiles", "boxes"), ("etsc", "modal", "hybrid")
STREAMS = (*EXACT, *CONVERTED)
# lags up to which a product with all of them costs less than the bookkeeping of tiles
LONGEST_RING = 256


class StreamedConvolution:
    """A stream of one convolution, called as the algorithms of `lcsm.ops` are; its memory is a place on a tape."""

    def __init__(self, convolver: Convolver) -> None:
        self.convolver = convolver

    def __call__(
        self,
        spec: RecurrenceSpec,
        structure: Structure,
        inputs: Inputs,
        expand: Writes,
        shrink: Factor,
        memory: Place | None = None,
        keep: bool = False,
        resets: Resets | None = None,
    ) -> tuple[Outputs, Place | None]:
        """Outputs and the next place; the kernel is the one that the stream was made with.

        Raises:
            UsageError: documents are packed.
        """
        if resets is not None and bool(resets.any()):
            raise UsageError("a stream holds one document: stream each by itself, or use the model without stream=")
        values = inputs.expand(-1, -1, spec.num_heads, spec.value_dim).flatten(2)
        outputs, place = self.convolver(values, memory)
        return outputs.unflatten(2, (spec.num_heads, spec.value_dim)), place if keep else None


class NoRead(Shrink):
    """A placeholder for a kernel that its stream holds: [1 1 1 1 1], never read."""

    nothing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1, 1, 1, 1, 1), persistent=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.nothing, past


class StreamedBlock(nn.Module):
    """A convolution inside a stage, streamed; replaces `ShiftBlock`."""

    def __init__(self, block: ShiftBlock, convolver: Convolver) -> None:
        super().__init__()
        self.skip, self.recurrence = block.skip, Recurrence(block.recurrence.spec)
        self.recurrence.hand_to(StreamedConvolution(convolver))

    def forward(
        self, values: Float[Tensor, "B L H P"], past: Place | None = None, context: Context | None = None
    ) -> tuple[Float[Tensor, "B L H P"], Place | None]:
        """As `ShiftBlock.forward`."""
        values = widen(values)
        # the convolver holds the kernel: neither expand nor shrink is read
        nothing = values.new_zeros(1, 1, 1, 1, 1)
        written = Written(self.recurrence.spec, Shift(), values, nothing)
        outputs, past = self.recurrence.run(written, nothing, past, True, resets_of(context))
        return outputs + self.skip * values, past


def attach(model: LanguageModel, stream: str, tolerance: float = 1e-4, tokens: int | None = None) -> list[Convolver]:
    """Make a model generate through streams; it can be neither trained nor saved afterwards.

    Args:
        model: in eval mode; changed in place. A state that it returned can be continued once.
        stream: ring, tiles or boxes, which are exact; etsc, modal or hybrid, recurrences as `convert_kernel` makes
            them; auto: a ring for at most 256 lags, else tiles. Under auto, converted models stream their recurrences
            in place, and models without a long convolution stay as they are.
        tolerance: of modal and hybrid, which hold for as many tokens as the memory has lags.
        tokens: length of the whole text, for which etsc then holds; None for the lags of the memory.
    Returns:
        the streams of its long convolutions, first layer to last.
    Raises:
        UsageError: the model has no long convolution, reads the future, its kernels are no enlarged pieces, or a
            recurrence misses the tolerance.
    """
    if stream not in STREAMS:
        raise UsageError(f"stream={stream} must be one of {', '.join(STREAMS)}")
    sites = find_sites(model)
    if not sites and stream != "auto":
        raise UsageError(f"stream={stream}: the model {RECURRENT}: leave stream out")
    found: list[Convolver]
    dtype = widen(model.embedding.weight).dtype
    if stream in CONVERTED:
        lags = [tokens if stream == "etsc" and tokens is not None else site.lags for site in sites]
        choices = convert_kernels(sites, lags, stream, tolerance, MAX_ORDER)
        found = [choice.fit.system.stream(dtype) for choice in choices]
    else:
        found = [make_convolver(site, stream) for site in sites]
    for site, convolver in zip(sites, found, strict=True):
        replace_memory(model, site.name, site.module, convolver)
    if not sites:
        for name, module, system in converted_sites(model):
            found.append(system.stream(dtype))
            replace_memory(model, name, module, found[-1])
    return found


def replace_memory(model: LanguageModel, name: str, module: EosMixer | ShiftBlock, convolver: Convolver) -> None:
    """Put a stream into a mixer, or into a stage in place of its convolution."""
    if isinstance(module, EosMixer):
        module.recurrence.hand_to(StreamedConvolution(convolver))
        module.shrink = NoRead().to(convolver.taps.device)
    else:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, StreamedBlock(module, convolver))


def converted_sites(model: LanguageModel) -> list[tuple[str, EosMixer | ShiftBlock, ModalSystem]]:
    """The convolutions of a model that are recurrences already: name, module and system."""
    found: list[tuple[str, EosMixer | ShiftBlock, ModalSystem]] = []
    for name, module in model.named_modules():
        if isinstance(module, ShiftBlock) and isinstance(module.shrink, ModalKernel):
            found.append((name, module, system_of(module.shrink.oscillation, module.shrink.weights)))
        elif isinstance(module, EosMixer) and isinstance(module.shrink, ModalShrink):
            assert isinstance(module.oscillation, ModalOscillation), "they are converted together"
            found.append((name, module, system_of(module.oscillation, module.shrink)))
    return found


def system_of(oscillation: ModalOscillation, shrink: ModalShrink) -> ModalSystem:
    """The recurrence that a pair of stages holds."""
    with torch.no_grad():
        factors, read = oscillation.structure().factors[0, 0], 2 * shrink.value()[0, 0]
    taps, weights = (value.transpose(1, 2).flatten(0, 1) for value in read.tensor_split([oscillation.taps], 1))
    return ModalSystem(taps.real, factors.transpose(1, 2).flatten(0, 1), weights)


def make_convolver(site: Site, stream: str) -> Convolver:
    """The exact stream of one long convolution."""
    if stream == "boxes":
        return make_boxes(site)
    kernel = flat(site.shrink.kernel(site.lags))
    rings = stream == "ring" or (stream == "auto" and site.lags <= LONGEST_RING)
    return Ring(kernel) if rings else Tiles(kernel)


def flat(kernel: Float[Tensor, "H T P"]) -> Float[Tensor, "T C"]:
    """The taps of all channels, as streams take them."""
    return kernel.detach().transpose(0, 1).flatten(1)


def make_boxes(site: Site) -> Boxes:
    """The stream of a multiscale kernel from its enlarged pieces.

    Raises:
        UsageError: the kernel is another one, is weighed lag by lag, or is cut within a piece.
    """
    shrink = site.shrink
    if not isinstance(shrink, MultiscaleKernel) or shrink.decay != "scale" or (shrink.span or 0) > site.lags:
        raise UsageError(
            f"stream=boxes: {site.name} has no kernel of whole enlarged pieces (shrink=sgconv with decay=scale and "
            f"mixer.state_dim of at least its span, here {site.lags}): use stream=tiles"
        )
    with torch.no_grad():
        return Boxes(enlarged_pieces(shrink), "linear" if shrink.interpolation == "linear" else "nearest")


def enlarged_pieces(shrink: MultiscaleKernel) -> list[Piece]:
    """The pieces of a kernel with their weights and divided by its norm."""
    norm = {"none": 1.0, "current": shrink.whole_norm(), "initial": getattr(shrink, "norm", 1.0)}[shrink.policy]
    offset, found = 0, []
    for index, factor in enumerate(shrink.factors):
        weights = widen(shrink.pieces[index]) * (shrink.alpha ** (len(shrink.factors) - 1 - index))[:, None]
        found.append(Piece(flat(weights.transpose(1, 2) / norm), factor, offset))
        if shrink.joined:
            offset += factor * weights.shape[-1]
    return found
