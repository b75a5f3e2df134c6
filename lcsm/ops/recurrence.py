"""The recurrence: what the tokens write, the algorithm that runs the memory over them, and what is read.

memory_t = oscillation_t(memory_{t-1}) + expand_t input_t^T
output_t = memory_t^T shrink_t
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lcsm.errors import UsageError
from lcsm.ops.dispatch import AlgorithmChoice, choose_algorithm
from lcsm.ops.reference import extents, real_part, reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.stabilise import Scale, stabilise
from lcsm.shapes import Factor, Inputs, Outputs, Resets, Tensor, Writes
from lcsm.structures import Diagonal, Structure, widen


@dataclass(frozen=True)
class Read:
    """Outputs of the memory, on their way to the normaliser.

    Args:
        outputs: [B L H P], P + 1 with a denominator.
        log_scale: logarithm of what they are still to be multiplied by, [B L #H 1]; None for nothing.
        late: what is added after the normaliser, [B L H P]; None for nothing.
    """

    outputs: Outputs
    log_scale: Tensor | None = None
    late: Outputs | None = None


@dataclass(frozen=True)
class Written:
    """Writes of the tokens and changes of the memory, in the form that algorithms take.

    Args:
        spec: the static description.
        structure: how each step changes the memory; its gain is applied and its weights are bounded.
        inputs, expand: what each step adds, [B L H P] and [B L H N P], P + 1 with a denominator.
        scale: of a stabilised memory.
    """

    spec: RecurrenceSpec
    structure: Structure
    inputs: Inputs
    expand: Writes
    scale: Scale | None = None

    @property
    def log_scale(self) -> Tensor | None:
        """The scale of the memory after the last step, which a stream carries."""
        return None if self.scale is None else self.scale.after[:, -1]

    def flip(self) -> Written:
        """The same of the sequence read backwards."""
        return replace(
            self, structure=self.structure.flip(), inputs=self.inputs.flip(1), expand=self.expand.flip(1), scale=None
        )

    def current_token_bonus(self, shrink: Factor, weight: Factor) -> Outputs:
        """The output of each token from its own write alone, along weighted rows, [B L H P].

        Args:
            shrink: [B L H N P].
            weight: [1 1 H N 1].
        """
        return real_part(self.spec, (shrink * self.expand * weight).sum(3) * self.inputs)

    def read(self, outputs: Outputs, bonus: Outputs | None = None) -> Read:
        """The outputs of the memory, and the bonus of the current token beside them.

        Args:
            outputs: [B L H P], in units of the running maximum before the step (exclusive) or after it.
            bonus: [B L H P], in units of the maximum after the step; None for nothing.
        """
        if self.scale is None:
            return Read(outputs if bonus is None else outputs + bonus)
        scale, after = self.scale, self.scale.after.squeeze(3)
        if not self.spec.exclusive:
            return Read(outputs if bonus is None else outputs + bonus, after)
        before = scale.before.squeeze(3)
        if bonus is None:
            return Read(outputs, before)
        # in units of whichever is larger, so that neither overflows
        unit = torch.maximum(before, scale.log_gain.squeeze(3)).detach()
        return Read(outputs * (before - unit).exp() + bonus * (after - unit).exp(), unit)


class Recurrence:
    """A memory, the algorithm that runs it over many tokens at once, and the one that takes a single step.

    Args:
        spec: the static description.
        request: name of an algorithm, or "auto" for the first that fits.
        log_scale_start: start of the running maximum where the structure has a log_gain, else None.
    Raises:
        UsageError: the algorithm is unknown or does not serve the recurrence.
    """

    def __init__(self, spec: RecurrenceSpec, request: str = "auto", log_scale_start: float | None = None) -> None:
        self.spec, self.request, self.log_scale_start = spec, request, log_scale_start
        self.handed: Callable[..., Any] | None = None
        self.choices: dict[str, AlgorithmChoice] = {}
        self.choice("cpu")

    def choice(self, device: str) -> AlgorithmChoice:
        """The algorithm for a type of device, chosen when the memory first comes there."""
        if device not in self.choices:
            self.choices[device] = choose_algorithm(self.spec, self.request, device)
        return self.choices[device]

    def function(self, device: str) -> Callable[..., Any]:
        """The function that runs the memory on a type of device.

        Raises:
            UsageError: the algorithm that was asked for does not run there.
        """
        choice = self.choice(device)
        if choice.name not in choice.available:
            raise UsageError(
                f"mixer.algorithm={choice.name!r} does not run on {device}, where the model is: choose auto or one of "
                f"{', '.join(choice.available)}, or another trainer.accelerator"
            )
        return choice.function

    def hand_to(self, algorithm: Callable[..., Any]) -> None:
        """Let another algorithm run the memory, all at once and step by step, on every device."""
        self.handed = algorithm

    def write(
        self,
        structure: Structure,
        inputs: Inputs,
        expand: Writes,
        log_scale: Tensor | None = None,
        resets: Resets | None = None,
    ) -> Written:
        """The writes of the tokens, with the column of a denominator, bounded weights, and the gain applied.

        Args:
            structure: the oscillation of every step.
            inputs: [B L H P], with L x substeps rows.
            expand: [B L H N P], any axis of size 1 where it is constant, with L x substeps rows.
            log_scale: what the call before left in `Written.log_scale`.
            resets: True where the memory from before the token is forgotten, [B L].
        """
        inputs, expand, scale = widen(inputs), widen(expand), None
        with torch.autocast(inputs.device.type, enabled=False):
            if self.spec.denominator:
                inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1)
            if self.log_scale_start is not None:
                assert isinstance(structure, Diagonal), "unbounded weights are those of a diagonal"
                structure, scale = stabilise(structure, self.log_scale_start, log_scale, resets)
            inputs, expand = structure.apply_gain(inputs, expand)
        return Written(self.spec, structure, inputs, expand, scale)

    @torch.compiler.disable
    def run(
        self,
        written: Written,
        shrink: Factor,
        memory: Any = None,
        keep: bool = False,
        resets: Resets | None = None,
    ) -> tuple[Outputs, Any]:
        """Run the memory over the tokens of a call; a single token whose memory is kept is one step.

        Loops over chunks have backward passes of their own: a compiler gains nothing inside and would unroll them.

        Args:
            written: what the tokens do to it.
            shrink: [B L H N P], any axis of size 1 where it is constant.
            memory: the memory before the first token, [B H N P]; None for zeros.
            keep: whether to return the memory after the last token (None otherwise).
            resets: True where the memory from before the token is forgotten, [B L].
        Returns:
            outputs [B L H P] ([B L H N] where the shrink reads the memory), and the memory after the last token.
        Raises:
            UsageError: the algorithm that was asked for does not run on the device of the inputs.
        """
        structure, inputs, expand, shrink = written.structure, written.inputs, written.expand, widen(shrink)
        single = keep and extents(structure, inputs, expand, shrink, self.spec.substeps)[1] == 1
        device = inputs.device.type
        algorithm = self.handed or (reference if single else self.function(device))
        with torch.autocast(device, enabled=False):
            return algorithm(self.spec, structure, inputs, expand, shrink, memory, keep, resets)
