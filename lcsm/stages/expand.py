"""Along which direction an input is written into the memory."""

from lcsm.stages.base import Expand
from lcsm.stages.vector import DataDrivenVector, HandCraftedVector, LearnedVector


class HandCrafted(HandCraftedVector, Expand):
    """A fixed expand, [1 1 1 1 1], [1 1 1 N 1] or [1 1 H N 1]."""

    group = "expand"


class Learned(LearnedVector, Expand):
    """A trained expand, [1 1 H N 1] or [1 1 H N P]."""

    group = "expand"


class DataDriven(DataDrivenVector, Expand):
    """An expand projected from what the stage sees, [B L H N 1].

    With `input=ones` and value_dim = 1 this is the write B x_t of a multiple-input system (S5, LDNN, LRU).
    """

    group = "expand"
