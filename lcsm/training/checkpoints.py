"""Checkpoints: plain data and tensors in one file, written in one step and checked before they are read.

Imports torch but not Lightning, so that evaluation and generation start quickly.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lcsm.errors import UsageError, first_line
from lcsm.training.files import write_atomically

FORMAT = 1
HEADER = "lcsm"
MODEL_PREFIX = "model."
BEST, LAST = "best.ckpt", "last.ckpt"
PLAIN = (type(None), bool, int, float, str, bytes, Tensor, torch.dtype, torch.Size)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint of lcsm holds.

    Args:
        path: where it was read from.
        step: finished optimiser steps.
        config: the whole resolved configuration of the run.
        weights: state of the model; the averaged weights where the run averages.
        vocab_size: V of the model.
        tokenizer: state of the tokeniser, None for tasks without text.
        data: facts of the data set (`describe()` of the data module).
        metrics: the last validation metrics.
        fingerprint: digest of names, shapes and types of the weights.
        versions: of lcsm, torch and lightning.
        content: everything, as the trainer restores it.
    """

    path: Path
    step: int
    config: dict[str, Any]
    weights: dict[str, Tensor]
    vocab_size: int
    tokenizer: dict[str, Any] | None
    data: dict[str, Any]
    metrics: dict[str, float]
    fingerprint: str
    versions: dict[str, str]
    content: dict[str, Any]


def digest(content: Any) -> str:
    """SHA-256 of JSON-able content, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Digest of the names, shapes and types of a model's weights: equal where one state fits the other."""
    return digest([[name, list(value.shape), str(value.dtype)] for name, value in sorted(weights.items())])


def make_header(
    *,
    config: dict[str, Any],
    step: int,
    weights: Mapping[str, Tensor],
    vocab_size: int,
    tokenizer: dict[str, Any] | None,
    data: dict[str, Any],
    metrics: dict[str, float],
) -> dict[str, Any]:
    """What a checkpoint says about itself, as plain strings and numbers."""
    tokenizer_text = None if tokenizer is None else json.dumps(tokenizer, sort_keys=True)
    return {
        "format": FORMAT,
        "step": step,
        "config": json.dumps(config, default=str),
        "fingerprint": fingerprint(weights),
        "vocab_size": vocab_size,
        "tokenizer": tokenizer_text,
        "tokenizer_sha256": None if tokenizer_text is None else hashlib.sha256(tokenizer_text.encode()).hexdigest(),
        "data": json.dumps(data, default=str),
        "metrics": {name: float(value) for name, value in metrics.items()},
        "versions": {name: installed(name) for name in ("lcsm", "torch", "lightning")},
    }


