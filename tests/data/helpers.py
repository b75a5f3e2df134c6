"""Small data modules with the settings that a test does not care about."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from lcsm.batch import Batch
from lcsm.data.copying import Copying
from lcsm.data.mqar import Mqar
from lcsm.data.text_files import TextFiles

TEXT = "".join(f"line {i} of a text that repeats: hello world, hello words\n" for i in range(200))


def make_mqar(**settings: Any) -> Mqar:
    defaults: dict[str, Any] = {
        "length": 32,
        "vocab_size": 64,
        "num_pairs": 4,
        "power_a": 0.01,
        "random_non_queries": False,
        "num_train": None,
        "num_val": 50,
        "val_lengths": [1],
        "batch_size": 8,
        "num_workers": 0,
        "seed": 3,
    }
    return Mqar(**(defaults | settings))


def make_copying(**settings: Any) -> Copying:
    defaults: dict[str, Any] = {
        "length": 17,
        "vocab_size": 12,
        "num_symbols": [2, 8],
        "forced": True,
        "num_train": None,
        "num_val": 20,
        "val_lengths": [1, 2],
        "batch_size": 8,
        "num_workers": 0,
        "seed": 3,
    }
    return Copying(**(defaults | settings))


def make_text(
    folder: Path, train: str | bytes | None = TEXT, valid: str | None = TEXT[:4000], **settings: Any
) -> TextFiles:
    """A module over `train.txt` and `valid.txt`, which are written into the folder where given."""
    defaults: dict[str, Any] = {
        "root": None,
        "train_files": str(folder / "train.txt"),
        "val_files": None if valid is None else str(folder / "valid.txt"),
        "test_files": None,
        "val_fraction": 0.1,
        "text_column": "text",
        "rows": "documents",
        "document_separator": None,
        "encoding": "utf-8",
        "length": 16,
        "batch_size": 4,
        "num_workers": 0,
        "seed": 3,
        "tokenizer": "bytes",
        "vocab_size": None,
        "packing": "stream",
        "val_lengths": [1, 2],
        "max_val_tokens": None,
        "cache_dir": str(folder / "cache"),
    }
    for name, content in (("train.txt", train), ("valid.txt", valid)):
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextFiles(**(defaults | settings))


def take(loader: DataLoader[Batch], count: int) -> list[Batch]:
    batches = iter(loader)
    return [next(batches) for _ in range(count)]


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
