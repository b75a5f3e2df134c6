"""Files that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

TEMPORARY = ".unfinished-"
# what lies in a run directory under which name
FILES = (".lock", "config.yaml", "end.json", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt")
FOLDERS = ("checkpoints", "figures", "tb")


def misplaced(run_dir: Path) -> str | None:
    """A folder where a run writes a file, or the other way round: what to say of it, None where there is none."""
    for name in FILES:
        if (run_dir / name).is_dir():
            return f"{name} is a folder in the place of a file: remove it, or choose another directory"
    for name in FOLDERS:
        if (run_dir / name).exists() and not (run_dir / name).is_dir():
            return f"{name} is a file in the place of a folder: remove it, or choose another directory"
    return None


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    The data are on the disk before the name changes, so that neither a kill nor a power failure leaves half a file
    under the final name. The temporary file lies beside its target: across file systems a rename would be a copy.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        # gone where all went well
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that it is whole as soon as it has its name."""
    with source.open("rb") as original:
        write_atomically(target, lambda file: shutil.copyfileobj(original, file, 2**20))


def sync_directory(directory: Path) -> None:
    """Put a changed name on the disk, where the system lets a directory be synchronised."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with indentation, in one step."""
    write_atomically(path, lambda file: file.write((json.dumps(content, indent=2, sort_keys=True) + "\n").encode()))


def sweep_temporary(directory: Path) -> list[Path]:
    """Remove what killed runs left behind while writing; the removed files."""
    stale = sorted(directory.glob(f"{TEMPORARY}*")) if directory.is_dir() else []
    for file in stale:
        file.unlink(missing_ok=True)
    return stale
