"""What lies in a run directory and cannot be used is one message before the first step."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.training import checkpoints
from lcsm.training.checkpoints import write_checkpoint
from lcsm.training.loggers import MetricsTable
from tests.training.toy_run import toy_config, toy_fit


@pytest.mark.parametrize(
    "name,kind",
    [
        *((name, "folder") for name in (".lock", "config.yaml", "end.json", "metrics.csv")),
        *((f"checkpoints/{name}.ckpt", "folder") for name in ("last", "best")),
        *((name, "file") for name in ("checkpoints", "figures", "tb")),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_first_step(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).mkdir() if kind == "folder" else (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=f"run directory .*: {name} is a {kind} in the place of a") as refused:
        toy_fit(tmp_path, toy_config(trainer__max_steps=1, resume="auto"))
    assert len(str(refused.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "content,fault",
    [
        (b"loss,step\r\n1.0,1\r\n", "line 1: the columns must be step and others, each once"),
        (b"step,a,a\r\n1,2,3\r\n", "line 1: the columns"),
        (b"step,a\r\n1,0.5\r\nx,0.5\r\n", "line 3: x is no step"),
        (b"step,a\r\n1.5,0.5\r\n", "line 2: 1.5 is no step"),
        (b"step,a\r\n" + b"1" * 6000 + b",0.5\r\n", r"line 2: 1+\.\.\. \(6000 characters\) is no step"),
        (b"step,a\r\n1,\xff\r\n", "cannot be read: 'utf-8' codec"),
        (b"\x00" * 100, "cannot be read|line 1"),
        (b"step,a\r\n1," + b"a" * 200_000, "cannot be read: field larger"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UsageError, match=rf"metrics.csv.*({fault})") as refused:
        MetricsTable(tmp_path / "metrics.csv", resume_step=3)
    assert len(str(refused.value).splitlines()) <= 3 and "start" in str(refused.value)
    assert (tmp_path / "metrics.csv").read_bytes() == content


def test_a_row_that_a_kill_cut_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"step,a,b\r\n1,2,3\r\n2,4")
    MetricsTable(tmp_path / "metrics.csv", resume_step=3)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "a", "b"], ["1", "2", "3"]]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_fills_while_torch_writes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, write: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            write(file)

    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(UsageError, match=r"MiB free\): No space left on device\n.*make room"):
        write_checkpoint({"a": torch.zeros(1000)}, tmp_path / "a.ckpt")


def test_what_is_no_lack_of_room_is_not_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, write: Any) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(checkpoints, "write_atomically", closed)
    with pytest.raises(UsageError, match=r"a.ckpt: Permission denied\n") as refused:
        write_checkpoint({"a": 1}, tmp_path / "a.ckpt")
    assert "MiB free" not in str(refused.value) and "make room" not in str(refused.value)
