"""Expand and shrink in the features of a truncated Taylor series of the exponential."""

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.shapes import Factor, Stream
from lcsm.stages.base import Expand, Shrink, Stage
from lcsm.structures import Context, widen


def feature_dim(group: str, state_dim: int) -> int:
    """The number f of projected features whose second-order map has state_dim = 1 + f + f^2 rows.

    Raises:
        UsageError: state_dim is not of that form.
    """
    features = round((state_dim - 0.75) ** 0.5 - 0.5) if state_dim > 1 else 0
    if features < 1 or 1 + features + features**2 != state_dim:
        near = [1 + f + f**2 for f in (max(features, 1), max(features, 1) + 1)]
        raise UsageError(
            f"{group}=taylor has 1 + f + f^2 rows for f features, which mixer.state_dim={state_dim} is not:\n"
            f"set mixer.state_dim to {near[0]} or {near[1]}; 273 for 16 features"
        )
    return features


class TaylorVector(Stage):
    """The features of exp(q k / sqrt(f)) up to second order.

        phi(x) = (1, x / f^(1/4), vec(x x^T) / sqrt(2 f)),   phi(q) phi(k) = 1 + s + s^2 / 2,   s = q k / sqrt(f)

    Returns:
        phi(W x_t), [B L H N 1] with N = 1 + f + f^2.
    Raises:
        UsageError: state_dim is not 1 + f + f^2.
    Source: Based (2402.18668).
    """

    group: str
    varies = "LHN"

    def __init__(self, input_dim: int, num_heads: int, state_dim: int) -> None:
        super().__init__()
        self.sizes = (num_heads, feature_dim(self.group, state_dim))
        self.projection = nn.Linear(input_dim, self.sizes[0] * self.sizes[1], bias=False)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Factor, Any]:
        features = widen(self.projection(x)).unflatten(-1, self.sizes) * self.sizes[1] ** -0.25
        pairs = (features[..., :, None] * features[..., None, :]).flatten(-2) * 2**-0.5
        return torch.cat([torch.ones_like(features[..., :1]), features, pairs], -1)[..., None], past


class TaylorExpand(TaylorVector, Expand):
    """The features of a key."""

    group = "expand"


class TaylorShrink(TaylorVector, Shrink):
    """The features of a query."""

    group = "shrink"
