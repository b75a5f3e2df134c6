"""Keys, queries and values of the delta rule: projections of bounded norm, several per token where asked for."""

from typing import Any

import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.shapes import Factor, Float, Inputs, Stream, Tensor, Writes
from lcsm.stages.activation import ELEMENTWISE, Activation
from lcsm.stages.base import Expand, Input, Shrink, Stage
from lcsm.stages.settings import choose, positive
from lcsm.stages.short_convolution import ShortConvolution
from lcsm.structures import Context, Structure, widen


def unchanged(value: Tensor, epsilon: float) -> Tensor:
    """The rows as they are."""
    return value


def unit_length(value: Tensor, epsilon: float) -> Tensor:
    """Rows of length one along the last axis; epsilon is added to the squared length."""
    return value * (value.square().sum(-1, keepdim=True) + epsilon).rsqrt()


def unit_sum(value: Tensor, epsilon: float) -> Tensor:
    """Rows that sum to one along the last axis, for rows >= 0; epsilon is added to the sum."""
    return value / (value.sum(-1, keepdim=True) + epsilon)


NORMS = {"none": unchanged, "length": unit_length, "sum": unit_sum}


def rolled_products(value: Float[Tensor, "... M"], rolls: int) -> Float[Tensor, "... N"]:
    """Products of the positive and negative parts of a row with themselves, rolled by 1, ..., rolls; N = 2 M rolls.

    Source: deterministic parameter-free projection, DPFP (2102.11174, section 5.3).
    """
    parts = torch.cat([value.relu(), (-value).relu()], -1)
    return torch.cat([parts * parts.roll(shift, -1) for shift in range(1, rolls + 1)], -1)


class ActivatedProjection(nn.Module):
    """activation(convolution(W x)) [B L count W], with the convolution's tail as its past.

    Args:
        input_dim: width of x.
        shape: (..., W) of what leaves for one token.
        kernel_size: taps of the short convolution, without bias; None for none.
        activation: applied last.
    """

    def __init__(self, input_dim: int, shape: tuple[int, ...], kernel_size: int | None, activation: Activation) -> None:
        super().__init__()
        self.shape, self.activation = shape, activation
        channels = torch.Size(shape).numel()
        self.projection = nn.Linear(input_dim, channels, bias=False)
        self.convolution: ShortConvolution | None = None
        if kernel_size is not None:
            self.convolution = ShortConvolution(channels, kernel_size, "identity", bias=False)

    def forward(self, x: Stream, past: Any, context: Context | None) -> tuple[Tensor, Any]:
        """Map x [B L D] to [B L *shape]."""
        value = self.projection(x)
        if self.convolution is not None:
            value, past = self.convolution(value, past, context)
        return self.activation(value).unflatten(-1, self.shape), past

    def state_size(self) -> int:
        """Real numbers that one sequence carries from call to call."""
        return 0 if self.convolution is None else self.convolution.state_size()


