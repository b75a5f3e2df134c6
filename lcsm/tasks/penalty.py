"""A penalty on Hankel spectra, small for kernels that few modes can give, so that training finds compressible ones."""

from __future__ import annotations

import torch

from lcsm.models.long_convolutions import Site
from lcsm.ops.hankel import hankel
from lcsm.shapes import Float, Tensor

# below this part of the largest singular value, gradients of singular values are left out: they point anywhere
SMALLEST = 1e-6


def spectral_spread(kernel: Float[Tensor, "C L"]) -> Float[Tensor, " C"]:
    """Sum of the Hankel singular values over the root of the sum of their squares: 1 for one mode, sqrt(h) for noise.

    It does not change with the size of a kernel. Lag 0 is left out, since every recurrence has a tap for it.
    Source: the nuclear norm as in Hankel regularisation (2510.22951), here normalised by the Frobenius norm.
    """
    values = torch.linalg.eigvalsh(hankel(kernel[:, 1:])).abs()
    values = values * (values > SMALLEST * values.amax(1, keepdim=True))
    return values.sum(1) / values.square().sum(1).clamp_min(torch.finfo(values.dtype).tiny).sqrt()


def hankel_penalty(sites: list[Site], lags: int, channels: int) -> Float[Tensor, ""]:
    """The mean spread of the spectra of some channels, drawn anew at every call.

    Args:
        sites: the long convolutions of a model.
        lags: first lags that are looked at, at most those of the memory; the cost grows with their cube.
        channels: of each convolution.
    """
    found = []
    for site in sites:
        kernel = site.shrink.kernel(min(lags, site.lags)).transpose(1, 2).flatten(0, 1)
        chosen = torch.randperm(len(kernel))[:channels].to(kernel.device)
        found.append(spectral_spread(kernel[chosen]))
    return torch.cat(found).mean()
