"""Several delta rules per token, the decay before the first."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from lcsm.structures import Delta
from tests.golden.case import Case
from tests.golden.low_rank import erasing, replay_map


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    substeps = case.config["householder_steps"]
    assert case.config["substeps_adjacent_in_time"]

    def structure(leaves: dict[str, Tensor]) -> Delta:
        log_decay = F.pad(leaves["g"][:, :, None], (0, 0, 0, substeps - 1)).flatten(1, 2)
        return erasing(leaves["k"], leaves["k"], leaves["beta"], log_decay)

    return replay_map(case, structure, substeps)
