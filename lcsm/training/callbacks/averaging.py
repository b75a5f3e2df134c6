"""Exponential moving average of the weights."""

from __future__ import annotations

from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lcsm.errors import UsageError


class AverageWeights(WeightAveraging):
    """Averages the weights after every step; validations, figures, samples and readers of checkpoints use the average.

        average = decay * average + (1 - decay) * weights

    Checkpoints hold both, the average where readers look for weights. Buffers are copied, not averaged.

    Args:
        decay: in (0, 1); 0.999 averages over about the last thousand steps.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            raise UsageError(f"callbacks.ema={decay} must lie in (0, 1), e.g. 0.999; null switches it off")
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))
