"""Batches are a function of (seed, split, index, rank), for both kinds of data."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from lcsm.batch import Batch
from lcsm.data.base import BatchDataModule
from lcsm.data.sampling import BatchIndices, EpochOrder, Shard, even_batches, stream
from lcsm.errors import UsageError
from tests.data.helpers import assert_same, make_copying, make_mqar, make_text, take

Make = Callable[..., BatchDataModule]


@pytest.fixture(params=["fresh", "fixed", "copying", "stream", "documents"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Build the same data module anew, with some settings changed."""
    kinds: dict[str, Callable[..., BatchDataModule]] = {
        "fresh": make_mqar,
        "fixed": lambda **settings: make_mqar(num_train=21, **settings),
        "copying": make_copying,
        "stream": lambda **settings: make_text(tmp_path, **settings),
        "documents": lambda **settings: make_text(tmp_path, packing="documents", document_separator="5 of", **settings),
    }
    return kinds[request.param]


def on_rank(module: BatchDataModule, rank: int, world_size: int) -> BatchDataModule:
    progress = SimpleNamespace(total=SimpleNamespace(processed=0))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, fit_loop=loop)  # type: ignore[assignment]
    return module


def test_same_seed_gives_the_same_batches(make: Make):
    assert_same(take(make().train_dataloader(), 9), take(make().train_dataloader(), 9))


def test_another_seed_gives_other_batches(make: Make):
    one, two = (take(make(seed=seed).train_dataloader(), 1)[0] for seed in (1, 2))
    assert not torch.equal(one["tokens"], two["tokens"])


def test_global_random_state_does_not_matter(make: Make):
    first = take(make().train_dataloader(), 3)
    torch.manual_seed(7)
    np.random.seed(7)
    assert_same(first, take(make().train_dataloader(), 3))


def test_workers_change_nothing(make: Make):
    with warnings.catch_warnings():
        # a machine with one core advises against workers
        warnings.simplefilter("ignore")
        alone, workers = make(), make(num_workers=2)
        assert_same(take(alone.train_dataloader(), 9), take(workers.train_dataloader(), 9))
        for one, two in zip(alone.val_dataloader(), workers.val_dataloader(), strict=True):
            assert_same(list(one), list(two))


def test_a_resumed_stream_is_the_tail_of_the_uninterrupted_one(make: Make):
    whole = take(make().train_dataloader(), 60)
    for start in (1, 7, 59):
        resumed = make()
        resumed.first_batch = start
        assert_same(take(resumed.train_dataloader(), 60 - start), whole[start:])


def test_two_processes_share_the_batches_of_one(make: Make):
    whole = take(make().train_dataloader(), 12)
    parts = [take(on_rank(make(), rank, 2).train_dataloader(), 12) for rank in range(2)]
    joined = [tree_map(lambda *rows: torch.cat(rows), *both) for both in zip(*parts, strict=True)]
    assert_same(joined, whole)


def test_two_processes_validate_every_row_once(make: Make):
    for number, whole in enumerate(make().val_dataloader()):
        parts = [list(on_rank(make(), rank, 2).val_dataloader()[number]) for rank in range(2)]
        joined = [torch.cat([a["tokens"], b["tokens"]]) for a, b in zip(*parts, strict=True)]
        assert torch.equal(torch.cat(joined), torch.cat([batch["tokens"] for batch in whole]))


def test_a_batch_that_processes_cannot_share_is_refused(make: Make):
    with pytest.raises(UsageError, match=r"data.batch_size=.* multiple of the 3 processes"):
        on_rank(make(batch_size=8), 0, 3).train_dataloader()


def test_too_many_processes_for_the_validation_rows_are_refused():
    with pytest.raises(UsageError, match="2 rows to evaluate for 4 processes"):
        on_rank(make_mqar(num_val=2), 0, 4).val_dataloader()


@pytest.mark.parametrize("name, value", [("length", 0), ("batch_size", 0), ("num_workers", -1), ("seed", -1)])
def test_settings_out_of_range_are_refused(make: Make, name: str, value: int):
    with pytest.raises(UsageError, match=f"data.{name}={value} must be an integer >="):
        make(**{name: value})


class Recorder(lightning.LightningModule):
    """Records the batches that training hands over."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Batch] = []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.seen.append(deepcopy(batch))
        return self.weight * 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_short_epochs_of_the_trainer_continue_the_stream(make: Make, tmp_path: Path):
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=3,
        limit_train_batches=4,
        limit_val_batches=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
        **quiet,
    )
    recorder = Recorder()
    trainer.fit(recorder, datamodule=make())
    assert_same(recorder.seen, take(make().train_dataloader(), 12))


def test_streams_of_different_places_differ():
    places = [(0,), (1,), (0, 0), (0, 1), (1, 0)]
    draws = {tuple(stream(5, *place).integers(1 << 60, size=4)) for place in places}
    assert len(draws) == len(places)


@pytest.mark.parametrize("rows, world_size", [(8, 1), (8, 3), (3, 4)])
def test_shards_cover_the_rows_once(rows: int, world_size: int):
    parts = [np.arange(rows)[Shard(rank, world_size).slice(rows)] for rank in range(world_size)]
    assert np.concatenate(parts).tolist() == list(range(rows))


@pytest.mark.parametrize("rows, batch_size, world_size, sizes", [(23, 6, 1, {5, 6}), (3, 2, 2, {3}), (4, 9, 4, {4})])
def test_evaluation_batches_cover_the_rows_with_nearly_equal_sizes(rows, batch_size, world_size, sizes):
    parts = even_batches(rows, batch_size, world_size)
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    assert {part.stop - part.start for part in parts} == sizes


def test_every_epoch_visits_every_example_once_in_a_new_order():
    epochs, examples = EpochOrder(seed=1, count=10).locate(np.arange(30))
    assert epochs.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert all(sorted(part) == list(range(10)) for part in examples.reshape(3, 10))
    assert len({tuple(part) for part in examples.reshape(3, 10)}) == 3


def test_an_endless_sampler_has_no_length():
    with pytest.raises(TypeError, match="endless"):
        len(BatchIndices(lambda: 0))
    assert list(BatchIndices(lambda: 2, 5)) == [2, 3, 4] and len(BatchIndices(lambda: 2, 5)) == 3
