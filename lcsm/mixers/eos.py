"""Expand, Oscillation, Shrink.

memory_t = oscillation_t(memory_{t-1}) + expand_t input_t^T
output_t = memory_t^T shrink_t
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.export import register_dataclass

from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.mixers.compatibility import Stages, check_stages, declare, refuse_lengths
from lcsm.mixers.output import Output
from lcsm.mixers.second_pass import SecondPass
from lcsm.mixers.skip import Skip
from lcsm.ops.cost import Cost, recurrent_flops
from lcsm.ops.dispatch import AlgorithmChoice, costs
from lcsm.ops.recurrence import Recurrence
from lcsm.shapes import Stream, Tensor
from lcsm.stages.base import Stage
from lcsm.stages.segments import resets_of, with_resets
from lcsm.structures import CANNOT_ADVANCE, Context, widen


@dataclass
class State:
    """The state of a mixer, carried from one call to the next.

    Args:
        memory: [B H N P], complex where the oscillation has a phase, P + 1 with a denominator; whatever the algorithm
            of a stream keeps where it is not the recurrence.
        log_scale: running maximum, where the oscillation is stabilised.
        segment: document id of the last token, [B], once segments were given.
        source, input, expand, oscillation, shrink: what those stages keep.
    """

    memory: Any = None
    log_scale: Tensor | None = None
    segment: Tensor | None = None
    source: Any = None
    input: Any = None
    expand: Any = None
    oscillation: Any = None
    shrink: Any = None


register_dataclass(State)


class EosMixer(Mixer):
    """A token mixer made of stages and an algorithm.

    Args:
        stages: source, input, expand, oscillation, shrink and normaliser.
        d_model: width D of what comes in and leaves.
        num_heads, state_dim, value_dim: H, N and P.
        skip: makes the `mixers.skip.Skip`, from its widths.
        reverse: makes the `mixers.second_pass.SecondPass`, from the recurrence.
        output: makes the `mixers.output.Output`, from the normaliser and its widths.
        algorithm: name of an algorithm, or "auto" for the first in the list of `ops.dispatch` that serves.
    Raises:
        UsageError: the stages do not go together, or the algorithm does not fit them.
    Source: arXiv 2405.17383, equations of section 3.
    """

    def __init__(
        self,
        stages: Stages,
        d_model: int,
        num_heads: int,
        state_dim: int,
        value_dim: int,
        skip: Callable[..., Skip],
        reverse: Callable[..., SecondPass],
        output: Callable[..., Output],
        algorithm: str,
    ) -> None:
        super().__init__()
        self.source, self.input, self.expand = stages.source, stages.input, stages.expand
        self.oscillation, self.shrink = stages.oscillation, stages.shrink
        spec = declare(stages, num_heads, state_dim, value_dim)
        self.recurrence = Recurrence(spec, algorithm, self.oscillation.log_scale_start)
        self.second_pass = reverse(recurrence=self.recurrence)
        widths, width = self.source.widths, num_heads * (self.shrink.output_dim or value_dim)
        sizes = {"num_heads": num_heads, "width": width}
        self.skip = skip(written=num_heads * value_dim, seen=widths["skip"], **sizes)
        self.output = output(normaliser=stages.normaliser, gate_dim=widths["gate"], d_model=d_model, **sizes)
        check_stages(stages, self.skip, self.second_pass)
        self.causal_setting = "reverse.shrink=none" if self.second_pass.runs else None
        self.structure = spec.summary()

    def forward(
        self, x: Stream, state: State | None = None, context: Context | None = None
    ) -> tuple[Stream, State | None]:
        before, after, context = self.begin(state, context)
        source, after.source = self.source(x, before.source, context)
        inputs, after.input = self.input(source["input"], before.input, context)  # [B L H P]
        expand, after.expand = self.expand(source["expand"], before.expand, context)  # [B L H N P]
        inputs, expand = widen(inputs), widen(expand)
        seen = source["oscillation"]
        oscillation, after.oscillation = self.oscillation(seen, expand, before.oscillation, context)
        shrink, after.shrink = self.shrink(source["shrink"], expand, oscillation, before.shrink, context)
        shrink, resets = widen(shrink), resets_of(context)
        written = self.recurrence.write(oscillation, inputs, expand, before.log_scale, resets)
        outputs, after.memory = self.recurrence.run(written, shrink, before.memory, state is not None, resets)
        read, after.log_scale = self.shrink.read(outputs, written, shrink), written.log_scale
        read = self.second_pass(read, written, self.shrink, shrink, source["shrink"], context)
        outputs = self.output(read, self.skip(inputs, source["skip"]), source["gate"])
        return outputs, None if state is None else after

    def begin(self, state: State | None, context: Context | None) -> tuple[State, State, Context | None]:
        """The state before the call, the one after it with nothing but its document yet, and the context with resets.

        Raises:
            UsageError: the mixer cannot stream, or its oscillation takes no steps of different lengths.
        """
        if state is not None and not self.streams:
            future = "a bidirectional mixer sees the future and cannot stream: set mixer.reverse.shrink=none"
            raise UsageError(future if self.second_pass.runs else CANNOT_ADVANCE)
        if context is not None and context.dt is not None:
            refuse_lengths(self.oscillation)
        before = State() if state is None else state
        context, segment = with_resets(context, before.segment)
        return before, State(segment=segment), context

    @property
    def streams(self) -> bool:
        return super().streams and not self.recurrence.spec.growing

    def share_dropout(self, dropout: nn.Module) -> None:
        self.output.dropout = dropout

    def initial_state(self) -> State:
        return State()

    def state_size(self, length: int) -> int:
        spec = self.recurrence.spec
        entries = spec.num_heads * spec.state_dim * (spec.value_dim + spec.denominator)
        scale = spec.num_heads if spec.stabilised else 0
        own = sum(stage.state_size() for stage in self.stages)
        return scale + entries * (2 if spec.phase is not None else 1) + own

    def recurrence_flops(self, length: int) -> int:
        own = sum(stage.memory_flops() for stage in self.stages)
        return recurrent_flops(self.recurrence.spec) * (1 + self.second_pass.runs) + own

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that may keep something between calls."""
        return self.source, self.input, self.expand, self.oscillation, self.shrink

    def choice(self, device: str) -> AlgorithmChoice:
        return self.recurrence.choice(device)

    def costs(self, length: int, device: str) -> dict[str, Cost]:
        spec, second = self.recurrence.spec, self.second_pass
        # where the shrink reads the whole memory, the literature counts the products B x and C m with the algorithm
        stages = (self.expand, self.shrink, second.shrink) if spec.reads == "memory" else ()
        parameters = [weight for stage in stages if stage is not None for weight in stage.parameters()]
        weights = [weight.numel() for weight in parameters if weight.ndim > 1]
        found = costs(spec, length, 2 * sum(weights), device)
        if not second.runs:
            return found
        again = costs(second.recurrence.spec, length, 0, device)
        return {
            name: replace(cost, flops=cost.flops + again[name].flops) for name, cost in found.items() if name in again
        }

    def extra_repr(self) -> str:
        spec, choice = self.recurrence.spec, self.choice(next(self.parameters()).device.type)
        return (
            f"num_heads={spec.num_heads}, state_dim={spec.state_dim}, value_dim={spec.value_dim}, "
            f"structure={self.structure!r}, algorithm={choice.name!r}, available={choice.available}"
        )
