"""Decays in the log domain: the temperature and the axes that several oscillations share."""

import torch.nn.functional as F

from lcsm.shapes import Tensor
from lcsm.stages.settings import choose
from lcsm.structures import widen

AXES = {"scalar": "H", "rows": "HN", "columns": "HP", "full": "HNP"}


def sizes(axes: str, num_heads: int, state_dim: int, value_dim: int) -> tuple[int, int, int]:
    """Sizes [H N P] of a factor that varies along `axes`; 1 along the others.

    Args:
        axes: scalar, rows, columns or full.
    Raises:
        UsageError: another name.
    """
    named = choose("oscillation.axes", axes, AXES)
    return num_heads, state_dim if "N" in named else 1, value_dim if "P" in named else 1


def log_sigmoid_decay(logits: Tensor, tau: float) -> Tensor:
    """log(sigmoid(logits)^(1 / tau)): log-decays <= 0 in nats per step, in at least float32.

    The decay is sigmoid(0)^(1 / tau) at logits of zero: 0.5, 0.84, 0.958, 0.989 for tau = 1, 4, 16, 64.
    """
    return F.logsigmoid(widen(logits)) / tau
