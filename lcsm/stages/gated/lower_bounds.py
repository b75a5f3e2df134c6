"""Lower bounds of forget gates that grow with depth."""

import torch
import torch.nn.functional as F
from torch import nn

from lcsm.parameters import mark
from lcsm.shapes import Float, Tensor

# exp of this is below the floor of log-decays: a bound of zero may have a logarithm
LOG_NO_BOUND = -85.0


class LowerBounds(nn.Module):
    """Bounds of all layers, 0 in the first one and growing with depth; the layers share this module.

        bound_l = sum_{1 <= j <= l} p_j,   p = softmax over layers of learned logits, per entry

    The logits start at zero, so that bounds start at l / num_layers.

    Args:
        num_layers: number of layers.
        shape: entries of a layer.
    Source: HGRN (2311.04823).
    """

    def __init__(self, num_layers: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.logits = mark(nn.Parameter(torch.zeros(num_layers, *shape)), group="oscillation")

    def forward(self, layer: int) -> Float[Tensor, "..."]:
        """The bounds of one layer, in [0, 1)."""
        return self.logits.softmax(0)[1 : layer + 1].sum(0)


def bounded_log_sigmoid(logits: Tensor, bound: Tensor) -> Tensor:
    """log(bound + (1 - bound) sigmoid(logits)), exact near 0 and near 1.

    Args:
        logits: any shape.
        bound: in [0, 1), broadcasts to logits.
    """
    log_bound = bound.clamp_min(torch.finfo(bound.dtype).tiny).log().clamp_min(LOG_NO_BOUND)
    log_sigmoid = F.logsigmoid(logits)
    # s (1 + bound exp(-logits)) is exact where little is forgotten, the sum itself where much is
    slow = log_sigmoid + F.softplus(log_bound - logits)
    fast = torch.logaddexp(log_bound, torch.log1p(-bound) + log_sigmoid)
    return torch.where(logits >= 0, slow, fast)
