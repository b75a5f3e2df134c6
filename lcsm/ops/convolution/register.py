"""A shift register that runs into constant modes as a convolution: its kernel, fading memory and final memory."""

from __future__ import annotations

import torch

from lcsm.ops.convolution.fourier import good_size
from lcsm.ops.convolution.vandermonde import ConstantModes, accumulate, evaluate, power
from lcsm.ops.spec import RecurrenceSpec
from lcsm.shapes import Float, Num, Tensor
from lcsm.structures import LOG_DECAY_FLOOR, Factored


class RegisterSystem:
    """The kernel of known eigenvalues, behind the rows of a register or none.

        kernel[j] = shrink_j for the p rows of the register,   Re of sum over n of shrink_n factor_n^(j - p) beyond

    Everything that is raised to powers is double precision: a phase in single precision would be wrong by 1e-7 per
    step.

    Args:
        spec, structure: of the memory.
        expand, shrink: constant, [#H #P N], the register first; what is written enters the register at its first row.
        dtype: real type of the results.
    Raises:
        ValueError: something is written to other rows than the first of a register.
    """

    def __init__(
        self,
        spec: RecurrenceSpec,
        structure: Factored,
        expand: Num[Tensor, "#H #P #N"],
        shrink: Num[Tensor, "#H #P #N"],
        dtype: torch.dtype,
    ) -> None:
        factors = structure.factors[0, 0].mT.to(torch.complex128)
        sizes = (spec.num_heads, spec.value_dim, spec.state_dim)
        log = factors.abs().clamp_min(torch.finfo(torch.float64).tiny).log().clamp_min(LOG_DECAY_FLOOR)
        self.modes = ConstantModes(log, factors.angle())
        self.first = spec.state_dim - factors.shape[-1]
        if self.first and bool(expand[..., 1:].any()):
            raise ValueError("a register takes inputs at its first row: use expand=newest")
        expand, shrink = (value.to(torch.complex128).expand(*value.shape[:2], sizes[2]) for value in (expand, shrink))
        self.expand, self.dtype = expand, dtype
        self.read = (2 if spec.pairs else 1) * shrink
        self.exclusive = spec.exclusive

    def kernel(self, length: int) -> Float[Tensor, "#H #P L"]:
        """The impulse response after 0 .. length - 1 steps."""
        return self._kernel(length).to(self.dtype)

    def _kernel(self, length: int) -> Float[Tensor, "#H #P L"]:
        """The kernel in double precision."""
        count = max(0, length - self.first)
        if not self.first:
            return evaluate(self._full(self.read * self.expand), self.modes, count)
        read = self.read * self.expand[..., :1]
        rest = evaluate(self._full(read[..., self.first :]), self.modes, count)
        taps = read[..., : self.first].real.expand(*rest.shape[:2], -1)
        return torch.cat([taps, rest], -1)[..., :length]

    def _full(self, weights: Tensor) -> Tensor:
        return weights.expand(*torch.broadcast_shapes(weights.shape, self.modes.log_decay.shape))

    def decayed(self, memory: Tensor, length: int) -> Tensor:
        """The outputs of a memory [B H P N] at every step, [B H P L]."""
        steps = 0 if self.exclusive else 1
        memory = memory.to(torch.complex128)
        modes = memory[..., self.first :] * self.read[..., self.first :] * power(self.modes, steps)
        found = evaluate(self._full(modes), self.modes, length)
        if self.first:
            # row j of the register is read as an input of j tokens ago
            kernel = self._unwritten(length + self.first)
            size = good_size(length + 2 * self.first)
            taps, rows = torch.fft.rfft(kernel, n=size), torch.fft.rfft(memory[..., : self.first].real, n=size)
            found = found + torch.fft.irfft(taps * rows.conj(), n=size)[..., steps : steps + length]
        return found.to(self.dtype)

    def _unwritten(self, length: int) -> Float[Tensor, "#H #P L"]:
        """The kernel of what lies in the first row, without the expand that wrote it."""
        rest = evaluate(self._full(self.read[..., self.first :]), self.modes, length - self.first)
        return torch.cat([self.read[..., : self.first].real.expand(*rest.shape[:2], -1), rest], -1)

    def final(self, inputs: Tensor, memory: Tensor | None) -> Tensor:
        """The memory [B H P N] after inputs [B H P L]."""
        length, inputs = inputs.shape[-1], inputs.double()
        if not self.first:
            found = accumulate(inputs.flip(-1), self.modes) * self.expand
            found = found if memory is None else found + power(self.modes, length) * memory
            return found.to(self.dtype.to_complex())
        written = inputs * self.expand[..., :1].real
        register = written.new_zeros(*written.shape[:-1], self.first)
        if memory is not None:
            register = register + memory[..., : self.first].real.flip(-1)
        passed = torch.cat([register.expand(*written.shape[:-1], -1), written], -1)
        modes = accumulate(passed[..., :length].flip(-1), self.modes)
        if memory is not None:
            modes = modes + power(self.modes, length) * memory[..., self.first :]
        last = passed[..., length:].flip(-1).to(modes.dtype)
        return torch.cat([last, modes], -1).to(self.dtype.to_complex())
