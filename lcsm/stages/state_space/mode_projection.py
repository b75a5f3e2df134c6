"""Projections between channels and the modes of a state space system: B x_t and C m_t of S5, LDNN and LRU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.init import trunc_normal_

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Complex, Factor, Float, Num, Stream, Tensor
from lcsm.stages.base import Expand, Shrink
from lcsm.stages.settings import choose
from lcsm.stages.state_space import hippo
from lcsm.structures import Context, widen

# A standard normal truncated at 2 has this standard deviation; initialisations of JAX correct for it.
TRUNCATED_STD = 0.87962566103423978

# shape -> complex128 numbers; the last two axes are (modes, channels) of B or (channels, modes) of C
Draw = Callable[[tuple[int, int, int]], Complex[Tensor, "H ..."]]


def truncated(shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers truncated at 2."""
    return trunc_normal_(torch.empty(shape, dtype=torch.float64, device="cpu"))


def truncated_complex(shape: tuple[int, int, int]) -> Complex[Tensor, "H ..."]:
    """Standard normal numbers truncated at 2 in each part (LDNN)."""
    return torch.complex(truncated(shape), truncated(shape))


def scaled(draw: Draw, fan: Callable[[tuple[int, int, int]], float]) -> Draw:
    """Numbers of variance 1 / fan in each part."""
    return lambda shape: draw(shape) * fan(shape) ** -0.5


def normal(shape: tuple[int, int, int]) -> Complex[Tensor, "H ..."]:
    """Standard normal numbers in each part."""
    return torch.randn(shape, dtype=torch.complex128, device="cpu") * 2**0.5


def unit_truncated(shape: tuple[int, int, int]) -> Complex[Tensor, "H ..."]:
    """Truncated normal numbers of variance 1 in each part."""
    return truncated_complex(shape) / TRUNCATED_STD


# B: [H modes channels]. The fan-in of S5 is the number of modes, as JAX counts it.
INPUT_DRAWS: dict[str, Draw] = {
    "lecun": scaled(lambda shape: unit_truncated(shape).real + 0j, lambda shape: shape[1]),
    "normal": scaled(normal, lambda shape: 2 * shape[2]),
    "truncated": truncated_complex,
}
# C: [H channels modes]. The fan-in of `lecun` counts the channels too, that of `truncated_lecun` only the modes.
OUTPUT_DRAWS: dict[str, Draw] = {
    "lecun": scaled(unit_truncated, lambda shape: shape[1] * shape[2]),
    "truncated_lecun": scaled(unit_truncated, lambda shape: shape[2]),
    "complex_normal": scaled(normal, lambda shape: 2),
    "normal": scaled(normal, lambda shape: shape[2]),
    "truncated": truncated_complex,
}


def eigenvectors(basis: str, modes: int, blocks: int, pairs: bool) -> Complex[Tensor, "S N"] | None:
    """Eigenvectors V of the matrix whose modes are meant, from S real states; None where numbers are drawn per mode."""
    size = modes * (2 if pairs else 1)
    options: dict[str, Callable[[], Tensor | None]] = {
        "none": lambda: None,
        "hippo": lambda: hippo.block_modes(size, blocks, pairs)[1],
        "released": lambda: hippo.released_ldnn_modes(size, pairs)[1],
    }
    return choose("expand.basis and shrink.basis", basis, options)()


def share(d_model: int, num_heads: int, group: str) -> int:
    """Channels of each head."""
    if d_model % num_heads:
        raise UsageError(
            f"{group} splits its {d_model} channels among the heads, but mixer.num_heads={num_heads} does not divide "
            "them:\nchoose a number of heads that divides them"
        )
    return d_model // num_heads


def stored(weight: Complex[Tensor, "H Q N"], complex_weights: bool) -> Tensor:
    """The numbers that are trained: pairs of reals [... 2], or the real part alone."""
    weight = weight.resolve_conj()
    return (torch.view_as_real(weight) if complex_weights else weight.real).to(torch.get_default_dtype())


