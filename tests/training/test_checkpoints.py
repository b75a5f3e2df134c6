"""Checkpoints are whole, plain and checked."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcsm.errors import UsageError
from lcsm.training.checkpoints import (
    find_resumable,
    load_weights,
    make_header,
    read_checkpoint,
    require_plain,
    write_checkpoint,
)
from lcsm.training.files import sweep_temporary, write_atomically
from tests.training.toy_run import VOCAB, ToyModel, toy_config, toy_fit


def write_toy(path: Path, step: int = 3, width: int = 8) -> dict[str, Any]:
    """A checkpoint with a header and weights only."""
    weights = ToyModel(width).state_dict()
    header = make_header(
        config=toy_config(),
        step=step,
        weights=weights,
        vocab_size=VOCAB,
        tokenizer={"kind": "bytes"},
        data={},
        metrics={},
    )
    write_checkpoint({"lcsm": header, "state_dict": {f"model.{name}": value for name, value in weights.items()}}, path)
    return weights


class Payload:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = write_toy(tmp_path / "a.ckpt")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    assert checkpoint.step == 3 and checkpoint.vocab_size == VOCAB and checkpoint.tokenizer == {"kind": "bytes"}
    assert checkpoint.config == toy_config()
    model = ToyModel()
    load_weights(model, checkpoint)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: b"", "is empty"),
        (lambda data: b"no checkpoint at all\n", "truncated or not a checkpoint"),
        (lambda data: pickle.dumps({"a": 1}), "truncated or not a checkpoint"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "a.ckpt"
    write_toy(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=message) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_every_flipped_bit_in_tensor_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    weights = write_toy(path)
    data = path.read_bytes()
    start = data.index(weights["head.weight"].numpy().tobytes())
    chooser = random.Random(0)
    for _ in range(20):
        flipped = bytearray(data)
        flipped[start + chooser.randrange(weights["head.weight"].nbytes)] ^= 1 << chooser.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UsageError, match="checksum"):
            read_checkpoint(path)


def test_directories_urls_and_missing_files_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "directory"), ("https://host/a.ckpt", "URL"), (tmp_path / "b", "does not exist")):
        with pytest.raises(UsageError, match=message):
            read_checkpoint(path)


def test_files_of_others_and_of_other_formats_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UsageError, match="not written by lcsm"):
        read_checkpoint(tmp_path / "other.ckpt")
    torch.save({"lcsm": {"format": 99}, "state_dict": {}}, tmp_path / "new.ckpt")
    with pytest.raises(UsageError, match="format 99"):
        read_checkpoint(tmp_path / "new.ckpt")


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"lcsm": {"format": 1}, "payload": Payload()}, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match="more than tensors and plain data"):
        read_checkpoint("a.ckpt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", [Path("a"), np.float64(1.0), Payload, Payload(), print, toy_config])
def test_only_plain_content_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=r"checkpoint\['a'\]\[0\]"):
        write_checkpoint({"a": [value]}, tmp_path / "a.ckpt")
    assert not any(tmp_path.iterdir())
    require_plain({"a": [1, 2.0, "x", None, torch.ones(2), (torch.float32,)]})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_toy(path)
    before = path.read_bytes()

    def fail(file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", lambda content, file: Path("/dev/full").write_bytes(b"x" * 10_000))
    with pytest.raises(UsageError, match=r"cannot write the checkpoint.*No space left") as refused:
        write_checkpoint({"a": 1}, tmp_path / "a.ckpt")
    assert len(str(refused.value).splitlines()) <= 3 and not any(tmp_path.iterdir())


def test_weights_of_another_width_are_refused_with_the_difference(tmp_path: Path) -> None:
    write_toy(tmp_path / "a.ckpt", width=12)
    with pytest.raises(UsageError, match=r"\[11, 12\] in the checkpoint and \[11, 8\] here"):
        load_weights(ToyModel(), read_checkpoint(tmp_path / "a.ckpt"))


def test_the_valid_file_with_the_most_steps_is_found(tmp_path: Path) -> None:
    assert find_resumable(tmp_path) == (None, [])
    write_toy(tmp_path / "best.ckpt", step=5)
    write_toy(tmp_path / "last.ckpt", step=9)
    found, skipped = find_resumable(tmp_path)
    assert found is not None and found.step == 9 and not skipped
    (tmp_path / "last.ckpt").write_bytes(b"")
    found, skipped = find_resumable(tmp_path)
    assert found is not None and found.step == 5 and "last.ckpt is empty" in skipped[0]


def test_unfinished_files_are_swept_at_the_start(tmp_path: Path) -> None:
    stale = tmp_path / "checkpoints" / ".unfinished-last.ckpt-4711"
    stale.parent.mkdir()
    stale.write_bytes(b"half")
    toy_fit(tmp_path, toy_config(trainer__max_steps=1))
    assert not stale.exists() and sweep_temporary(stale.parent) == []


def test_reading_needs_no_lightning() -> None:
    command = "import sys, lcsm.training.checkpoints; sys.exit('lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)
