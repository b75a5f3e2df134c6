"""Convolution of a stream with a fixed kernel: what the ways to do one token after the other have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from lcsm.errors import UsageError
from lcsm.ops.convolution.fourier import causal_convolution
from lcsm.shapes import Float, Tensor


@dataclass
class Tape:
    """The writes of a stream; every step changes them in place, so that nothing of the kernel's length is copied.

    Args:
        position: number of tokens since the last call of `Convolver.parallel`.
        inputs: the last inputs, at their position modulo the capacity, [capacity or more, B C].
    """

    position: int
    inputs: Float[Tensor, "M B C"]


@dataclass(frozen=True)
class Place:
    """A position on a tape; only the newest one can be continued.

    Args:
        tape: shared by all places of a stream.
        position: where this place is.
    """

    tape: Tape
    position: int

    def advance(self) -> Place:
        """The next place; the tape moves there.

        Raises:
            UsageError: the stream has been continued from here before.
        """
        if self.position != self.tape.position:
            raise UsageError(
                f"this state is at token {self.position}, but its stream has moved on to {self.tape.position}: a state "
                "of a stream is used once\ncontinue from the newest state, or start again from the prompt"
            )
        self.tape.position += 1
        return Place(self.tape, self.tape.position)


class Convolver(ABC):
    """y_t = sum over j < K of kernel[j] x_{t-j}, for every channel, with a kernel that never changes.

    Args:
        kernel: [K C], at least float32.
    Attributes:
        capacity: number of past inputs that a tape holds, at least K - 1.
    """

    capacity: int

    def __init__(self, kernel: Float[Tensor, "K C"]) -> None:
        self.taps = kernel.contiguous()

    def __call__(self, inputs: Float[Tensor, "B L C"], place: Place | None) -> tuple[Float[Tensor, "B L C"], Place]:
        """The outputs of some more tokens without gradients, and the place behind them; None starts a stream."""
        with torch.no_grad():
            if place is not None and inputs.shape[1] == 1:
                place = place.advance()
                return self.step(inputs[:, 0], place.tape)[:, None], place
            return self.parallel(inputs, place)

    def parallel(self, inputs: Float[Tensor, "B L C"], place: Place | None) -> tuple[Float[Tensor, "B L C"], Place]:
        """Several tokens at once by FFT; starts a new tape from the last inputs."""
        length = inputs.shape[1]
        history = inputs if place is None else torch.cat([self.recent(place), inputs], 1)
        outputs = convolve(history, self.taps)[:, -length:]
        tape = self.start(history[:, -self.capacity :])
        return outputs, Place(tape, tape.position)

    def recent(self, place: Place) -> Float[Tensor, "B T C"]:
        """The last inputs before a place, oldest first."""
        end = place.advance().position - 1
        index = torch.arange(end - self.capacity, end, device=self.taps.device) % self.capacity
        return place.tape.inputs[index].transpose(0, 1)

    def start(self, history: Float[Tensor, "B T C"]) -> Tape:
        """A tape at position 0, before which these inputs came."""
        raise TypeError(f"{type(self).__name__} must define start(history) or parallel")

    @abstractmethod
    def step(self, x: Float[Tensor, "B C"], tape: Tape) -> Float[Tensor, "B C"]:
        """The output of one token; tape.position counts it already."""

    @abstractmethod
    def state_size(self) -> int:
        """Real numbers that one channel of one sequence keeps."""

    def blank(self, history: Float[Tensor, "B T C"], rows: int) -> Float[Tensor, "rows B C"]:
        """Zeros for a tape."""
        batch, _, channels = history.shape
        dtype = torch.promote_types(history.dtype, torch.float32)
        return torch.zeros(rows, batch, channels, dtype=dtype, device=history.device)

    def remembered(self, history: Float[Tensor, "B T C"]) -> Float[Tensor, "capacity B C"]:
        """The inputs before position 0, at their places on a tape."""
        inputs = self.blank(history, self.capacity)
        if history.shape[1]:
            inputs[-history.shape[1] :] = history.transpose(0, 1)
        return inputs


def convolve(inputs: Float[Tensor, "B L C"], taps: Float[Tensor, "K C"]) -> Float[Tensor, "B L C"]:
    """Causal convolution of whole sequences."""
    return causal_convolution(inputs[..., None], taps[: inputs.shape[1]].t().contiguous())[..., 0]
