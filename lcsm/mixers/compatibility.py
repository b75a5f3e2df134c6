"""Compatibility of stages, and the specification of their recurrence for an algorithm."""

from __future__ import annotations

from dataclasses import dataclass

from lcsm.errors import UsageError
from lcsm.mixers.second_pass import SecondPass
from lcsm.mixers.skip import Skip
from lcsm.ops.spec import RecurrenceSpec, varies
from lcsm.stages.base import Expand, Input, Normaliser, Oscillation, Shrink, Source
from lcsm.stages.long_convolution.base import check_kernel


@dataclass(frozen=True)
class Stages:
    """The stages of a mixer."""

    source: Source
    input: Input
    expand: Expand
    oscillation: Oscillation
    shrink: Shrink
    normaliser: Normaliser


def check_stages(stages: Stages, skip: Skip, reverse: SecondPass) -> None:
    """Refuse stages, a skip and a second pass that do not go together.

    Raises:
        UsageError: names what does not fit and a way out.
    """
    refuse_constant_writes(stages.input, stages.expand)
    refuse_complex(stages.input, stages.expand, stages.oscillation, skip.of)
    check_substeps(stages.input, stages.expand, stages.oscillation, stages.shrink, skip.of)
    check_kernel(stages.expand, stages.oscillation, stages.shrink)
    if reverse.runs:
        refuse_followers(stages.oscillation, stages.shrink)
        reverse.check(stages.shrink)


def declare(stages: Stages, num_heads: int, state_dim: int, value_dim: int) -> RecurrenceSpec:
    """The static recurrence that the stages declare; refuses a memory that they cannot share."""
    input, expand, oscillation = stages.input, stages.expand, stages.oscillation
    shrink, normaliser = stages.shrink, stages.normaliser
    if shrink.complex_memory is not None and shrink.complex_memory != (oscillation.phase is not None):
        needed, way_out = ("complex", "shrink=memory") if shrink.complex_memory else ("real", "shrink=memory_complex")
        raise UsageError(
            f"shrink={type(shrink).__name__} reads a {needed} memory, but the phase of "
            f"oscillation={type(oscillation).__name__} is {oscillation.phase!r}:\n"
            f"use {way_out}, or an oscillation {'with' if shrink.complex_memory else 'without'} a phase"
        )
    if shrink.pairs is not None and shrink.pairs != oscillation.pairs:
        raise UsageError(
            f"shrink.pairs={shrink.pairs}, but the oscillation's modes stand for "
            f"{'conjugate pairs' if oscillation.pairs else 'themselves'}: set shrink.pairs={oscillation.pairs}"
        )
    if shrink.adds_late and normaliser.denominator:
        raise UsageError(
            f"shrink={type(shrink).__name__} adds the current token after the normaliser, which then cannot be the "
            f"denominator {type(normaliser).__name__}:\nuse normaliser=group_norm, or another shrink"
        )
    if oscillation.log_scale_start is not None and not normaliser.denominator:
        raise UsageError(
            f"oscillation={type(oscillation).__name__} weighs what is written without bound, which only a denominator "
            "takes out again:\n"
            "use normaliser=denominator, denominator_bounded or mlstm"
        )
    return RecurrenceSpec(
        kind=oscillation.kind,
        decay=oscillation.decay,
        phase=oscillation.phase,
        gain=oscillation.gain,
        expand=expand.varies,
        shrink=shrink.varies,
        num_heads=num_heads,
        state_dim=state_dim,
        value_dim=value_dim,
        reads=shrink.reads,
        pairs=oscillation.pairs,
        exclusive=shrink.exclusive,
        substeps=oscillation.substeps,
        stabilised=oscillation.log_scale_start is not None,
        denominator=normaliser.denominator,
        growing=oscillation.growing,
        complex_inputs=input.complex_values,
    )


def refuse_complex(input: Input, expand: Expand, oscillation: Oscillation, skip: str) -> None:
    """Refuse complex values whose imaginary parts nothing would read, or that something real would be added to."""
    for group, stage in (("input", input), ("expand", expand)):
        if stage.complex_values and oscillation.phase is None:
            raise UsageError(
                f"{group}={type(stage).__name__} is complex, but oscillation={type(oscillation).__name__} has no "
                f"phase:\nuse {group}={'linear' if group == 'input' else 'data_driven or learned'}, or an oscillation "
                "with a phase such as complex_decay"
            )
    if input.complex_values and skip in ("inputs", "heads"):
        raise UsageError(
            f"mixer.skip.of={skip} adds what input={type(input).__name__} gives, which is complex:\n"
            "set mixer.skip.of=none"
        )


def refuse_constant_writes(input: Input, expand: Expand) -> None:
    """Refuse stages that write the same whatever the text is."""
    if not (varies(input.varies, "L") or varies(expand.varies, "L")):
        raise UsageError(
            f"input={type(input).__name__} and expand={type(expand).__name__} are both constant, so nothing of the "
            "text is written:\nuse input=linear, or expand=data_driven"
        )


def check_substeps(input: Input, expand: Expand, oscillation: Oscillation, shrink: Shrink, skip: str) -> None:
    """Refuse stages that disagree on how many writes a token makes."""
    count = oscillation.substeps
    for group, stage in (("input", input), ("expand", expand)):
        if varies(stage.varies, "L") and stage.substeps != count:
            raise UsageError(
                f"oscillation={type(oscillation).__name__} writes {count} times per token, but "
                f"{group}={type(stage).__name__} gives {stage.substeps}:\n"
                f"use input=value and expand=key, or set oscillation.substeps={stage.substeps}"
            )
    if skip in ("inputs", "heads") and count > 1:
        raise UsageError(
            f"mixer.skip.of={skip} needs one input per token, but there are {count}: set mixer.skip.of=none"
        )
    alone = type(shrink).forward is Shrink.forward and type(shrink).read is Shrink.read
    if count > 1 and not alone:
        raise UsageError(
            f"shrink={type(shrink).__name__} uses the write of a token, but there are {count}: use shrink=query"
        )


def refuse_followers(oscillation: Oscillation, shrink: Shrink) -> None:
    """Refuse a second pass of stages whose values depend on the tokens before."""
    follows = oscillation.log_scale_start is not None or oscillation.stateful
    if follows or shrink.stateful:
        stage = f"oscillation={type(oscillation).__name__}" if follows else f"shrink={type(shrink).__name__}"
        raise UsageError(
            f"mixer.reverse runs the memory from the end, but {stage} depends on the tokens before:\n"
            "set mixer.reverse.shrink=none"
        )


def refuse_lengths(oscillation: Oscillation) -> None:
    """Refuse the lengths of steps, `context.dt`, where the oscillation takes none."""
    if not oscillation.irregular:
        raise UsageError(
            f"context.dt gives the length of each step, but oscillation={type(oscillation).__name__} as it was built "
            "takes steps\nof one length only: use s5, s4d_lin or ldnn with oscillation.irregular=true, or ssm or mamba2"
        )
