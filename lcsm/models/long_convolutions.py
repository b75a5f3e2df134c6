"""The long convolutions of a model and their places."""

from __future__ import annotations

from typing import NamedTuple

import torch

from lcsm.errors import UsageError
from lcsm.mixers.eos import EosMixer
from lcsm.models.language_model import LanguageModel
from lcsm.shapes import Float, Tensor
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.long_convolution.block import ShiftBlock


class Site(NamedTuple):
    """A long convolution of a model.

    Args:
        name: of the module, e.g. "backbone.layers.0.mixer".
        layer: number of its layer.
        module: a mixer whose shrink is a kernel, or a convolution inside one of its stages.
    """

    name: str
    layer: int
    module: EosMixer | ShiftBlock

    @property
    def shrink(self) -> KernelShrink:
        """The stage that gives the kernel."""
        assert isinstance(self.module.shrink, KernelShrink), "sites have one"
        return self.module.shrink

    @property
    def lags(self) -> int:
        """Number of inputs that the memory holds."""
        return self.module.recurrence.spec.state_dim

    @property
    def state_size(self) -> int:
        """Real numbers that the memory of one sequence has."""
        spec = self.module.recurrence.spec
        return spec.num_heads * spec.state_dim * spec.value_dim

    def kernel(self, lags: int) -> Float[Tensor, "C L"]:
        """The coefficients that the model convolves with, zero beyond what its memory holds, in double precision."""
        with torch.no_grad():
            found = self.shrink.kernel(min(lags, self.lags)).detach().double().cpu()
        found = torch.nn.functional.pad(found, (0, 0, 0, lags - found.shape[1]))
        return found.transpose(1, 2).flatten(0, 1)


def find_sites(model: LanguageModel) -> list[Site]:
    """The long convolutions of a model, first layer to last.

    Raises:
        UsageError: one of them reads the future.
    """
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, (EosMixer, ShiftBlock)) or not isinstance(module.shrink, KernelShrink):
            continue
        if isinstance(module, EosMixer) and module.second_pass.runs:
            raise UsageError(
                f"{name} is bidirectional: it sees the future, which no recurrence and no stream can\n"
                "train with mixer.reverse.shrink=none to generate or convert"
            )
        found.append(Site(name, int(name.split(".")[2]), module))
    return found
