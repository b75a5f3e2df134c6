"""Normalisers of the outputs of the memory."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Float, Outputs, Tensor
from lcsm.stages.base import Normaliser
from lcsm.stages.settings import choose, positive
from lcsm.structures import widen


class Identity(Normaliser):
    """The outputs unchanged."""

    def forward(self, outputs: Outputs, log_scale: Tensor | None = None) -> Outputs:
        """Return outputs [B L H P]."""
        return outputs


class LayerNorm(Normaliser):
    """Layer normalisation over all heads concatenated, or over each head alone; in float32.

    Args:
        per_head: statistics of each head alone (group normalisation with one group per head).
        affine: weight_and_bias, weight, or none.
        epsilon: added to the variance, > 0.
    Source: EOS normalises all heads together in place of a denominator (as TransNormer); RWKV-5 per head.
    """

    def __init__(
        self,
        num_heads: int,
        value_dim: int,
        per_head: bool,
        affine: Literal["weight_and_bias", "weight", "none"],
        epsilon: float,
    ) -> None:
        super().__init__()
        self.epsilon = positive("normaliser.epsilon", epsilon)
        self.axes = (value_dim,) if per_head else (num_heads, value_dim)
        wanted = choose("normaliser.affine", affine, {"weight_and_bias": (1, 1), "weight": (1, 0), "none": (0, 0)})
        self.weight = mark(nn.Parameter(torch.ones(num_heads, value_dim))) if wanted[0] else None
        self.bias = mark(nn.Parameter(torch.zeros(num_heads, value_dim))) if wanted[1] else None

    def forward(self, outputs: Outputs, log_scale: Tensor | None = None) -> Outputs:
        """Normalise outputs [B L H P]."""
        outputs = F.layer_norm(widen(outputs), self.axes, eps=self.epsilon)
        outputs = outputs if self.weight is None else outputs * self.weight
        return outputs if self.bias is None else outputs + self.bias


class RmsNorm(Normaliser):
    """Root-mean-square normalisation over groups of heads, without bias; in float32.

    Args:
        groups: 1 for all heads concatenated, "heads" for each head alone, or a number of groups that divides the heads.
        weight: heads, one per channel of every head; shared, one per channel of a head that all heads share; none.
        epsilon: added to the mean square, > 0.
    Raises:
        UsageError: the number of groups does not divide the number of heads, or the weight is unknown.
    Source: RetNet (2307.08621), GLA (2312.06635) and the delta rules per head with a shared weight, as in
        flash-linear-attention; TransNormer (2210.10340) over all heads, without weight; Mamba-2 (2405.21060) per group.
    """

    def __init__(
        self,
        num_heads: int,
        value_dim: int,
        groups: int | Literal["heads"],
        weight: Literal["heads", "shared", "none"],
        epsilon: float,
    ) -> None:
        super().__init__()
        self.epsilon = positive("normaliser.epsilon", epsilon)
        count = num_heads if groups == "heads" else groups
        if not isinstance(count, int) or count < 1 or num_heads % count:
            raise UsageError(
                f"normaliser.groups={groups} must divide mixer.num_heads={num_heads}: choose a divisor, or heads"
            )
        self.sizes, self.heads = (count, num_heads // count * value_dim), (num_heads, value_dim)
        shape = choose("normaliser.weight", weight, {"heads": self.heads, "shared": (value_dim,), "none": None})
        self.weight = None if shape is None else mark(nn.Parameter(torch.ones(shape)))

    def forward(self, outputs: Outputs, log_scale: Tensor | None = None) -> Outputs:
        """Normalise outputs [B L H P]."""
        grouped = widen(outputs).flatten(-2).unflatten(-1, self.sizes)
        outputs = F.rms_norm(grouped, self.sizes[1:], eps=self.epsilon).flatten(-2).unflatten(-1, self.heads)
        return outputs if self.weight is None else outputs * self.weight


def clamped(weight: Tensor, epsilon: float, unit: Tensor | float) -> Tensor:
    """The weight; epsilon with its sign where its modulus is smaller."""
    return torch.where(weight < 0, weight.clamp_max(-epsilon), weight.clamp_min(epsilon))


def added(weight: Tensor, epsilon: float, unit: Tensor | float) -> Tensor:
    """The weight plus epsilon."""
    return weight + epsilon


def at_least_one(weight: Tensor, epsilon: float, unit: Tensor | float) -> Tensor:
    """The modulus of the weight, and at least one, plus epsilon."""
    return weight.abs().clamp_min(unit) + epsilon


RULES = {"clamp": clamped, "add": added, "at_least_one": at_least_one}


class Denominator(Normaliser):
    """Divide by the sum of the weights, which one more column of the memory collects.

        output_t = (memory_t^T shrink_t) / z_t,   z_t the same recurrence with inputs of one

    Args:
        rule: what is divided by. clamp: z, its modulus at least epsilon; add: z + epsilon; at_least_one:
            max(|z|, 1) + epsilon, for weights of either sign.
        epsilon: > 0. Under a running maximum it counts in units of that maximum.
    Source: linear attention (2006.16236) add; cosFormer (2202.08791) clamp; xLSTM (2405.04517) at_least_one.
    """

    denominator = True

    def __init__(self, rule: Literal["clamp", "add", "at_least_one"], epsilon: float) -> None:
        super().__init__()
        self.epsilon = positive("normaliser.epsilon", epsilon)
        self.rule = choose("normaliser.rule", rule, RULES)

    def forward(self, outputs: Float[Tensor, "B L H C"], log_scale: Tensor | None = None) -> Outputs:
        """Divide outputs [B L H P+1] by their last column; returns [B L H P]."""
        outputs = widen(outputs)
        unit = 1.0 if log_scale is None else (-log_scale).exp()
        return outputs[..., :-1] / self.rule(outputs[..., -1:], self.epsilon, unit)


class NormalisedDenominator(Denominator):
    """A denominator, then layer normalisation of each head with a weight.

    Args:
        rule, epsilon: of the denominator.
        norm_epsilon: added to the variance, > 0.
    Source: mLSTM (2405.04517).
    """

    def __init__(
        self,
        num_heads: int,
        value_dim: int,
        rule: Literal["clamp", "add", "at_least_one"],
        epsilon: float,
        norm_epsilon: float,
    ) -> None:
        super().__init__(rule, epsilon)
        self.norm = LayerNorm(num_heads, value_dim, True, "weight", positive("normaliser.norm_epsilon", norm_epsilon))

    def forward(self, outputs: Float[Tensor, "B L H C"], log_scale: Tensor | None = None) -> Outputs:
        """Divide outputs [B L H P+1] by their last column and normalise; returns [B L H P]."""
        return self.norm(super().forward(outputs, log_scale))
