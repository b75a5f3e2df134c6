"""Labelled sequences on disk: written once, in blocks, and then memory-mapped."""

import hashlib
import json
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lcsm.data.cached import Damaged, cached, numbers, read_json, require_counts, require_size
from lcsm.errors import UsageError

log = logging.getLogger(__name__)

# raised whenever the files change their meaning
FORMAT = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class StoredSequences:
    """Sequences of different lengths, one after the other.

    Args:
        flat: values of all sequences, [sum of lengths].
        starts: where each sequence begins, and the end of the last, int64 [rows + 1].
    """

    flat: np.ndarray
    starts: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Length of every sequence, int64 [rows]."""
        return np.diff(self.starts)

    def padded(self, chosen: np.ndarray, length: int) -> np.ndarray:
        """Some sequences with zeros behind them, [len(chosen) length]."""
        rows = np.zeros((len(chosen), length), dtype=self.flat.dtype)
        for row, index in zip(rows, chosen, strict=True):
            start, stop = self.starts[index], self.starts[index + 1]
            row[: stop - start] = self.flat[start:stop]
        return rows


def joined(values: np.ndarray, lengths: np.ndarray) -> StoredSequences:
    """Sequences from their values, one after the other, and their lengths."""
    return StoredSequences(values, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]))


@dataclass(frozen=True)
class LabelledSet:
    """Examples of one split.

    Args:
        documents: the sequences; two of them where each example is a pair.
        labels: class of each example, int64 [rows].
    """

    documents: tuple[StoredSequences, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def ragged(self) -> bool:
        """Whether lengths differ, so that batches have padding."""
        lengths = [document.lengths for document in self.documents]
        return len({int(part[index]) for part in lengths for index in (part.argmin(), part.argmax())}) > 1


def as_rows(images: np.ndarray, labels: np.ndarray) -> LabelledSet:
    """Images as sequences of their rows."""
    flat = images.reshape(len(images), -1)
    return LabelledSet((joined(flat.ravel(), np.full(len(flat), flat.shape[1])),), labels)


class LabelledSource(ABC):
    """The source of labelled sequences.

    Attributes:
        name: shown while the sequences are made, and in reports.
        dtype: type of the stored values.
        settings: JSON-able; with the name it decides whether stored sequences can be used again.
        sizes: examples of every split; None where only reading tells.
        documents: sequences of each example, 1 or 2.
    """

    name: str
    dtype: type
    settings: dict[str, Any]
    sizes: dict[str, int | None] = dict.fromkeys(SPLITS)
    documents: int = 1

    @abstractmethod
    def blocks(self, split: str) -> Iterator[LabelledSet]:
        """The examples of a split in order, in pieces that fit into memory."""


@dataclass(frozen=True)
class Stored:
    """A set on disk.

    Args:
        folder: holds the files of every split, and `facts.json`.
        facts: of each split `examples`, `values` and `sha256`; and under `documents` and `dtype` how to read the files.
    """

    folder: Path
    facts: dict[str, Any]

    def load(self, split: str) -> LabelledSet:
        """The examples of a split, mapped into memory."""
        if split not in self.facts["splits"]:
            raise UsageError(f"these data have no {split} split; they have {', '.join(self.facts['splits'])}")
        documents = tuple(
            StoredSequences(
                np.memmap(self.folder / f"{split}.{index}.values", dtype=self.facts["dtype"], mode="r"),
                np.fromfile(self.folder / f"{split}.{index}.starts", dtype=np.int64),
            )
            for index in range(self.facts["documents"])
        )
        return LabelledSet(documents, np.fromfile(self.folder / f"{split}.labels", dtype=np.int64))


def stored(source: LabelledSource, cache_dir: str | None) -> Stored:
    """Find a set in the cache or write it; processes that ask at once wait for the first.

    Args:
        source: makes the examples.
        cache_dir: None = `lcsm.data.cached.default_cache_folder()`.
    Raises:
        UsageError: the cache cannot be used, or the source cannot be read.
    """
    content = json.dumps([FORMAT, source.name, source.settings, source.sizes], sort_keys=True)
    folder, facts = cached(
        cache_dir,
        "labelled",
        hashlib.sha256(content.encode()).hexdigest()[:24],
        make=partial(_make, source),
        read=partial(_read, source),
    )
    return Stored(folder, facts)


def _make(source: LabelledSource, folder: Path) -> None:
    started = time.monotonic()
    splits: dict[str, Any] = {}
    # the bar goes where a person may watch it, never into a log file
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        for split, size in source.sizes.items():
            task = progress.add_task(f"{source.name} {split}", total=size)
            writer = Writer(folder, split, source)
            for block in source.blocks(split):
                writer.add(block)
                progress.advance(task, len(block))
            splits[split] = writer.close()
            if not splits[split]["examples"]:
                raise UsageError(f"{source.name} has no {split} example")
    facts = {"documents": source.documents, "dtype": np.dtype(source.dtype).name, "splits": splits}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    examples = ", ".join(f"{part['examples']} {split}" for split, part in splits.items())
    log.info("%s stored in %.1f s: %s", source.name, time.monotonic() - started, examples)


def _read(source: LabelledSource, folder: Path) -> dict[str, Any]:
    """The facts of a folder whose files have the sizes and the order that they say.

    Raises:
        Damaged: they have not.
    """
    facts, kind, place = read_json(folder / "facts.json"), np.dtype(source.dtype), np.dtype(np.int64)
    expected = {"documents": source.documents, "dtype": kind.name}
    if not isinstance(facts, dict) or facts != expected | {"splits": facts.get("splits")}:
        raise Damaged("facts.json is of other data")
    splits = facts["splits"]
    if not isinstance(splits, dict) or {*splits} != {*source.sizes}:
        raise Damaged("facts.json lacks splits")
    for split in splits:
        part = require_counts(splits[split], ("examples", "values"), f"facts.json, {split},")
        values = 0
        for index in range(source.documents):
            starts = numbers(folder / f"{split}.{index}.starts", place, part["examples"] + 1)
            if starts[0] != 0 or (np.diff(starts) < 0).any():
                raise Damaged(f"{split}.{index}.starts is in no order")
            require_size(folder / f"{split}.{index}.values", int(starts[-1]) * kind.itemsize)
            values += int(starts[-1])
        labels = numbers(folder / f"{split}.labels", place, part["examples"])
        if values != part["values"] or (labels < 0).any():
            raise Damaged(f"the files of {split} are not what facts.json says")
    return facts


class Writer:
    """Appends the examples of one split to its files, and hashes them."""

    def __init__(self, folder: Path, split: str, source: LabelledSource) -> None:
        self._folder, self._split, self._dtype = folder, split, source.dtype
        self._values = [folder / f"{split}.{index}.values" for index in range(source.documents)]
        for path in self._values:
            path.touch()
        self._lengths: list[list[np.ndarray]] = [[] for _ in self._values]
        self._labels: list[np.ndarray] = []
        self._digest = hashlib.sha256()

    def add(self, block: LabelledSet) -> None:
        """Append a block."""
        for path, lengths, document in zip(self._values, self._lengths, block.documents, strict=True):
            values: np.ndarray = np.ascontiguousarray(document.flat, dtype=self._dtype)
            with path.open("ab") as file:
                values.tofile(file)
            self._digest.update(values.data)
            lengths.append(document.lengths)
        self._labels.append(np.asarray(block.labels, dtype=np.int64))
        self._digest.update(self._labels[-1].data)

    def close(self) -> dict[str, Any]:
        """Write lengths and labels, and return the facts of the split."""
        none = np.empty(0, dtype=np.int64)
        values = 0
        for index, lengths in enumerate(self._lengths):
            starts = joined(none, np.concatenate([none, *lengths])).starts
            starts.tofile(self._folder / f"{self._split}.{index}.starts")
            self._digest.update(starts.data)
            values += int(starts[-1])
        labels = np.concatenate([none, *self._labels])
        labels.tofile(self._folder / f"{self._split}.labels")
        return {"examples": len(labels), "values": values, "sha256": self._digest.hexdigest()}
