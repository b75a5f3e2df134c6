"""Causal convolution by real FFTs in blocks of channels; the backward pass makes the FFTs again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from lcsm.ops.steps.blocks import total
from lcsm.shapes import Float, Tensor

# Every call of the FFT library plans anew, which 32 sequences make up for; samples of a block otherwise, for the cache.
CHANNELS = 32
SAMPLES = 1 << 19


@lru_cache(maxsize=256)
def good_size(least: int) -> int:
    """The smallest even 2^a 3^b 5^c that is at least `least`: other sizes cost up to seven times as much."""
    best = 1 << max(1, (least - 1).bit_length())
    five = 1
    while five < best:
        three = five
        while three < best:
            size = three * 2 ** max(1, (-(-least // three) - 1).bit_length())
            best = min(best, size)
            three *= 3
        five *= 5
    return best


def causal_convolution(inputs: Float[Tensor, "B L K R"], kernel: Float[Tensor, "K T"]) -> Float[Tensor, "B L K R"]:
    """outputs_t = sum over s <= t of kernel[t - s] inputs_s; R channels share each kernel; T <= L taps."""
    return _Convolution.apply(inputs, kernel)


class _Blocks:
    """Blocks of batch rows and channels, with one reused buffer of zero-padded sequences."""

    def __init__(self, inputs: Tensor, kernel: Tensor):
        batch, self.length, self.kernels, self.shared = inputs.shape
        self.size = good_size(self.length + kernel.shape[1] - 1)
        channels = max(CHANNELS, SAMPLES // self.size)
        self.wide = min(self.shared, channels)
        self.many = min(self.kernels, max(1, channels // self.wide))
        self.rows = min(batch, max(1, SAMPLES // (self.size * self.wide * self.many)))
        self.batch = batch
        self.buffers = [inputs.new_zeros(self.rows * self.many * self.wide * self.size) for _ in range(2)]

    def kernel_slices(self) -> Iterator[slice]:
        return (slice(start, start + self.many) for start in range(0, self.kernels, self.many))

    def within(self, kernels: slice) -> Iterator[tuple[slice, slice, slice, slice]]:
        """Indices into [B L K R] of the blocks that use some kernels."""
        for row in range(0, self.batch, self.rows):
            for start in range(0, self.shared, self.wide):
                yield slice(row, row + self.rows), slice(None), kernels, slice(start, start + self.wide)

    def transform(self, block: Tensor, backwards: bool, buffer: int) -> Tensor:
        """Spectrum of a block [b L k r], optionally of the sequences read backwards; [b k r frequencies]."""
        # the zeros behind every sequence are never written, so that the buffer is padded once for all blocks
        padded = self.buffers[buffer][: block[:, 0].numel() * self.size].view(len(block), -1, self.size)
        for row, sequences in zip(padded, block, strict=True):
            # dense rows first: transposing a dense matrix is three times as fast as transposing a slice of one
            dense = sequences.flip(0) if backwards else sequences.contiguous()
            row[:, : self.length] = dense.flatten(1).t().contiguous()
        padded = padded.view(len(block), *block.shape[2:], self.size)
        return torch.fft.rfft(padded)

    def invert(self, spectrum: Tensor) -> Tensor:
        """Sequences of the full size."""
        return torch.fft.irfft(spectrum, n=self.size)

    def write(self, spectrum: Tensor, target: Tensor, backwards: bool) -> None:
        """The sequences of a spectrum into a block [b L k r], by way of dense matrices as in `transform`."""
        found = self.invert(spectrum).flatten(1, 2)[..., : self.length]
        for row, sequences in zip(target, found, strict=True):
            dense = sequences.flip(1) if backwards else sequences.contiguous()
            row.copy_(dense.t().contiguous().view(row.shape))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, kernel)
        outputs, blocks = torch.empty_like(inputs), _Blocks(inputs, kernel)
        for kernels in blocks.kernel_slices():
            response = torch.fft.rfft(kernel[kernels], n=blocks.size).unsqueeze(1)
            for index in blocks.within(kernels):
                spectrum = blocks.transform(inputs[index], False, 0).mul_(response)
                blocks.write(spectrum, outputs[index], False)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        # read backwards, both gradients are causal convolutions: no conjugates
        inputs, kernel = ctx.saved_tensors
        d_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[0] else None
        d_kernel = torch.empty_like(kernel) if ctx.needs_input_grad[1] else None
        blocks = _Blocks(inputs, kernel)
        first = blocks.length - kernel.shape[1]
        for kernels in blocks.kernel_slices():
            response = torch.fft.rfft(kernel[kernels], n=blocks.size).unsqueeze(1)
            matched: Tensor | None = None
            for index in blocks.within(kernels):
                spectrum = blocks.transform(gradient[index], True, 0)
                if d_kernel is not None:
                    share = blocks.transform(inputs[index], False, 1).mul_(spectrum)
                    share = total(share, (1, share.shape[1], 1, share.shape[3]))
                    matched = share if matched is None else matched.add_(share)
                if d_inputs is not None:
                    blocks.write(spectrum.mul_(response), d_inputs[index], True)
            if d_kernel is not None and matched is not None:
                d_kernel[kernels] = blocks.invert(matched)[0, :, 0, first : blocks.length].flip(1)
        return d_inputs, d_kernel
