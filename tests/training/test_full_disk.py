"""A disk without room costs what cannot be written, never what is already there nor the run's own words."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lcsm.errors import UsageError
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.training import loggers, run
from lcsm.training.checkpoints import read_checkpoint
from lcsm.training.errors import NonFiniteError
from tests.training.test_callbacks import events, table
from tests.training.test_processes import ROOT
from tests.training.toy_run import toy_config, toy_fit

BOTH = {"tensorboard": True, "csv": True}


def full(*_: Any, **__: Any) -> None:
    """What the system says to every write on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_between(first: int, last: int, monkeypatch: pytest.MonkeyPatch) -> type[LanguageModelling]:
    """A task in whose steps `first` to `last` neither events nor rows can be written."""

    def fill(self: LanguageModelling, batch: Any, batch_idx: int) -> None:
        if self.trainer.global_step + 1 == first:
            monkeypatch.setattr(SummaryWriter, "add_scalar", full)
            monkeypatch.setattr(loggers.MetricsTable, "write_tail", full)
            monkeypatch.setattr(loggers, "write_atomically", full)
        if self.trainer.global_step == last:
            monkeypatch.undo()

    def note(self: LanguageModelling, checkpoint: dict[str, Any]) -> None:
        self.saved = [*getattr(self, "saved", []), self.trainer.global_step]

    return type("Filling", (LanguageModelling,), {"on_train_batch_start": fill, "on_save_checkpoint": note})


def test_metrics_that_cannot_be_written_are_said_once_and_the_run_is_saved_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = toy_config(trainer__max_steps=8, callbacks__checkpoint={"every": None}, logger=BOTH)
    task, out = toy_fit(tmp_path, config, full_between(2, 5, monkeypatch))
    lines = [line for line in caplog.messages if "the run goes on without it" in line]
    assert out["status"] == "finished" and task.saved[0] == 2
    assert [line.partition(" cannot")[0] for line in lines] == [str(tmp_path / "tb"), str(tmp_path / "metrics.csv")]
    assert [event.step for event in events(tmp_path).Scalars("train/loss")] == [1]


def test_a_run_goes_on_without_events_whose_file_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SummaryWriter, "__init__", full)
    _, out = toy_fit(tmp_path, toy_config(trainer__max_steps=4, logger=BOTH))
    assert out["status"] == "finished" and len(table(tmp_path)) == 4
    assert [line for line in caplog.messages if "tb cannot be written: No space left" in line] != []


def test_rows_that_found_no_room_are_written_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(trainer__max_steps=8)
    toy_fit(tmp_path / "full", config, full_between(2, 5, monkeypatch))
    toy_fit(tmp_path / "free", config)
    full_table, free = table(tmp_path / "full"), table(tmp_path / "free")
    assert [row["step"] for row in full_table] == [row["step"] for row in free] == [str(step) for step in range(1, 9)]
    assert [row["val/loss"] for row in full_table] == [row["val/loss"] for row in free]


def test_how_a_run_ended_is_not_replaced_by_an_end_mark_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nan(self: LanguageModelling, batch: Any, batch_idx: int) -> Tensor:
        return LanguageModelling.training_step(self, batch, batch_idx) * math.nan

    monkeypatch.setattr(run, "write_json", full)
    with pytest.raises(NonFiniteError):
        toy_fit(tmp_path, toy_config(), type("Breaking", (LanguageModelling,), {"training_step": nan}))
    assert f"{tmp_path / 'end.json'} cannot be written: No space left" in caplog.text


def test_a_start_without_room_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "write_atomically", full)
    with pytest.raises(UsageError, match=r"config.yaml cannot be written: No space left"):
        toy_fit(tmp_path, toy_config())


@pytest.mark.slow
def test_files_that_may_not_grow_end_neither_the_run_nor_its_checkpoints(tmp_path: Path) -> None:
    # a checkpoint of the toy run takes about 40 kB, its events over 400 steps more than 200 kB
    room = 100_000
    changes = {"trainer__max_steps": 400, "trainer__val_check_interval": 200, "logger": BOTH,
               "callbacks__checkpoint": {"every": 100}}  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-m", "tests.training.toy_run", str(tmp_path), json.dumps(changes), "0.2"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )  # fmt: skip
    assert process.returncode == 0 and "Traceback" not in process.stderr, process.stderr
    assert process.stderr.count("the run goes on without it") == 1
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == 400
    assert max(path.stat().st_size for path in (tmp_path / "tb").iterdir()) <= room
