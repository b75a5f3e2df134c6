"""Learning-rate schedules: factors of the base rate as plain functions of the step, with picklable state."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from lcsm.components import resolve
from lcsm.errors import UsageError


class Schedule(ABC):
    """Factor of the base rate, step by step.

    An instance holds plain numbers and texts, which is what `LambdaLR` stores in a checkpoint.

    Attributes:
        elapsed: seconds that the finished steps took, set by a callback where the schedule has a `max_time`.
        warmup_steps: steps until the full rate.
    """

    elapsed = 0.0
    warmup_steps = 0

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The factor of the next step, >= 0, after `step` finished ones."""


class WarmUp(Schedule):
    """A linear rise from 1/warmup_steps to 1 over the first steps."""

    def __init__(self, warmup_steps: int) -> None:
        if warmup_steps < 0:
            raise UsageError(f"schedule.warmup_steps={warmup_steps} must be >= 0; 0 starts at the full rate")
        self.warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return self.after(step)

    def after(self, step: int) -> float:
        """The factor once the warm-up is over."""
        return 1.0


class Constant(WarmUp):
    """Warm-up, then the full rate."""


class Cosine(WarmUp):
    """Warm-up, then half a cosine down to `final_fraction` of the rate, where it stays.

    It ends at `max_steps`, or earlier where `max_time` will be over. That step is foreseen from the pace so far: the
    rates then follow the clock, and no two runs have the same. A longer warm-up ends at `max_steps`; time does not
    shorten it, because the pace of the first steps says little.

    Args:
        max_time: days:hours:minutes:seconds as in `trainer.max_time`; None = no limit.
    """

    def __init__(
        self, warmup_steps: int, *, final_fraction: float, max_steps: int, max_time: str | None = None
    ) -> None:
        super().__init__(min(warmup_steps, max(max_steps, 1)))
        if not 0 <= final_fraction <= 1:
            raise UsageError(
                f"schedule.final_fraction={final_fraction} must lie in [0, 1]; 0.1 ends at a tenth of the rate"
            )
        if max_steps < 1:
            raise UsageError(
                f"schedule.max_steps={max_steps} must be at least 1: a cosine needs its end; "
                "set trainer.max_steps or use schedule=constant"
            )
        self.final_fraction = final_fraction
        self.max_steps = max_steps
        self.max_seconds = None if max_time is None else seconds_of(max_time)

    def after(self, step: int) -> float:
        end: float = self.max_steps
        if self.max_seconds is not None and self.elapsed > 0:
            end = min(end, step * self.max_seconds / self.elapsed)
        progress = min(1.0, (step - self.warmup_steps) / max(1, end - self.warmup_steps))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


def seconds_of(duration: str) -> int:
    """Seconds of a time that is written as days:hours:minutes:seconds."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", str(duration))
    if found is None:
        raise UsageError(
            f"schedule.max_time={duration!r}, which is trainer.max_time unless it is set, must be "
            "days:hours:minutes:seconds, e.g. 00:01:30:00"
        )
    days, hours, minutes, seconds = map(int, found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class InverseSquareRoot(WarmUp):
    """Warm-up, then the rate falls as 1/sqrt(step), from the full rate at the end of the warm-up.

    Source: Vaswani et al., Attention Is All You Need (arXiv 1706.03762), section 5.3, up to a constant.
    """

    def __init__(self, warmup_steps: int) -> None:
        super().__init__(warmup_steps)
        if warmup_steps < 1:
            raise UsageError(f"schedule.warmup_steps={warmup_steps} must be at least 1 for schedule=inverse_sqrt")

    def after(self, step: int) -> float:
        return math.sqrt(self.warmup_steps / (step + 1))


def build_schedule(node: dict[str, Any], allowed: Sequence[str] = ()) -> Schedule:
    """The schedule of the configuration.

    Args:
        node: the class and its settings.
        allowed: classes outside lcsm that may be named.
    Raises:
        UsageError: the class cannot be found, is no schedule or refuses a setting.
    """
    component = resolve("schedule", node, Schedule, allowed)
    try:
        schedule: Schedule = component(**{key: value for key, value in node.items() if key != "_target_"})
    except TypeError as error:
        raise UsageError(f"schedule: {component.__name__}: {error}") from error
    return schedule
