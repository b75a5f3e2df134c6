"""Speed by a clock that stands still but for what it is asked."""

import csv
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from lcsm.training.callbacks import throughput
from tests.training.toy_run import BATCH, LENGTH, toy_config, toy_fit


@pytest.mark.parametrize("accumulate", [1, 2])
def test_speed_is_batch_times_length_over_the_seconds_of_a_step(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # half a second passes between two questions, one of which is asked at the end of every batch
    ticks = (0.5 * tick for tick in count())
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    settings = {"trainer__max_steps": 7, "trainer__log_every_n_steps": 2, "trainer__val_check_interval": 3}
    _, out = toy_fit(tmp_path, toy_config(trainer__accumulate_grad_batches=accumulate, **settings))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["speed/step_seconds"]]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert {float(row["speed/step_seconds"]) for row in rows} == {0.5 * accumulate}
    assert {float(row["speed/tokens_per_second"]) for row in rows} == {BATCH * LENGTH / 0.5}
    assert out["tokens_per_second"] == BATCH * LENGTH / 0.5
