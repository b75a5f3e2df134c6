"""A kernel that is a recurrence: first taps in a ring, everything older in complex modes that are changed in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lcsm.ops.convolution.convolution import convolution
from lcsm.ops.spec import RecurrenceSpec
from lcsm.ops.streaming.base import Convolver, Place, Tape
from lcsm.shapes import Complex, Float, Tensor
from lcsm.structures import LOG_DECAY_FLOOR, Eigenvalues, Register


@dataclass
class ModalTape(Tape):
    """A tape of the last p inputs, twice, with the modes of all older ones.

    Args:
        modes: [B C N].
    """

    modes: Complex[Tensor, "B C N"]


class ModalConvolver(Convolver):
    """O(p + N) work and p + 2 N numbers per token and channel, whatever the length of the kernel.

        modes_t = eigenvalues modes_{t-1} + x_{t-p}
        y_t = sum over j < p of taps_j x_{t-j} + Re sum over n of weights_n modes_t[n]

    What rounding takes from an eigenvalue would be missing at every step, 1e-8 a step in single precision. It is kept
    as a second number, and a step multiplies by both; rounding of the modes themselves leaves 4e-9 a step.

    Args:
        taps: [C p].
        eigenvalues, weights: [C N]; a conjugate pair is one mode whose weight counts for both.
        dtype: real type of inputs and outputs, and of the parts of modes.
    """

    def __init__(
        self,
        taps: Float[Tensor, "C p"],
        eigenvalues: Complex[Tensor, "C N"],
        weights: Complex[Tensor, "C N"],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        taps = taps.to(dtype)
        super().__init__(taps.t())
        channels, self.capacity = taps.shape
        self.factors = eigenvalues.to(dtype.to_complex())
        missing = eigenvalues - self.factors
        self.missing = missing.to(self.factors.dtype) if bool(missing.any()) else None
        self.reversed = taps.t().flip(0)[:, None].contiguous()
        # Re(w m) as one real product
        self.read = torch.view_as_real(weights.to(self.factors.dtype).conj().resolve_conj()).flatten(1).contiguous()
        factors = eigenvalues[None, None, :, :, None]
        log = factors.abs().clamp_min(torch.finfo(torch.float32).tiny).log().clamp_min(LOG_DECAY_FLOOR)
        kind = Register if self.capacity else Eigenvalues
        self.structure = kind(log_decay=log, phase=factors.angle(), factors=factors)
        self.shrink = torch.cat([taps.to(factors.dtype), weights.to(factors.dtype)], 1)[None, None, :, :, None]
        rows = self.capacity + eigenvalues.shape[1]
        self.newest = torch.zeros(1, 1, 1, rows if self.capacity else 1, 1, dtype=taps.dtype, device=taps.device)
        self.newest[:, :, :, 0] = 1
        self.spec = RecurrenceSpec(
            kind="shift",
            decay="HN",
            phase="HN",
            expand="N",
            shrink="HN",
            num_heads=channels,
            state_dim=rows,
            value_dim=1,
        )

    def parallel(self, inputs: Float[Tensor, "B L C"], place: Place | None) -> tuple[Float[Tensor, "B L C"], Place]:
        memory = None if place is None else self.memory(place)
        outputs, memory = convolution(
            self.spec, self.structure, inputs[..., None], self.newest, self.shrink, memory, True
        )
        assert memory is not None, "a memory is asked for"
        first, modes = memory[..., 0].tensor_split([self.capacity], 2)
        ring = first.real.permute(2, 0, 1).flip(0).repeat(2, 1, 1).to(inputs.dtype)
        tape = ModalTape(0, ring, modes.to(self.factors.dtype).contiguous())
        return outputs[..., 0].to(inputs.dtype), Place(tape, 0)

    def memory(self, place: Place) -> Complex[Tensor, "B C N 1"]:
        """The memory of a place as the algorithms of `lcsm.ops` have it, the newest input first."""
        tape = place.tape
        assert isinstance(tape, ModalTape)
        first = tape.modes[:, :, :0]
        if self.capacity:
            first = self.recent(place).flip(1).transpose(1, 2).to(tape.modes.dtype)
        return torch.cat([first, tape.modes], 2)[..., None]

    def step(self, x: Float[Tensor, "B C"], tape: Tape) -> Float[Tensor, "B C"]:
        assert isinstance(tape, ModalTape)
        if not self.capacity:
            return self.turn(x, tape)
        newest = (tape.position - 1) % self.capacity
        oldest = tape.inputs[newest].clone()
        tape.inputs[newest] = x
        tape.inputs[newest + self.capacity] = x
        window = tape.inputs[newest + 1 : newest + 1 + self.capacity]
        return (window * self.reversed).sum(0) + self.turn(oldest, tape)

    def turn(self, x: Float[Tensor, "B C"], tape: ModalTape) -> Float[Tensor, "B C"]:
        """Let an input enter the modes, and read them."""
        entered = x[..., None].to(tape.modes.dtype)
        if self.missing is not None:
            entered = torch.addcmul(entered, tape.modes, self.missing)
        tape.modes.mul_(self.factors).add_(entered)
        return (torch.view_as_real(tape.modes).flatten(2) * self.read).sum(-1)

    def state_size(self) -> int:
        return 2 * self.capacity + 2 * self.factors.shape[1]
