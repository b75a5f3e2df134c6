"""The contract of the stages: `forward(x, past, context) -> value, past`.

An oscillation takes the expand too, behind x; a shrink the expand and the structure of the oscillation.

A step is `forward` at L = 1. A stage that needs memory of its own (a convolution tail, a running log-sum-exp) keeps it
in `past`: None at the start of a sequence, otherwise what its last call returned.

A stage is its class and its YAML. Constructor arguments named `input_dim` (width of what it reads), `d_model`,
`num_heads`, `state_dim`, `value_dim`, `layer`, `num_layers` and `common` (modules that several layers use, by a key)
are given by the builder; every other one is a key of the YAML and has no default in Python. A stage that takes no
`input_dim`, or declares no axis L, is constant, and its source keeps nothing for it.

    here                attention           state space models        recurrent networks
    inputs              values v            x, u                      candidate
    expand              keys k              B
    shrink              queries q           C                         output gate
    oscillation         decay, gate         A, transition             forget gate
    its gain            beta                step size dt              input gate
    its phase           rotary angle        imaginary part of A dt
    memory              state S             state h                   hidden state
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

from torch import nn

from lcsm.errors import UsageError
from lcsm.ops.recurrence import Read, Written
from lcsm.shapes import Factor, Float, Inputs, Stream, Tensor, Writes
from lcsm.structures import Context, Structure

# The stages that read a source, in the order in which the mixer runs them.
READERS = ("input", "expand", "oscillation", "shrink", "gate", "skip")
# What 0.1.0 called attributes and methods of stages, which would have no effect any more.
FORMER = {"remembers": "stateful", "hands_on": "shares_values", "past_numbers": "state_size"}


class Stage(nn.Module):
    """Base of all stages.

    Attributes:
        varies: the axes along which the value varies, as `ops.spec.RecurrenceSpec` explains; checked by the tests.
        stateful: its values depend on earlier tokens through `past`, so that no second direction can use them.
        shares_values: leaves values for later layers in `context.shared`, which lives as long as one call of the model.
    """

    varies: str = ""
    stateful: bool = False
    shares_values: bool = False

    def __init_subclass__(cls, **settings: Any) -> None:
        """Refuse what a stage that was written for 0.1.0 defines in vain.

        Raises:
            UsageError: with the name of today.
        """
        super().__init_subclass__(**settings)
        for former in FORMER.keys() & vars(cls).keys():
            raise UsageError(f"{cls.__module__}.{cls.__qualname__}.{former} is called {FORMER[former]} now")

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        """A direction of write or read that follows from x alone, [B L H N P]: all that most of those stages define."""
        raise TypeError(f"{type(self).__name__} must define vector(x, past, context) or forward")

    def state_size(self) -> int:
        """Real numbers that this stage keeps in `past` for one sequence."""
        return 0

    def memory_flops(self) -> int:
        """Multiplications and additions per token of a memory that this stage has of its own, in the recurrent form."""
        return 0


class Source(Stage, ABC):
    """The streams of the readers: one tensor [B L width] per name in READERS.

    Attributes:
        widths: the width that each reader sees; d_model where a reader is absent.
    """

    widths: dict[str, int]

    @abstractmethod
    def forward(
        self, x: Stream, past: Any = None, context: Context | None = None
    ) -> tuple[dict[str, Float[Tensor, "B L W"]], Any]:
        """Map the block's input to what each reader sees."""

    def serve(self, readers: Collection[str]) -> None:
        """Leave out the parameters of readers that the mixer does not have.

        A parameter without a gradient stops training on several processes.
        """


class Input(Stage, ABC):
    """The values to write: inputs [B L H P].

    Attributes:
        substeps: writes per token, one row each; the first axis after B is then L * substeps long.
        complex_values: whether the inputs are complex, which needs an oscillation with a phase.
    """

    substeps: int = 1
    complex_values: bool = False

    @abstractmethod
    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        """The values that expand_t writes into the memory."""


class Expand(Stage):
    """The direction along which the input is written: expand [B L H N P], any axis of size 1 where it is constant.

    Attributes:
        substeps: as for `Input`.
        complex_values: whether the direction is complex, which needs an oscillation with a phase.
    """

    substeps: int = 1
    complex_values: bool = False

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Writes, Any]:
        """The direction of the write."""
        return self.vector(x, past, context)


class Oscillation(Stage, ABC):
    """The change of the memory from one token to the next: decay, transition.

    Attributes:
        kind: the structure returned: diagonal, low_rank, dense or shift.
        decay, phase, gain: declarations of those fields; None where absent.
        pairs: modes stand for conjugate pairs.
        substeps: writes per token.
        log_scale_start: start of the running maximum where the structure has a log_gain, else None.
        growing: decays may exceed 1.
        irregular: takes the length of each step from `context.dt`; a mixer refuses lengths for any other.
    """

    kind: str = "diagonal"
    decay: str | None = None
    phase: str | None = None
    gain: str | None = None
    pairs: bool = False
    substeps: int = 1
    log_scale_start: float | None = None
    growing: bool = False
    irregular: bool = False

    @abstractmethod
    def forward(
        self, x: Stream, expand: Writes, past: Any = None, context: Context | None = None
    ) -> tuple[Structure, Any]:
        """The structure of every step; `expand` is given to oscillations that are tied to it."""


class Shrink(Stage):
    """The weights that read the memory: shrink [B L H N P], any axis of size 1 where it is constant.

    Attributes:
        reads: "vector", or "memory" where the algorithm returns the whole memory and `read_out` maps it.
        exclusive: reads the memory before the decay and the write of the same step.
        output_dim: width of what leaves each head where it is not value_dim.
        complex_memory: whether `read_out` needs a complex memory; None where it takes any.
        pairs: whether `read_out` doubles what it reads for conjugate pairs; None where the algorithm does.
        adds_late: whether `read` gives something to add after the normaliser.
    """

    reads: str = "vector"
    exclusive: bool = False
    output_dim: int | None = None
    complex_memory: bool | None = None
    pairs: bool | None = None
    adds_late: bool = False

    def forward(
        self,
        x: Stream,
        expand: Writes | None = None,
        structure: Structure | None = None,
        past: Any = None,
        context: Context | None = None,
    ) -> tuple[Factor, Any]:
        """The direction of the read; the expand and the oscillation's structure are for shrinks tied to them."""
        return self.vector(x, past, context)

    def read_out(self, outputs: Tensor) -> Tensor:
        """The outputs of each head, from those of the algorithm."""
        return outputs

    def read(self, outputs: Tensor, written: Written, shrink: Factor) -> Read:
        """The outputs of the memory, with the bonus of the current token.

        Of complex values the real part counts, as it does of what is read.

        Args:
            outputs: what the algorithm returned.
            written: what the tokens wrote.
            shrink: the value of this stage.
        """
        return written.read(self.read_out(outputs))


class Normaliser(nn.Module):
    """Keeps the outputs in range: forward(outputs, log_scale) -> outputs.

    log_scale, [B L #H 1], is the logarithm of what the outputs are still to be multiplied by; None for nothing.

    Attributes:
        denominator: whether the memory gets one more column that sums the weights.
    """

    denominator: bool = False
