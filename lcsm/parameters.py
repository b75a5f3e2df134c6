"""Marks on parameters: which take no weight decay and which learn at a rate of their own."""

from torch import nn


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
