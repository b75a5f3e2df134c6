"""Checkpoints: plain data and tensors in one file, written in one step and checked before they are read.

Imports torch but not Lightning, so that evaluation and generation start quickly.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lcsm
from lcsm.errors import UsageError, first_line, shortened
from lcsm.training.archive import look, read_archive
from lcsm.training.files import copy_atomically, write_atomically

FORMAT = 1
HEADER = "lcsm"
MODEL_PREFIX = "model."
BEST, LAST = "best.ckpt", "last.ckpt"
# what weights are made of
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128, torch.bool,
           torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # fmt: skip
PLAIN = (type(None), bool, int, float, str, bytes, Tensor, torch.dtype, torch.Size)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a checkpoint of lcsm.

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
        holds: tokens up to which a conversion holds; None for any length.
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
    holds: int | None


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
    """The header of a checkpoint, as plain strings and numbers."""
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
        "versions": {"lcsm": lcsm.__version__} | {name: installed(name) for name in ("torch", "lightning")},
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
    with failing_in_words(Path(path)):
        write_atomically(Path(path), lambda file: torch.save(content, file))


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy a checkpoint in one step. A second name of the same file would share all damage with the first.

    Raises:
        UsageError: the file cannot be written.
    """
    with failing_in_words(target):
        copy_atomically(source, target)


@contextmanager
def failing_in_words(path: Path) -> Iterator[None]:
    """Say in words why a checkpoint cannot be written, and that nothing is lost."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports the refused write of its file in words of its own
        refused = error if isinstance(error, OSError) else error.__context__
        if isinstance(refused, OSError) and refused.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            room, way = "", "mend that"
        else:
            room, way = f" ({shutil.disk_usage(nearest_directory(path)).free / 2**20:.0f} MiB free)", "make room"
        reason = refused.strerror if isinstance(refused, OSError) else first_line(error)
        raise UsageError(
            f"cannot write the checkpoint {path}{room}: {reason}\n"
            f"earlier checkpoints are untouched; {way} and continue with resume=auto"
        ) from error


def nearest_directory(path: Path) -> Path:
    """The closest existing directory above a path."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def load_content(path: str | os.PathLike[str], device: str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint of lcsm, after its checksums and its format were checked.

    Never runs code from the file: only tensors and plain data are unpickled, and there is no option to change that.

    Raises:
        UsageError: one line that names the file and what is wrong with it.
    """
    if is_directory(path):
        raise UsageError(f"checkpoint {path} is a directory: give a file, e.g. {Path(path) / 'checkpoints' / BEST}")
    content = read_archive(Path(path), device)
    header = content.get(HEADER) if isinstance(content, dict) else None
    if not isinstance(header, dict) or "format" not in header:
        raise UsageError(f"checkpoint {path} was not written by lcsm")
    if header["format"] != FORMAT:
        raise UsageError(
            f"checkpoint {path} has format {shortened(header['format'])}; this version of lcsm reads format {FORMAT}"
        )
    return content


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a directory.

    Raises:
        UsageError: as in `look`.
    """
    state = look(path)
    return state is not None and stat.S_ISDIR(state.st_mode)


