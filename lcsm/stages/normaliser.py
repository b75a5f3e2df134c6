"""What keeps the outputs of the memory in range."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Float, Inputs, Num, Outputs, Tensor
from lcsm.stages.base import Normaliser
from lcsm.stages.settings import positive
from lcsm.structures import widen


class Identity(Normaliser):
    """The outputs unchanged."""

    def forward(self, outputs: Outputs, scale: Any = None) -> Outputs:
        """Return outputs [B L H P]."""
        return outputs


class LayerNorm(Normaliser):
    """Layer normalisation over all heads concatenated, or over each head alone, with weight and bias; in float32.

    Args:
        per_head: statistics of each head alone (group normalisation with one group per head).
        epsilon: added to the variance, > 0.
    Source: EOS normalises all heads together in place of a denominator (as TransNormer); RetNet and RWKV-5 per head.
    """

    def __init__(self, num_heads: int, value_dim: int, per_head: bool, epsilon: float) -> None:
        super().__init__()
        self.epsilon = positive("normaliser.epsilon", epsilon)
        self.per_head = per_head
        self.weight = mark(nn.Parameter(torch.ones(num_heads, value_dim)))
        self.bias = mark(nn.Parameter(torch.zeros(num_heads, value_dim)))

    def forward(self, outputs: Outputs, scale: Any = None) -> Outputs:
        """Normalise outputs [B L H P]."""
        outputs = widen(outputs)
        weight, bias = self.weight.to(outputs.dtype), self.bias.to(outputs.dtype)
        if self.per_head:
            return F.layer_norm(outputs, outputs.shape[-1:], eps=self.epsilon) * weight + bias
        return F.layer_norm(outputs, outputs.shape[-2:], weight, bias, self.epsilon)


class RmsNorm(Normaliser):
    """Root-mean-square normalisation over all heads concatenated, with a weight and no bias; in float32.

    Args:
        epsilon: added to the mean square, > 0.
    """

    def __init__(self, num_heads: int, value_dim: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = positive("normaliser.epsilon", epsilon)
        self.weight = mark(nn.Parameter(torch.ones(num_heads, value_dim)))

    def forward(self, outputs: Outputs, scale: Any = None) -> Outputs:
        """Normalise outputs [B L H P]."""
        outputs = widen(outputs)
        return F.rms_norm(outputs, outputs.shape[-2:], self.weight.to(outputs.dtype), self.epsilon)


class Denominator(Normaliser):
    """Divide by the sum of the weights, which one more column of the memory collects.

        output_t = (memory_t^T shrink_t) / z_t,   z_t the same recurrence with inputs of one

    Weights are meant to be positive (an activation such as one_plus_elu or exp); a denominator of smaller modulus than
    epsilon is replaced by epsilon with its sign.

    Args:
        epsilon: the smallest modulus that is divided by, > 0.
    Source: linear attention (2006.16236).
    """

    denominator = True

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = positive("normaliser.epsilon", epsilon)

    def append(self, inputs: Inputs) -> Num[Tensor, "#B #L #H #C"]:
        """The inputs with a column of ones, [B L H P+1]."""
        return torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1)

    def forward(self, outputs: Float[Tensor, "B L H C"], scale: Any = None) -> Outputs:
        """Divide outputs [B L H P+1] by their last column; returns [B L H P]."""
        outputs = widen(outputs)
        values, weight = outputs[..., :-1], outputs[..., -1:]
        return values / torch.where(weight < 0, weight.clamp_max(-self.epsilon), weight.clamp_min(self.epsilon))
