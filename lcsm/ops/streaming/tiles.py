"""Relaxed tiles: an exact convolution of a stream in O(log^2 K) work per token on average.

Outputs are summed from tiles. A token meets the inputs of its own block of 32 directly. When j inputs are known and U
is the largest power of two that divides j, one FFT adds what inputs j - U .. j - 1 give to outputs j .. j + U - 1.
Tiles are capped at the length of the kernel, so that K inputs and K pending outputs are kept, however long the stream.
Source: relaxed multiplication (van der Hoeven); for sequence models Flash Inference (2410.12982).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lcsm.ops.streaming.base import Convolver, Tape, convolve
from lcsm.shapes import Complex, Float, Tensor


@dataclass
class TiledTape(Tape):
    """A tape with what later outputs already have.

    Args:
        pending: by position modulo the capacity, [capacity B C].
    """

    pending: Float[Tensor, "M B C"]


class Tiles(Convolver):
    """O(log^2 K) work per token on average, O(K log K) for the tokens that end a large tile.

    Args:
        kernel: [K C].
        base: length of the blocks within which outputs are summed directly, a power of two.
    """

    def __init__(self, kernel: Float[Tensor, "K C"], base: int = 32) -> None:
        super().__init__(kernel)
        self.base = base
        # the largest lag must fit into a tile
        self.capacity = max(base, 1 << (len(kernel) - 2).bit_length() if len(kernel) > 1 else base)
        self.reversed = kernel[:base].flip(0)[:, None].contiguous()
        self.spectra: dict[int, Complex[Tensor, "C F"]] = {}

    def spectrum(self, size: int) -> Complex[Tensor, "C F"]:
        """Spectrum of the first 2 `size` taps."""
        if size not in self.spectra:
            self.spectra[size] = torch.fft.rfft(self.taps[: 2 * size].t().contiguous(), n=2 * size)
        return self.spectra[size]

    def start(self, history: Float[Tensor, "B T C"]) -> Tape:
        pending = self.blank(history, self.capacity)
        reach = min(len(self.taps) - 1, self.capacity)
        if reach and history.shape[1]:
            # what the prompt gives to the outputs after it, so that it never needs to be met again
            future = convolve(F.pad(history[:, -reach:], (0, 0, 0, reach)), self.taps)
            pending[:reach] = future[:, -reach:].transpose(0, 1)
        return TiledTape(0, self.remembered(history), pending)

    def step(self, x: Float[Tensor, "B C"], tape: Tape) -> Float[Tensor, "B C"]:
        assert isinstance(tape, TiledTape)
        newest = (tape.position - 1) % self.capacity
        tape.inputs[newest] = x
        inside = newest % self.base + 1
        block = tape.inputs[newest + 1 - inside : newest + 1]
        taps = self.reversed[-inside:]
        output = (block[-len(taps) :] * taps).sum(0).add_(tape.pending[newest])
        tape.pending[newest] = 0
        if inside == self.base:
            self.hand_on(tape)
        return output

    def hand_on(self, tape: TiledTape) -> None:
        """Add one tile to the pending outputs."""
        known = tape.position
        size = min(known & -known, self.capacity)
        before = (known - size) % self.capacity
        inputs = tape.inputs[before : before + size].permute(1, 2, 0)
        found = torch.fft.irfft(torch.fft.rfft(inputs, n=2 * size) * self.spectrum(size), n=2 * size)[..., size:]
        after = known % self.capacity
        tape.pending[after : after + size] += found.permute(2, 0, 1)

    def state_size(self) -> int:
        return 2 * self.capacity
