"""Local folders of data sets: what is expected in them, and what a set of files is known by."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lcsm.data.paths import local_path
from lcsm.errors import UsageError


def require_folder(root: str, expected: str) -> Path:
    """The folder that data.root names.

    Args:
        expected: what the folder should hold, for the message.
    """
    folder = local_path("data.root", root)
    if not folder.is_dir():
        raise UsageError(f"data.root={root} is no folder (looked from {Path.cwd()});\nexpected {expected}")
    return folder


def require_files(root: str, names: Mapping[str, str], origin: str) -> dict[str, Path]:
    """Paths of files that must be in a folder.

    Args:
        root: the setting data.root.
        names: path of each file below the folder, by any key.
        origin: where such a folder comes from.
    Raises:
        UsageError: the folder or some of the files are missing; all expected files are named.
    """
    expected = f"{', '.join(names.values())}: {origin}"
    folder = require_folder(root, expected)
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"data.root={root} lacks {', '.join(missing)};\nexpected {expected}")
    return {key: folder / name for key, name in names.items()}


def file_facts(paths: Iterable[Path]) -> dict[str, Any]:
    """The identity of the files that stored sequences were read from: path, size and time of change."""
    states = [(str(path.resolve()), path.stat()) for path in paths]
    return {"files": [[name, state.st_size, state.st_mtime_ns] for name, state in states]}
