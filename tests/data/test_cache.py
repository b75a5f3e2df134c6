"""Prepared data are checked before they are used, and made anew where they are damaged."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lcsm.data import cached
from lcsm.data.labelled.store import LabelledSet, LabelledSource, joined, stored
from lcsm.errors import UsageError
from tests.data.helpers import make_text, take

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def beyond(path: Path) -> None:
    ids = np.load(path)
    ids[5] = 300
    np.save(path, ids)


def claims(**changed: object) -> Damage:
    """Facts that say something else of the training split."""

    def write(path: Path) -> None:
        facts = json.loads(path.read_text())
        facts.get("splits", facts)["train"] |= changed
        path.write_text(json.dumps(facts))

    return write


ANY: list[Damage] = [empty, cut, garbled, Path.unlink, replaced]
TEXT_DAMAGE = [
    *((name, damage) for name in ("tokenizer.json", "facts.json", "train.npy", "validation.npy") for damage in ANY),
    ("tokenizer.json", lambda path: path.write_text('{"kind": "bytes"}')),
    ("tokenizer.json", deep),
    ("facts.json", lambda path: path.write_text("[]")),
    ("facts.json", lambda path: path.write_text('{"train": 3, "validation": null}')),
    ("facts.json", claims(tokens=10**12)),
    ("facts.json", claims(bytes=1)),
    ("facts.json", claims(documents=-1)),
    ("facts.json", claims(tokens="many")),
    ("train.npy", lambda path: np.save(path, np.array([{"an": "object"}]))),
    ("train.npy", lambda path: np.save(path, np.load(path).astype(np.int64))),
    ("train.npy", lambda path: np.save(path, np.load(path) + 1)),
    ("train.npy", beyond),
]


def only_folder(cache: Path) -> Path:
    (found,) = [item for item in cache.iterdir() if item.is_dir()]
    return found


@pytest.mark.parametrize(("name", "damage"), TEXT_DAMAGE)
def test_a_damaged_text_is_tokenised_anew_with_one_line(
    name: str, damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    settings = {"tokenizer": "bpe", "vocab_size": 280}
    before = make_text(tmp_path, **settings)
    expected = take(before.train_dataloader(), 3)
    damage(only_folder(tmp_path / "cache/tokens") / name)
    after = make_text(tmp_path, **settings)
    with caplog.at_level(logging.WARNING):
        assert after.describe() == before.describe()
    assert all(
        (a["tokens"] == b["tokens"]).all() for a, b in zip(expected, take(after.train_dataloader(), 3), strict=True)
    )
    assert warned(caplog)


def warned(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether there was one warning, of one line; other tests may have switched on messages of lower levels."""
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return len(messages) == 1 and "is damaged and made anew" in messages[0] and "\n" not in messages[0]


class Rows(LabelledSource):
    """Two sequences of different lengths in every split."""

    name, dtype, settings = "rows", np.uint16, {}
    sizes = {"train": 2, "validation": 2}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        yield LabelledSet((joined(np.arange(5), np.array([2, 3])),), np.array([0, 1]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("facts.json", "train.0.starts", "train.labels") for damage in ANY),
        *(("train.0.values", damage) for damage in ANY if damage is not garbled),
        ("facts.json", claims(values=10**12)),
        ("facts.json", claims(examples=3)),
        ("facts.json", lambda path: path.write_text('{"documents": 1, "dtype": "uint16", "splits": {}}')),
        ("facts.json", lambda path: path.write_text('{"documents": 9, "dtype": "float64"}')),
    ],
)
def test_damaged_sequences_are_stored_anew_with_one_line(
    name: str, damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    expected = stored(Rows(), str(tmp_path)).facts
    path = only_folder(tmp_path / "labelled") / name
    before = path.read_bytes()
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert stored(Rows(), str(tmp_path)).facts == expected
    assert warned(caplog)
    assert path.read_bytes() == before


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_cache(tmp_path: Path):
    class Closed(Rows):
        def blocks(self, split: str) -> Iterator[LabelledSet]:
            raise PermissionError(13, "Permission denied", str(tmp_path / "pos/1.txt"))

    with pytest.raises(UsageError, match=r"pos/1.txt cannot be read: Permission denied$"):
        stored(Closed(), str(tmp_path))


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []
    synchronise, replace = cached._synchronise, Path.replace
    monkeypatch.setattr(cached, "_synchronise", lambda path: (done.append(path.name), synchronise(path)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append("renamed"), replace(path, target)))
    make_text(tmp_path).prepare()
    before, after = done[: done.index("renamed")], done[done.index("renamed") + 1 :]
    assert {"train.npy", "validation.npy", "facts.json", "tokenizer.json"} < {*before}
    assert before[-1].endswith(".partial") and after == ["tokens"]


def test_a_cache_that_cannot_be_repaired_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_text(tmp_path).prepare()
    garbled(only_folder(tmp_path / "cache/tokens") / "facts.json")

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(UsageError, match=r"the cache .*tokens cannot be used: Permission denied;\nset data.cache_dir"):
        make_text(tmp_path).prepare()


@pytest.mark.parametrize(("folder", "reason"), [("~nobody-here", "home"), ("a" * 5000, "too long")])
def test_a_cache_folder_that_cannot_be_is_one_message(
    folder: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LCSM_CACHE", folder)
    for setting, given in (("data.cache_dir", folder), ("LCSM_CACHE", None)):
        with pytest.raises(UsageError, match=rf"{setting}={folder[:9]}.*{reason}"):
            make_text(tmp_path, cache_dir=given).prepare()
