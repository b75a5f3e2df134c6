"""Expand, Oscillation, Shrink: the only place where stages and an algorithm meet.

memory_t = oscillation_t(memory_{t-1}) + expand_t input_t^T
output_t = memory_t^T shrink_t
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.export import register_dataclass

from lcsm.errors import UsageError
from lcsm.mixers.agreement import (
    check_substeps,
    declare,
    refuse_complex,
    refuse_constant_writes,
    refuse_followers,
    refuse_lengths,
)
from lcsm.mixers.base import Mixer
from lcsm.mixers.output import Output
from lcsm.ops.cost import Cost, recurrent_flops
from lcsm.ops.dispatch import choose_algorithm, costs
from lcsm.ops.reference import real_part, reference
from lcsm.ops.stabilise import add_present, stabilise
from lcsm.parameters import mark
from lcsm.shapes import Factor, Inputs, Stream, Tensor
from lcsm.stages.base import Expand, Input, Normaliser, Oscillation, Shrink, Source, Stage
from lcsm.stages.long_convolution.base import check_partners
from lcsm.stages.segments import resets_of, starts, with_resets
from lcsm.stages.settings import choose
from lcsm.structures import CANNOT_ADVANCE, Context, Structure, widen


@dataclass
class State:
    """What a stream carries from one call to the next.

    Args:
        memory: [B H N P], complex where the oscillation has a phase, P + 1 with a denominator; whatever `advance` keeps
            where it is not the recurrence.
        log_scale: running maximum, where the oscillation is stabilised.
        segment: document id of the last token, [B], once segments were given.
        past: what each stage keeps, by stage name.
    """

    memory: Any = None
    log_scale: Tensor | None = None
    segment: Tensor | None = None
    past: dict[str, Any] = field(default_factory=dict)


register_dataclass(State)


class EosMixer(Mixer):
    """A token mixer made of five stages and an algorithm.

    Args:
        source, input, expand, oscillation, shrink: the stages.
        normaliser: keeps the outputs in range.
        d_model: width D of what comes in and leaves.
        num_heads, state_dim, value_dim: H, N and P.
        skip: adds d * inputs with a learned d per channel ("inputs") or per head ("heads"), or d * the block's input
            ("source"); a learned matrix per head times its share of the block's input ("dense"); "none".
        skip_init: start of d, "ones" or "normal".
        reverse: a second pass from the end, read by the same shrink ("tied") or by one of its own ("own"); "none".
        reverse_exclusive: whether that pass reads before the write, so that it starts at t + 1.
        reverse_shrink: the shrink of the second pass where it has one of its own.
        gate, gate_rank, bias, activation, output: what `mixers.output.Output` does with the outputs.
        gate_first: whether the activation and the gate come before the normaliser (Mamba-2).
        algorithm: name of an algorithm, or "auto" for the first one in the table of `ops.dispatch`.
    Raises:
        UsageError: the stages do not go together, or the algorithm does not fit them.
    Source: arXiv 2405.17383, equations of section 3.
    """

    def __init__(
        self,
        source: Source,
        input: Input,
        expand: Expand,
        oscillation: Oscillation,
        shrink: Shrink,
        normaliser: Normaliser,
        d_model: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        skip: str,
        skip_init: str,
        reverse: str,
        reverse_exclusive: bool,
        reverse_shrink: Shrink | None,
        gate: str,
        gate_rank: int | None,
        gate_first: bool,
        bias: bool,
        activation: str,
        output: str,
        algorithm: str,
    ) -> None:
        super().__init__()
        self.source, self.input, self.expand = source, input, expand
        self.oscillation, self.shrink, self.normaliser = oscillation, shrink, normaliser
        refuse_constant_writes(input, expand)
        refuse_complex(input, expand, oscillation, skip)
        check_substeps(input, expand, oscillation, shrink, skip)
        check_partners(expand, oscillation, shrink, reverse, reverse_exclusive)
        self.problem = declare(input, expand, oscillation, shrink, normaliser, num_heads, state_dim, value_dim)
        self.gate_first = gate_first
        if gate_first and normaliser.denominator:
            raise UsageError("mixer.gate_first=true would gate before the denominator: set mixer.gate_first=false")
        # None where the second pass is absent or reads with the shrink of the first
        self.reverse, self.reverse_shrink = None, reverse_shrink
        if choose("mixer.reverse", reverse, {"none": False, "tied": True, "own": True}):
            refuse_followers(oscillation, shrink, reverse)
            self.reverse = replace(self.problem, exclusive=reverse_exclusive)
            self.causal_with = "reverse=none"
        width = num_heads * (shrink.output_dim or value_dim)
        seen = source.widths["skip"] if skip in ("source", "dense") else num_heads * value_dim
        self.skipped, self.skip = skip, skip_weight(skip, skip_init, seen, width, num_heads)
        self.output = Output(width, source.widths["gate"], d_model, gate, gate_rank, bias, activation, output)
        if gate_first and self.output.passes:
            raise UsageError("mixer.gate_first=true has no gate or activation to place: set mixer.gate_first=false")
        choice = choose_algorithm(self.problem, algorithm)
        self.structure, self.algorithm, self.fits = self.problem.summary(), choice.name, choice.fits
        self.run, self.why = choice.function, choice.why
        # what one token of a stream runs; `conversion.streams` puts faster ones of long convolutions here
        self.advance: Callable[..., Any] = reference

    def forward(
        self, x: Stream, state: State | None = None, context: Context | None = None
    ) -> tuple[Stream, State | None]:
        if state is not None and self.problem.growing:
            raise UsageError(CANNOT_ADVANCE)
        if context is not None and context.dt is not None:
            refuse_lengths(self.oscillation)
        past, kept = state.past if state is not None else {}, {}
        context, segment = with_resets(context, None if state is None else state.segment)
        resets = resets_of(context)

        def value_of(name: str, *arguments: Any) -> Any:
            value, kept[name] = getattr(self, name)(*arguments, past.get(name), context)
            return value

        source = value_of("source", x)
        inputs = widen(value_of("input", source["input"]))  # [B L H P]
        expand = widen(value_of("expand", source["expand"]))  # [B L H N P]
        structure = value_of("oscillation", source["oscillation"], expand)
        shrink = widen(
            value_of("shrink", source["shrink"], *([structure] if self.shrink.follows else []))
        )  # [B L H N P]
        opposite = None if self.reverse is None else self.look_back(source["shrink"], shrink, state, context)
        with torch.autocast(x.device.type, enabled=False):
            scale = None
            if self.oscillation.log_scale_start is not None:
                log_scale = None if state is None else state.log_scale
                structure, scale = stabilise(structure, self.oscillation.log_scale_start, log_scale, resets)
            written, direction = structure.place(self.normaliser.append(inputs), expand)
            shrink = self.shrink.aim(shrink, direction)
            algorithm = self.advance if x.shape[1] == 1 and state is not None else self.run
            memory = None if state is None else state.memory
            outputs, memory = uncompiled(
                algorithm, self.problem, structure, written, direction, shrink, memory, state is not None, resets
            )
            outputs = self.shrink.read(outputs)
            if opposite is not None:
                outputs = outputs + self.backwards(structure, written, direction, opposite, context)
            present = self.shrink.present(written, direction, shrink)
            present = None if present is None else real_part(self.problem, present)
            last = self.shrink.present_last
            outputs, log_scale = add_present(outputs, None if last else present, scale, self.problem.exclusive)
            if not self.gate_first:
                outputs = self.normaliser(outputs, log_scale)
            if last and present is not None:
                outputs = outputs + present
            outputs = outputs.expand(*x.shape[:2], -1, -1).flatten(2)
            if self.skip is not None:
                seen = inputs if self.skipped in ("inputs", "heads") else source["skip"]
                outputs = outputs + skip_over(self.skip, self.skipped, seen)
        if state is not None:
            state = State(memory, None if scale is None else scale.after[:, -1], segment, kept)
        normalise = self.normalise_merged if self.gate_first else None
        return self.output(outputs.to(source["gate"].dtype), source["gate"], normalise), state

    def normalise_merged(self, outputs: Tensor) -> Tensor:
        """The normaliser on merged heads, [B L W]."""
        return self.normaliser(outputs.unflatten(-1, (self.problem.num_heads, -1)), None).flatten(2)

    def look_back(self, source: Stream, shrink: Factor, state: State | None, context: Context | None) -> Factor:
        """What the second direction reads by, [B L H N P]."""
        if state is not None:
            raise UsageError("a bidirectional mixer sees the future and cannot stream: set mixer.reverse=none")
        if self.reverse_shrink is None:
            return widen(self.shrink.opposite(shrink, source.shape[1]))
        return widen(self.reverse_shrink(source, None, context)[0])

    def backwards(
        self, structure: Structure, written: Inputs, direction: Factor, shrink: Factor, context: Context | None
    ) -> Tensor:
        """What the second direction reads: the same memory run from the end, [B L H P]."""
        reader = self.shrink if self.reverse_shrink is None else self.reverse_shrink
        shrink = reader.aim(shrink, direction)
        resets = None if context is None or context.segments is None else starts(context.segments.flip(1))
        outputs, _ = uncompiled(
            self.run,
            self.reverse,
            structure.flip(),
            written.flip(1),
            direction.flip(1),
            shrink.flip(1),
            resets=resets,
        )
        return reader.read(outputs).flip(1)

    @property
    def streams(self) -> bool:
        return super().streams and not self.problem.growing

    def drop_inside(self, dropout: nn.Module) -> None:
        self.output.dropout = dropout

    def initial_state(self) -> State:
        return State()

    def state_numbers(self, length: int) -> int:
        problem = self.problem
        entries = problem.num_heads * problem.state_dim * (problem.value_dim + problem.denominator)
        scale = problem.num_heads if problem.stabilised else 0
        own = sum(stage.past_numbers() for stage in self.stages)
        return scale + entries * (2 if problem.phase is not None else 1) + own

    def recurrence_flops(self, length: int) -> int:
        own = sum(stage.memory_flops() for stage in self.stages)
        return recurrent_flops(self.problem) * (1 if self.reverse is None else 2) + own

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that may keep something between calls."""
        return self.source, self.input, self.expand, self.oscillation, self.shrink

    def costs(self, length: int) -> dict[str, Cost]:
        # where the shrink reads the whole memory, the literature counts the products B x and C m with the algorithm
        stages = (self.expand, self.shrink, self.reverse_shrink) if self.problem.reads == "memory" else ()
        parameters = [weight for stage in stages if stage is not None for weight in stage.parameters()]
        weights = [weight.numel() for weight in parameters if weight.ndim > 1]
        found = costs(self.problem, length, 2 * sum(weights))
        if self.reverse is None:
            return found
        second = costs(self.reverse, length, 0)
        return {
            name: replace(cost, flops=cost.flops + second[name].flops) for name, cost in found.items() if name in second
        }

    def extra_repr(self) -> str:
        problem = self.problem
        return (
            f"num_heads={problem.num_heads}, state_dim={problem.state_dim}, value_dim={problem.value_dim}, "
            f"structure={self.structure!r}, algorithm={self.algorithm!r}, fits={self.fits}"
        )


