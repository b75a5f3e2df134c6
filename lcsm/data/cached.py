"""Folders of prepared data: complete or absent, checked before they are used, made anew where they are damaged."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock

from lcsm.data.paths import local_path
from lcsm.errors import UsageError, shortened

log = logging.getLogger(__name__)

T = TypeVar("T")
# a file that is gone, or a folder in its place
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Damaged(Exception):
    """Stored files are not what was written."""


def default_cache_folder() -> Path:
    """$LCSM_CACHE, or lcsm in $XDG_CACHE_HOME, or ~/.cache/lcsm."""
    if own := os.environ.get("LCSM_CACHE"):
        return local_path("LCSM_CACHE", own)
    return local_path("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lcsm"


def cached(
    cache_dir: str | None, kind: str, key: str, make: Callable[[Path], None], read: Callable[[Path], T]
) -> tuple[Path, T]:
    """Find prepared data in the cache or make them; processes that ask at once wait for the first.

    Args:
        cache_dir: None = `default_cache_folder()`.
        kind: folder in it, for all data of that kind.
        key: name of these data.
        make: writes the files into an empty folder.
        read: checks the files of a folder, which is made anew where it raises `Damaged`.
    Returns:
        the folder, and what `read` found in it.
    Raises:
        UsageError: the cache cannot be used.
    """
    cache = (local_path("data.cache_dir", cache_dir) if cache_dir else default_cache_folder()) / kind
    folder = cache / key
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{key}.lock"):
            if folder.exists():
                try:
                    return folder, read(folder)
                except (Damaged, *ABSENT) as error:
                    log.warning("%s is damaged and made anew: %s", folder, error)
            _fill(folder, make)
            return folder, read(folder)
    except (Damaged, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"the cache {cache} cannot be used: {reason};\n"
            "set data.cache_dir, or the environment variable LCSM_CACHE, to a folder with room"
        ) from error


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    # everything is written beside the final name and renamed at the end, so that a folder is complete or absent
    partial = folder.with_suffix(".partial")
    for old in (partial, folder):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    partial.mkdir()
    try:
        make(partial)
    except OSError as error:
        # of the source, not of the cache
        if isinstance(error.filename, str) and not Path(error.filename).is_relative_to(partial):
            raise UsageError(f"{shortened(error.filename)} cannot be read: {error.strerror}") from error
        raise
    # on the disk before the name is, so that a power failure leaves no folder of empty files
    for path in (*partial.iterdir(), partial):
        _synchronise(path)
    partial.replace(folder)
    _synchronise(folder.parent)


def _synchronise(path: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        Damaged: it is none.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} is no JSON") from error


def require_counts(node: Any, names: tuple[str, ...], place: str) -> dict[str, int]:
    """Whole numbers by name.

    Raises:
        Damaged: one is missing or none.
    """
    if not isinstance(node, dict) or any(type(node.get(name)) is not int or node[name] < 0 for name in names):
        raise Damaged(f"{place} lacks one of {', '.join(names)}")
    return node


def numbers(path: Path, kind: np.dtype, count: int) -> np.ndarray:
    """All numbers of a file.

    Raises:
        Damaged: it holds fewer or more than `count`.
    """
    require_size(path, count * kind.itemsize)
    return np.fromfile(path, dtype=kind)


def require_size(path: Path, size: int) -> None:
    """Check the size of a file.

    Args:
        size: in bytes.
    Raises:
        Damaged: it has another one.
    """
    if path.stat().st_size != size:
        raise Damaged(f"{path.name} has {path.stat().st_size} bytes instead of {size}")
