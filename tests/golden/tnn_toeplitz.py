"""A Toeplitz operator with given coefficients."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lcsm.stages.input import PerChannel
from lcsm.stages.long_convolution.base import KernelShrink
from tests.golden.case import Case
from tests.golden.convolutions import check, convolve
from tests.golden.replay import algorithms, finish, leaves_of


class GivenKernel(KernelShrink):
    """A kernel of given coefficients, [H T P]."""

    def __init__(self, value: Tensor, lags: int) -> None:
        super().__init__(value.shape[0], lags, value.shape[2], value.shape[1])
        self.register_buffer("value", value)

    def coefficients(self, length: int) -> Tensor:
        return self.value[:, :length]


def joined(x: Tensor) -> Tensor:
    """[B H L P] as what a mixer sees, [B L D]."""
    return x.transpose(1, 2).flatten(2)


def split(y: Tensor, heads: int) -> Tensor:
    """[B L D] of a mixer as [B H L P]."""
    return y.unflatten(-1, (heads, -1)).transpose(1, 2)


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    check(case, decay_included=True, act_type="none", normalize=False, layout="BHLD")
    config, leaves = case.config, leaves_of(case)
    heads, dim, length = config["heads"], config["dim"], config["length"]
    backward = None if config["causal"] else GivenKernel(leaves["t_neg"], length)
    settings = {"reverse": "none" if config["causal"] else "own"}

    def make(**chosen):
        return convolve(
            PerChannel(heads * dim, heads, dim),
            GivenKernel(leaves["t_nonneg"], length),
            backward,
            **settings,
            **chosen,
        )

    for name in algorithms(make()):
        outputs, _ = make(algorithm=name)(joined(leaves["x"]))
        yield from finish(case, name, leaves, {"y": split(outputs, heads)})
