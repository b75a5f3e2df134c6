"""Language modelling with long convolutions that are to be converted, with a penalty on their Hankel spectra."""

from __future__ import annotations

from torch import Tensor, nn

from lcsm.batch import Batch
from lcsm.errors import UsageError
from lcsm.models.language_model import LanguageModel
from lcsm.models.long_convolutions import find_sites
from lcsm.stages.settings import positive
from lcsm.tasks.base import Optimise
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.tasks.penalty import hankel_penalty


class CompressibleLanguageModelling(LanguageModelling):
    """Next-token cross entropy plus a penalty on the Hankel spectra of all long convolutions.

        loss = nats per token + weight * mean spread of the spectra        spread: see `tasks.penalty`

    Args:
        weight: of the penalty in nats, > 0.
        lags: first lags of each kernel that are looked at.
        channels: of each convolution that are looked at in one step.
    Raises:
        UsageError: a number is not positive, or the model has no long convolution.
    """

    def __init__(self, model: nn.Module, optimise: Optimise, weight: float, lags: int, channels: int) -> None:
        super().__init__(model, optimise)
        self.weight = positive("task.weight", weight)
        self.lags, self.channels = int(positive("task.lags", lags)), int(positive("task.channels", channels))
        self.sites = find_sites(model) if isinstance(model, LanguageModel) else []
        if not self.sites:
            raise UsageError("task=lm_compressible shapes long convolutions, and this model has none: use task=lm")
        if lags < 3:
            raise UsageError(f"task.lags={lags} must be at least 3: a spectrum needs some lags, e.g. 128")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        penalty = hankel_penalty(self.sites, self.lags, self.channels)
        self.step_metrics["train/spread"] = penalty.detach()
        return super().training_step(batch, batch_idx) + self.weight * penalty
