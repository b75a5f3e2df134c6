"""Marks on parameters: which take no weight decay, which learn at a rate of their own, which have their own start."""

from typing import TypeVar

import torch
from torch import nn

Formed = TypeVar("Formed")
Module = TypeVar("Module", bound=nn.Module)


def cached_unless_grad(past: Formed | None) -> Formed | None:
    """The value that an earlier call of a stream formed from parameters; None where gradients are to reach them."""
    return None if torch.is_grad_enabled() else past


def own_start(module: Module) -> Module:
    """Declare that the parameters of a linear map start as its paper says, which no other release replaces."""
    for parameter in module.parameters():
        parameter._own_start = True  # type: ignore[attr-defined]
    return module


def mark(parameter: nn.Parameter, *, no_decay: bool = True, group: str | None = None) -> nn.Parameter:
    """Declare how the optimiser treats a parameter.

    Args:
        parameter: the parameter to mark; returned unchanged otherwise.
        no_decay: exempt from weight decay (decays, step sizes, norms, biases).
        group: name of the learning-rate group, e.g. "oscillation"; None leaves it in the base group.
    """
    parameter._no_decay = no_decay  # type: ignore[attr-defined]
    if group is not None:
        parameter._lr_group = group  # type: ignore[attr-defined]
    return parameter
