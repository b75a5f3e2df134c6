"""Generated rows: functions of the seed and their place, the same in every version, at several lengths."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcsm.batch import Batch
from lcsm.data.base import BatchDataModule
from lcsm.data.generated import Rows
from lcsm.data.mqar import MqarRule
from lcsm.data.sampling import TRAIN, Shard
from lcsm.errors import UsageError
from tests.data.helpers import assert_same, make_mqar
from tests.data.labelled_helpers import make_listops, make_pathfinder

# of training batches 0 and 200 and the first batch of validation, as version 0.1.0 drew them
RECORDED: dict[str, tuple[Callable[..., BatchDataModule], dict[str, Any], list[str]]] = {
    "mqar, fresh": (
        make_mqar,
        {"num_pairs": [2, 4]},
        ["947a34c349df0f1b", "0dfb8c8f510ce90d", "3228f42af0c58b98"],
    ),
    "mqar, fixed": (
        make_mqar,
        {"num_pairs": [2, 4], "num_train": 1500},
        ["5f121e86d54f2dc2", "fc3d6ebd44079973", "3228f42af0c58b98"],
    ),
    "listops, fresh": (
        make_listops,
        {"num_train": None},
        ["f1657022b957e716", "a9574e724cfe216f", "8f592894ccfa7685"],
    ),
    "listops, fixed": (
        make_listops,
        {"num_train": 300},
        ["e8c4880bec813c9b", "50b947f2fd428c4b", "8f592894ccfa7685"],
    ),
}


def digest(batch: Batch) -> str:
    found = hashlib.sha256()
    for name in ("tokens", "targets", "labels"):
        if name in batch:
            found.update(batch[name].numpy().tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("case", RECORDED)
def test_rows_are_those_of_earlier_versions(case: str):
    make, settings, recorded = RECORDED[case]
    module = make(**settings)
    training, validation = module.training_batches(Shard()), module.evaluation_batches("validation", Shard())["1x"]
    assert [digest(batch) for batch in (training[0], training[200], validation[0])] == recorded


def test_validation_goes_beyond_the_trained_length():
    module = make_mqar(val_lengths=[4, 1, 2], num_val=24)
    batches = module.evaluation_batches("validation", Shard())
    assert module.val_names == list(batches) == ["1x", "2x", "4x"]
    assert [tuple(part[0]["tokens"].shape) for part in batches.values()] == [(8, 32), (4, 64), (2, 128)]
    assert [sum(len(batch["tokens"]) for batch in part) for part in batches.values()] == [24, 24, 24]
    assert_same([batches["1x"][0]], [make_mqar(num_val=24).evaluation_batches("validation", Shard())["1x"][0]])


def test_a_fixed_set_begins_as_a_smaller_one():
    rule = MqarRule(32, 64, 4, 0.01, False)
    small, large = (torch.cat([torch.from_numpy(part.tokens) for part in rule.blocks(3, TRAIN, rows)])
                    for rows in (1024, 1500))  # fmt: skip
    assert torch.equal(small, large[:1024])


def test_images_are_drawn_anew_for_every_step(tmp_path: Path):
    module = make_pathfinder(num_train=None, batch_size=2, cache_dir=str(tmp_path))
    batches = module.training_batches(Shard())
    assert_same([batches[1]], [batches[1]])
    assert not torch.equal(batches[0]["inputs"], batches[1]["inputs"])


@pytest.mark.parametrize("lengths", [[], [0]])
def test_lengths_that_are_no_multiples_are_refused(lengths: list[Any]):
    with pytest.raises(UsageError, match=r"data.val_lengths="):
        make_mqar(val_lengths=lengths)


def test_rows_have_a_target_at_every_position():
    with pytest.raises(ValueError, match="NOT_SCORED"):
        Rows(np.zeros((2, 4), np.int64), np.zeros((2, 3), np.int64), {})