class UnitVector(Stage):
    """A direction projected from what the stage sees, of length or sum one.

        scale * norm(features(activation(convolution(W x_t))))

    Args:
        kernel_size: taps of a short convolution of the projection, without bias; null for none.
        activation: applied after the convolution, an elementwise one of `activation.ELEMENTWISE`.
        rolls: the features are products of parts of the projection, see `rolled_products`; null for no features.
        norm: quantity that is normalised to one: length, sum, or none.
        epsilon: added to the squared length, or to the sum, before it is divided by; > 0.
        num_groups: the heads of a group share one direction; null gives every head its own.
        scaled: multiply by state_dim^-0.5, as softmax attention does with its queries.
        substeps: directions per token, one row each.
    Returns:
        The direction, [B L*substeps H N 1].
    Raises:
        UsageError: num_groups does not divide num_heads, or 2 * rolls does not divide state_dim.
    Source: DeltaNet (2406.06484) and those after it; `rolls` and norm=sum are Fast Weight Programmers (2102.11174).
    """

    group: str
    varies = "LHN"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        kernel_size: int | None,
        activation: str,
        rolls: int | None,
        norm: str,
        epsilon: float,
        num_groups: int | None,
        scaled: bool,
        substeps: int,
    ) -> None:
        super().__init__()
        groups = num_heads if num_groups is None else num_groups
        if groups < 1 or num_heads % groups:
            raise UsageError(
                f"{self.group}.num_groups={num_groups} must divide mixer.num_heads={num_heads}: "
                "choose a divisor, or null for a direction per head"
            )
        self.rolls = rolls or 0
        if self.rolls and state_dim % (2 * self.rolls):
            raise UsageError(
                f"{self.group}.rolls={rolls} makes 2 * rolls features of every channel, which must divide "
                f"mixer.state_dim={state_dim}: choose a multiple of {2 * self.rolls}"
            )
        self.norm = choose(f"{self.group}.norm", norm, NORMS)
        self.epsilon = positive(f"{self.group}.epsilon", epsilon)
        self.repeats, self.substeps = num_heads // groups, substeps
        self.scale = state_dim**-0.5 if scaled else 1.0
        channels = state_dim // (2 * self.rolls) if self.rolls else state_dim
        chosen = choose(f"{self.group}.activation", activation, ELEMENTWISE)
        self.project = ActivatedProjection(input_dim, (substeps, groups, channels), kernel_size, chosen)

    def vector(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Writes, Any]:
        value, past = self.project(x, past, context)
        value = widen(value).flatten(1, 2)
        if self.rolls:
            value = rolled_products(value, self.rolls)
        direction = self.norm(value, self.epsilon)
        if self.scale != 1.0:
            direction = direction * self.scale
        if self.repeats > 1:
            direction = direction.repeat_interleave(self.repeats, 2)
        return direction[..., None], past

    def state_size(self) -> int:
        return self.project.state_size()


class Key(UnitVector, Expand):
    """The direction of the write, [B L*substeps H N 1]."""

    group = "expand"


class Query(UnitVector, Shrink):
    """The direction of the read, [B L H N 1]."""

    group = "shrink"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        kernel_size: int | None,
        activation: str,
        rolls: int | None,
        norm: str,
        epsilon: float,
        num_groups: int | None,
        scaled: bool,
    ) -> None:
        super().__init__(
            input_dim, num_heads, state_dim, kernel_size, activation, rolls, norm, epsilon, num_groups, scaled, 1
        )


class CorrectedQuery(Query):
    """A query from which a learned share of the key is taken, so that less is read of what has just been written.

        query_t - correction * scale * key_t,   correction per head

    Args:
        correction: start of the share.
    Source: the output correction of Comba (2506.02475); flash-linear-attention, where 1 and 0.02 are in use, takes the
        share from the query before either has its length.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        kernel_size: int | None,
        activation: str,
        rolls: int | None,
        norm: str,
        epsilon: float,
        num_groups: int | None,
        scaled: bool,
        correction: float,
    ) -> None:
        super().__init__(
            input_dim, num_heads, state_dim, kernel_size, activation, rolls, norm, epsilon, num_groups, scaled
        )
        self.correction = mark(nn.Parameter(torch.full((num_heads,), correction)))

    def forward(
        self,
        x: Stream,
        expand: Writes | None = None,
        structure: Structure | None = None,
        past: Any = None,
        context: Context | None = None,
    ) -> tuple[Factor, Any]:
        assert expand is not None, "the mixer gives it"
        query, past = self.vector(x, past, context)
        return query - self.scale * widen(self.correction)[:, None, None] * expand, past


class Value(Input):
    """The values to write: activation(convolution(W x_t)), [B L*substeps H P].

    Args:
        kernel_size, activation, substeps: as for `UnitVector`.
    """

    varies = "LHP"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        value_dim: int,
        kernel_size: int | None,
        activation: str,
        substeps: int,
    ) -> None:
        super().__init__()
        self.substeps = substeps
        chosen = choose("input.activation", activation, ELEMENTWISE)
        self.project = ActivatedProjection(input_dim, (substeps, num_heads, value_dim), kernel_size, chosen)

    def forward(self, x: Stream, past: Any = None, context: Context | None = None) -> tuple[Inputs, Any]:
        value, past = self.project(x, past, context)
        return value.flatten(1, 2), past

    def state_size(self) -> int:
        return self.project.state_size()