@torch.compiler.disable
def uncompiled(algorithm: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Run an algorithm outside of any compiled region.

    Loops over chunks with their own backward: a compiler gains nothing inside and would unroll them.
    """
    return algorithm(*arguments, **settings)


def skip_weight(skip: str, init: str, seen: int, width: int, num_heads: int) -> nn.Parameter | None:
    """The weight of the skip: none, one per channel [W] or per head [H], or a matrix per head [H W/H W/H]."""
    share = width // num_heads
    shapes = {"none": (), "inputs": (width,), "source": (width,), "heads": (num_heads,)}
    shape = choose("mixer.skip", skip, {**shapes, "dense": (num_heads, share, share)})
    start = choose("mixer.skip_init", init, {"ones": torch.ones, "normal": torch.randn})
    if not shape:
        if init != "ones":
            raise UsageError(f"mixer.skip_init={init} starts a skip, but mixer.skip=none: set mixer.skip_init=ones")
        return None
    if seen != width:
        raise UsageError(f"mixer.skip={skip} has {seen} channels, but the outputs have {width}: set mixer.skip=none")
    weight = nn.Parameter(start(shape))
    if skip != "dense":
        return mark(weight)
    weight.data *= share**-0.5
    return weight


def skip_over(weight: Tensor, skip: str, seen: Tensor) -> Tensor:
    """What the skip adds to the outputs, [B L W]; the weight is that of `skip_weight`."""
    if skip == "heads":
        return (weight[:, None] * seen).flatten(2)
    if skip != "dense":
        return weight * seen.flatten(2)
    return torch.einsum("hpq,blhq->blhp", weight, seen.unflatten(-1, (weight.shape[0], -1))).flatten(2)
