"""Checkpoints are whole, plain and checked."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcsm.errors import UsageError
from lcsm.training.checkpoints import (
    find_resumable,
    fingerprint,
    load_weights,
    make_header,
    read_checkpoint,
    require_plain,
    write_checkpoint,
)
from lcsm.training.files import sweep_temporary, write_atomically
from tests.training.toy_run import VOCAB, ToyModel, toy_config, toy_fit

Damage = Callable[[dict[str, Any]], object]


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


def test_whatever_is_flipped_or_cut_is_refused_or_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    weights = write_toy(path)
    data, chooser = path.read_bytes(), random.Random(0)
    refused = 0
    for attempt in range(400):
        changed = bytearray(data)
        if attempt % 4 == 0:
            del changed[chooser.randrange(len(data)) :]
        else:
            # names, sizes and offsets of the members are at the end, their headers in front of each
            start = chooser.choice([0, len(data) - 3000])
            changed[chooser.randrange(start, len(data))] ^= 1 << chooser.randrange(8)
        path.write_bytes(changed)
        try:
            found = read_checkpoint(path)
        except UsageError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error).splitlines()) == 1
        else:
            assert found.step == 3 and found.config == toy_config()
            assert all(torch.equal(weights[name], value) for name, value in found.weights.items())
    assert refused > 300


def test_a_flipped_bit_in_a_name_does_not_hide_the_older_checkpoint(tmp_path: Path) -> None:
    write_toy(tmp_path / "best.ckpt", step=5)
    write_toy(tmp_path / "last.ckpt", step=9)
    data = bytearray((tmp_path / "last.ckpt").read_bytes())
    name = data.rindex(b"data.pkl")
    data[name] ^= 0x80
    (tmp_path / "last.ckpt").write_bytes(data)
    found, skipped = find_resumable(tmp_path)
    assert found is not None and found.step == 5 and "last.ckpt is truncated" in skipped[0]


def header_with(**changed: Any) -> Damage:
    def damage(content: dict[str, Any]) -> None:
        content["lcsm"] |= changed

    return damage


def weight_as(change: Callable[[torch.Tensor], Any], fit: bool = False) -> Damage:
    """Another value of the head's weight; with `fit` the fingerprint is that of the changed weights."""

    def damage(content: dict[str, Any]) -> None:
        state = content["state_dict"]
        state["model.head.weight"] = change(state["model.head.weight"])
        if fit:
            weights = {name.removeprefix("model."): value for name, value in state.items()}
            content["lcsm"]["fingerprint"] = fingerprint(weights)

    return damage


def set_nan(weight: torch.Tensor) -> torch.Tensor:
    return weight.index_fill(0, torch.tensor([3]), float("nan"))


@pytest.mark.parametrize(
    "damage,message",
    [
        (header_with(step="x"), "its step is x, no int"),
        (header_with(step=-1), "its step is -1"),
        (header_with(step=True), "its step is True, no int"),
        (header_with(vocab_size=-5), "its vocab_size is -5"),
        (header_with(vocab_size="x"), "its vocab_size is x"),
        (header_with(config="[]"), r"its config is \[\], no dict"),
        (header_with(config="null"), "its config is None, no dict"),
        (header_with(config=3), "its config is 3, no str"),
        (header_with(config="{"), "its config is no JSON"),
        (header_with(config="[" * 100_000), "its config is nested too deep"),
        (header_with(config='{"seed": ' + "1" * 6000 + "}"), "4300 digits"),
        (header_with(data="null"), "its data is None"),
        (header_with(tokenizer="[]"), r"its tokenizer is \[\], no dict"),
        (header_with(tokenizer="3"), "its tokenizer is 3"),
        (header_with(metrics={"val/loss": "x"}), "its metric val/loss is x, no number"),
        (header_with(versions=None), "its versions is None"),
        (header_with(fingerprint="0"), "not the names, shapes and types that were saved"),
        (lambda content: content["lcsm"].pop("data"), "its data is None"),
        (lambda content: content.update(state_dict=[]), "it has no weights by name"),
        (lambda content: content["state_dict"].pop("model.head.bias"), "not the names, shapes and types"),
        (weight_as(lambda weight: weight.double()), "not the names, shapes and types"),
        (weight_as(lambda weight: weight.reshape(8, 11)), "not the names, shapes and types"),
        (weight_as(lambda weight: 3), "head.weight is no tensor of numbers"),
        (weight_as(lambda weight: weight.to("meta"), fit=True), "head.weight is no tensor of numbers"),
        (weight_as(lambda weight: weight.to(torch.float8_e5m2), fit=True), "head.weight is no tensor of numbers"),
        (weight_as(lambda weight: weight.to_sparse(), fit=True), "head.weight is no dense tensor"),
        (weight_as(lambda weight: torch.ones(()).expand(11, 8), fit=True), "head.weight has fewer numbers"),
        (weight_as(set_nan), "head.weight is not finite"),
        (weight_as(lambda weight: weight / 0), "head.weight is not finite"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_checked(tmp_path: Path, damage: Damage, message: str) -> None:
    path = tmp_path / "a.ckpt"
    write_toy(path)
    content = torch.load(path, weights_only=True)
    damage(content)
    torch.save(content, path)
    with pytest.raises(UsageError, match=message) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_weights_of_another_kind_of_numbers_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    write_toy(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    weight_as(lambda weight: weight.to(kind), fit=True)(content)
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=f"head.weight is {kind} in the checkpoint and torch.float32 here"):
        load_weights(ToyModel(), read_checkpoint(tmp_path / "a.ckpt"))


def test_weights_of_another_precision_are_loaded(tmp_path: Path) -> None:
    write_toy(tmp_path / "a.ckpt")
    load_weights(ToyModel().double(), read_checkpoint(tmp_path / "a.ckpt"))


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, more: str | None = None) -> None:
    """The same members, written anew, and maybe one of them twice."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, member in [*members.items(), *((name, b"other") for name in members if more and name.endswith(more))]:
            archive.writestr(name, member)


def test_compressed_members_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    write_toy(path)
    repacked(path, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(UsageError, match="is compressed, as checkpoints never are"):
        read_checkpoint(path)


def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_toy(path)
    repacked(path)
    assert read_checkpoint(path).step == 3
    repacked(path, more="/version")
    with pytest.raises(UsageError, match="overlap or share a name"):
        read_checkpoint(path)


def test_what_the_system_refuses_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_toy(tmp_path / "a.ckpt")
    os.mkfifo(tmp_path / "pipe")

    def closed(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    for path, message in (("a" * 5000, "cannot be read: File name too long"), (tmp_path / "pipe", "is no file")):
        with pytest.raises(UsageError, match=message) as refused:
            read_checkpoint(path)
        assert len(str(refused.value)) < 500
    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(UsageError, match=r"a.ckpt cannot be read: Permission denied$"):
        read_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(UsageError, match=r"cannot be read: Permission denied"):
        find_resumable(tmp_path)


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
