"""Shrinks that give the current token a weight of its own, beside what they read from the memory."""

from typing import Literal

import torch
from torch import nn

from lcsm.ops.recurrence import Read, Written
from lcsm.parameters import mark
from lcsm.shapes import Factor, Tensor
from lcsm.stages.base import Shrink
from lcsm.stages.settings import choose
from lcsm.stages.vectors.base import DataDrivenVector, HandCraftedVector


def depth(layer: int, num_layers: int) -> float:
    """0 in the first layer, 1 in the last."""
    return layer / max(num_layers - 1, 1)


def zigzag(count: int) -> Tensor:
    """-1, 0, 1 over and over, [count], beginning at 0."""
    return (torch.arange(count) + 1) % 3 - 1.0


def zeros(num_heads: int, state_dim: int, layer: int, num_layers: int) -> Tensor:
    """No weight, [H N]."""
    return torch.zeros(num_heads, state_dim)


def rwkv(num_heads: int, state_dim: int, layer: int, num_layers: int) -> Tensor:
    """The bonus of RWKV-5 and 6, [H N]: it falls over all rows of all heads, and grows with depth."""
    count = num_heads * state_dim
    fall = 1 - torch.arange(count) / max(count - 1, 1)
    return (depth(layer, num_layers) * fall + 0.1 * zigzag(count)).view(num_heads, state_dim)


class BonusDataDriven(DataDrivenVector, Shrink):
    """A data-driven shrink that also reads the current write, along directions scaled by a learned bonus.

        output_t = memory^T shrink_t + bonus_activation((shrink_t (bonus * expand_t)) input_t)

    Args:
        activation, bias, kernel_size, num_groups, scaled: of the shrink, as in `vector.DataDrivenVector`.
        exclusive: whether the memory is read before the decay and the write of the step (RWKV), or after it.
        bonus: start of the bonus, rwkv or zeros.
        bonus_activation: identity, or sigmoid.
    Source: RWKV-5 and 6 (2404.05892), exclusive with identity; the self-augmentation of MetaLA (2411.10741), inclusive
        with sigmoid, whose bonus starts at zeros.
    """

    group = "shrink"

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        state_dim: int,
        layer: int,
        num_layers: int,
        activation: str,
        bias: bool,
        kernel_size: int | None,
        num_groups: int | None,
        scaled: bool,
        exclusive: bool,
        bonus: Literal["rwkv", "zeros"],
        bonus_activation: Literal["identity", "sigmoid"],
    ) -> None:
        super().__init__(input_dim, num_heads, state_dim, activation, bias, kernel_size, num_groups, scaled)
        self.exclusive = exclusive
        start = choose("shrink.bonus", bonus, {"rwkv": rwkv, "zeros": zeros})
        self.bonus = mark(nn.Parameter(start(num_heads, state_dim, layer, num_layers)))
        options = {"identity": None, "sigmoid": torch.sigmoid}
        self.bonus_activation = choose("shrink.bonus_activation", bonus_activation, options)

    def read(self, outputs: Tensor, written: Written, shrink: Factor) -> Read:
        added = written.current_token_bonus(shrink, self.bonus[None, None, ..., None])
        return written.read(outputs, added if self.bonus_activation is None else self.bonus_activation(added))


class BonusOnes(HandCraftedVector, Shrink):
    """Reads every row alike before the step, and the current write with a weight per head, exp(bonus).

    Returns:
        Ones, [1 1 1 1 1].
    Source: RWKV-4 (2305.13048), where every channel is a head. Its bonus starts at log 0.3 plus -0.5, 0 or 0.5.
    """

    group = "shrink"
    exclusive = True

    def __init__(self, num_heads: int, state_dim: int) -> None:
        super().__init__(num_heads, state_dim, "ones", "identity")
        self.state_dim = state_dim
        self.bonus = mark(nn.Parameter(torch.full((num_heads,), 0.3).log() + 0.5 * zigzag(num_heads)))

    def read(self, outputs: Tensor, written: Written, shrink: Factor) -> Read:
        weight = self.bonus.exp()[:, None, None].expand(-1, self.state_dim, -1)
        return written.read(outputs, written.current_token_bonus(shrink, weight[None, None]))