class ModeInput(Expand):
    """Input matrices of modes over the channels of their head: expand_t = B x_t (with input=ones and value_dim = 1).

    Args:
        complex_weights: whether B is complex.
        init: lecun (real, variance 1 / states), normal (variance 1 / (2 channels) in each part) or truncated (normal,
            truncated at 2, in each part).
        basis: none (B is drawn in the modes), hippo or released (B is drawn in the states and multiplied by V^*, the
            inverse eigenvectors of that spectrum; all heads start alike).
        blocks, pairs: those of the oscillation, which fix the eigenvectors.
    Returns:
        [B L H N 1].
    Source: S5 (2208.04933) lecun with hippo; LDNN truncated with either, real; LRU (2303.06349) normal with none.
    """

    varies = "LHN"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        complex_weights: bool,
        init: Literal["lecun", "normal", "truncated"],
        basis: Literal["none", "hippo", "released"],
        blocks: int,
        pairs: bool,
    ) -> None:
        super().__init__()
        self.complex_weights, self.num_heads = complex_weights, num_heads
        self.complex_values = complex_weights
        channels = share(input_dim, num_heads, "expand")
        vectors = eigenvectors(basis, state_dim, blocks, pairs)
        draw = choose("expand.init", init, INPUT_DRAWS)
        if vectors is None:
            weight = draw((num_heads, state_dim, channels))
        else:
            weight = (vectors.mH @ draw((1, vectors.shape[0], channels))).repeat(num_heads, 1, 1)
        self.weight = mark(nn.Parameter(stored(weight, complex_weights)), group="oscillation")

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        heads = x.unflatten(-1, (self.num_heads, -1))
        if not self.complex_weights:
            return torch.einsum("blhq,hnq->blhn", heads, self.weight)[..., None], past
        # one real product for both parts
        parts = torch.einsum("blhq,hnqc->blhnc", heads, self.weight)
        return torch.view_as_complex(widen(parts).contiguous())[..., None], past


class ModeOutput(Shrink):
    """The output matrix of the channels of each head over its modes: C m_t, real part; twice that for conjugate pairs.

    Args:
        complex_weights: whether C is complex; a real one reads the real part of the memory.
        init: lecun (variance 1 / (channels states) in each part), truncated_lecun (1 / states), complex_normal (1 / 2),
            normal (1 / states) or truncated (normal, truncated at 2).
        basis: none (C is drawn in the modes), hippo or released (drawn in the states and multiplied by V, the
            eigenvectors of that spectrum).
        blocks, pairs: those of the oscillation.
    Returns:
        vector: [1 1 1 1 1], as nothing is read by a vector. read_out: from the memory [B L H N] to [B L H D/H].
    Source: S5 (2208.04933) lecun or truncated_lecun with hippo, complex_normal with none; LDNN truncated, real; LRU
        (2303.06349) normal with none.
    """

    reads = "memory"
    complex_memory = True
    one: Tensor

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        state_dim: int,
        complex_weights: bool,
        init: Literal["lecun", "truncated_lecun", "complex_normal", "normal", "truncated"],
        basis: Literal["none", "hippo", "released"],
        blocks: int,
        pairs: bool,
    ) -> None:
        super().__init__()
        self.complex_weights, self.pairs = complex_weights, pairs
        self.output_dim = share(d_model, num_heads, "shrink")
        vectors = eigenvectors(basis, state_dim, blocks, pairs)
        size = state_dim if vectors is None else vectors.shape[0]
        weight = choose("shrink.init", init, OUTPUT_DRAWS)((num_heads, self.output_dim, size))
        weight = weight if vectors is None else weight @ vectors
        self.weight = mark(nn.Parameter(stored(weight, complex_weights)))
        self.register_buffer("one", torch.ones(1, 1, 1, 1, 1), persistent=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        return self.one, past

    def read_out(self, outputs: Num[Tensor, "B L H N"]) -> Float[Tensor, "B L H Q"]:
        """Project the memory of every step and head, [B L H N], to [B L H Q] with Q = D / H."""
        weight = self.weight.to(outputs.real.dtype)
        if self.complex_weights:
            # Re(C m) = Re C Re m - Im C Im m as one real product
            outputs = torch.view_as_real(outputs.resolve_conj())
            signs = torch.tensor([1.0, -1.0], dtype=weight.dtype, device=weight.device)
            with torch.autocast(outputs.device.type, enabled=False):
                read = torch.einsum("blhnc,hqnc->blhq", outputs, weight * signs)
        else:
            with torch.autocast(outputs.device.type, enabled=False):
                read = torch.einsum("blhn,hqn->blhq", outputs.real, weight)
        return 2 * read if self.pairs else read