def installed(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def require_plain(content: Any, where: str = "checkpoint") -> None:
    """Refuse to store what a safe reader would refuse to load.

    Raises:
        TypeError: a value is neither a number, a string, None, a tensor nor a container of these; names its place.
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            require_plain(key, f"{where} key {key!r}")
            require_plain(value, f"{where}[{key!r}]")
    elif type(content) in (list, tuple):
        for index, value in enumerate(content):
            require_plain(value, f"{where}[{index}]")
    elif type(content) not in PLAIN and not isinstance(content, Tensor):
        raise TypeError(
            f"{where} is a {type(content).__module__}.{type(content).__qualname__}; "
            "checkpoints hold numbers, strings, tensors and containers of these only"
        )


def write_checkpoint(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a checkpoint in one step; on failure the old file stays and nothing else is left.

    Raises:
        TypeError: the content is not plain.
        UsageError: the file cannot be written.
    """
    require_plain(content)
    try:
        write_atomically(Path(path), lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:
        free = shutil.disk_usage(nearest_directory(Path(path))).free / 2**20
        raise UsageError(
            f"cannot write the checkpoint {path} ({free:.0f} MiB free): {first_line(error)}\n"
            "earlier checkpoints are untouched; make room and continue with resume=auto"
        ) from error


def nearest_directory(path: Path) -> Path:
    """The closest existing directory above a path."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def load_content(path: str | os.PathLike[str], device: str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint of lcsm, after its checksums and its header were checked.

    Never runs code from the file: only tensors and plain data are unpickled, and there is no option to change that.

    Raises:
        UsageError: one line that names the file and what is wrong with it.
    """
    if "://" in os.fspath(path):
        raise UsageError(f"checkpoint {path} is a URL: download the file and give its path")
    path = Path(path)
    if not path.exists():
        raise UsageError(f"checkpoint {path} does not exist")
    if path.is_dir():
        raise UsageError(f"checkpoint {path} is a directory: give a file, e.g. {path / 'checkpoints' / BEST}")
    if path.stat().st_size == 0:
        raise UsageError(f"checkpoint {path} is empty: it was never written completely")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"checkpoint {path} is truncated or not a checkpoint: {first_line(error)}") from error
    if broken is not None:
        raise UsageError(f"checkpoint {path} is damaged: the checksum of {broken} is wrong")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(
            f"checkpoint {path} holds more than tensors and plain data, or is no checkpoint: it is not loaded"
        ) from error
    header = content.get(HEADER) if isinstance(content, dict) else None
    if not isinstance(header, dict) or "format" not in header:
        raise UsageError(f"checkpoint {path} was not written by lcsm")
    if header["format"] != FORMAT:
        raise UsageError(f"checkpoint {path} has format {header['format']}; this version of lcsm reads format {FORMAT}")
    return content


def read_checkpoint(path: str | os.PathLike[str], device: str = "cpu") -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        path: a local file.
        device: where the tensors go.
    Raises:
        UsageError: the file is missing, a directory, a URL, empty, truncated, damaged, unsafe or not of lcsm.
    """
    content = load_content(path, device)
    try:
        return checkpoint_of(Path(path), content)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise UsageError(f"checkpoint {path} is damaged: its header lacks or garbles {error}") from error


def checkpoint_of(path: Path, content: dict[str, Any]) -> Checkpoint:
    """The parts of a checkpoint's content by name."""
    header = content[HEADER]
    weights = {
        name.removeprefix(MODEL_PREFIX): value
        for name, value in content["state_dict"].items()
        if name.startswith(MODEL_PREFIX)
    }
    tokenizer = header["tokenizer"]
    return Checkpoint(
        path=path,
        step=header["step"],
        config=json.loads(header["config"]),
        weights=weights,
        vocab_size=header["vocab_size"],
        tokenizer=None if tokenizer is None else json.loads(tokenizer),
        data=json.loads(header["data"]),
        metrics=header["metrics"],
        fingerprint=header["fingerprint"],
        versions=header["versions"],
        content=content,
    )


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Put the weights of a checkpoint into a model.

    Raises:
        UsageError: names or shapes differ; names the first difference.
    """
    differences = weight_differences(model.state_dict(), checkpoint.weights)
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise UsageError(f"checkpoint {checkpoint.path} is of another model: {differences[0]}{more}")
    model.load_state_dict(checkpoint.weights)


def weight_differences(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> list[str]:
    """Where two sets of weights do not fit, one phrase each."""
    phrases = []
    for name in sorted({*here, *there}):
        if name not in there:
            phrases.append(f"{name} is missing in the checkpoint")
        elif name not in here:
            phrases.append(f"{name} is not in this model")
        elif here[name].shape != there[name].shape:
            phrases.append(f"{name} is {list(there[name].shape)} in the checkpoint and {list(here[name].shape)} here")
    return phrases


def find_resumable(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The valid checkpoint with the most steps among `last.ckpt` and `best.ckpt`.

    Args:
        directory: the `checkpoints` directory of a run.
    Returns:
        The checkpoint or None, and one line for every file that was skipped, with the reason.
    """
    found: list[Checkpoint] = []
    skipped = []
    for path in existing(directory / name for name in (LAST, BEST)):
        try:
            found.append(read_checkpoint(path))
        except UsageError as error:
            skipped.append(f"skipped: {error}")
    return max(found, key=lambda checkpoint: checkpoint.step, default=None), skipped


def existing(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that exist."""
    return [path for path in paths if path.exists()]
