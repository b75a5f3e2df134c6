"""A linear map in one factor or two."""

from torch import nn


def linear(inputs: int, outputs: int, rank: int | None, bias: bool) -> nn.Module:
    """A linear map, in two factors where it has a rank; the bias comes last.

    Args:
        inputs, outputs: widths.
        rank: width between the factors, None for a single matrix.
        bias: whether there is one.
    """
    if rank is None:
        return nn.Linear(inputs, outputs, bias=bias)
    return nn.Sequential(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=bias))