def read_checkpoint(path: str | os.PathLike[str], device: str = "cpu") -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        path: a local file.
        device: where the tensors go.
    Raises:
        UsageError: the file is missing, a directory, a URL, empty, truncated, damaged, unsafe or not of lcsm, or its
            weights are not those that were saved, or not finite.
    """
    content = load_content(path, device)
    try:
        checkpoint = checkpoint_of(Path(path), content)
        check_weights(checkpoint.weights, checkpoint.fingerprint)
    except ValueError as error:
        raise UsageError(f"checkpoint {path} is damaged: {error}") from error
    return checkpoint


def checkpoint_of(path: Path, content: dict[str, Any]) -> Checkpoint:
    """The parts of a checkpoint's content by name.

    Raises:
        ValueError: one of them is missing or of another kind.
    """
    header, state = content[HEADER], content.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError("it has no weights by name")
    metrics = part(header, "metrics", dict)
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, float):
            raise ValueError(f"its metric {shortened(name)} is {shortened(value)}, no number")
    checkpoint = Checkpoint(
        path=path,
        step=part(header, "step", int),
        config=mapping(header, "config"),
        weights={
            name.removeprefix(MODEL_PREFIX): value for name, value in state.items() if name.startswith(MODEL_PREFIX)
        },
        vocab_size=part(header, "vocab_size", int),
        tokenizer=None if header.get("tokenizer", "") is None else mapping(header, "tokenizer"),
        data=mapping(header, "data"),
        metrics=metrics,
        fingerprint=part(header, "fingerprint", str),
        versions=part(header, "versions", dict),
        content=content,
        # of conversions alone
        holds=None if header.get("holds") is None else part(header, "holds", int),
    )
    for name in ("step", "vocab_size"):
        if getattr(checkpoint, name) < 0:
            raise ValueError(f"its {name} is {getattr(checkpoint, name)}")
    return checkpoint


def part(header: dict[str, Any], name: str, kind: type) -> Any:
    """A value of a header.

    Raises:
        ValueError: it is missing or of another kind.
    """
    if type(header.get(name)) is not kind:
        raise ValueError(f"its {name} is {shortened(header.get(name))}, no {kind.__name__}")
    return header[name]


def mapping(header: dict[str, Any], name: str) -> dict[str, Any]:
    """A value of a header that is JSON of an object.

    Raises:
        ValueError: it is none, is nested too deep, or has endless numbers.
    """
    try:
        found = json.loads(part(header, name, str))
    except RecursionError as error:
        raise ValueError(f"its {name} is nested too deep") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"its {name} is no JSON: {error}") from error
    return part({name: found}, name, dict)


def check_weights(weights: Mapping[str, Any], expected: str) -> None:
    """Whether weights are what was saved: dense, complete and finite.

    Args:
        weights: by name.
        expected: their `fingerprint`.
    Raises:
        ValueError: names the first that is not.
    """
    for name, value in weights.items():
        if not isinstance(value, Tensor) or value.is_nested or value.is_meta or value.dtype not in NUMBERS:
            raise ValueError(f"{name} is no tensor of numbers")
        if value.layout is not torch.strided:
            raise ValueError(f"{name} is no dense tensor")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(f"{name} has fewer numbers than its shape {list(value.shape)}")
    if fingerprint(weights) != expected:
        raise ValueError("its weights have not the names, shapes and types that were saved")
    for name, value in weights.items():
        if (value.is_floating_point() or value.is_complex()) and not bool(value.isfinite().all()):
            raise ValueError(f"{name} is not finite")


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Put the weights of a checkpoint into a model.

    Raises:
        UsageError: as in `require_same_weights`.
    """
    require_same_weights(model.state_dict(), checkpoint)
    model.load_state_dict(checkpoint.weights)


def require_same_weights(state: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that is not of the model with this state.

    Raises:
        UsageError: names, shapes or kinds of numbers differ; names the first difference.
    """
    differences = weight_differences(state, checkpoint.weights)
    if differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise UsageError(f"checkpoint {checkpoint.path} is of another model: {differences[0]}{more}")


def weight_differences(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> list[str]:
    """The differences of two sets of weights in name, shape or kind of numbers, one phrase each."""
    phrases = []
    for name in sorted({*here, *there}):
        if name not in there:
            phrases.append(f"{name} is missing in the checkpoint")
        elif name not in here:
            phrases.append(f"{name} is not in this model")
        elif here[name].shape != there[name].shape:
            phrases.append(f"{name} is {list(there[name].shape)} in the checkpoint and {list(here[name].shape)} here")
        elif family(here[name]) != family(there[name]):
            phrases.append(f"{name} is {there[name].dtype} in the checkpoint and {here[name].dtype} here")
    return phrases


def family(value: Tensor) -> str:
    """The kind of numbers of a tensor; a run in another precision has floating-point numbers of another width."""
    return "floating" if value.is_floating_point() else "complex" if value.is_complex() else str(value.dtype)


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


def claimed_step(directory: Path) -> int:
    """The most steps that a file of a `checkpoints` directory says it holds, read without its tensors; else -1."""
    steps = [-1]
    for path in existing(directory / name for name in (LAST, BEST)):
        # foreign bytes can make an unpickler raise anything; a damaged file is named when it is read as a whole
        with suppress(Exception):
            steps.append(int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)[HEADER]["step"]))
    return max(steps)


def existing(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that exist.

    Raises:
        UsageError: as in `look`.
    """
    return [path for path in paths if look(path)]
