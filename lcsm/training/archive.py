"""Reads files of torch that may come from anywhere: the outcome is plain content, or one line about what is wrong."""

from __future__ import annotations

import os
import stat
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from lcsm.errors import UsageError, first_line, out_of_memory, shortened


def look(path: str | os.PathLike[str]) -> os.stat_result | None:
    """The system's status of a path, None where nothing is.

    Raises:
        UsageError: it is a URL, its name is too long, or a folder on the way is closed.
    """
    if "://" in os.fspath(path):
        raise UsageError(f"checkpoint {path} is a URL: download the file and give its path")
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike[str], error: Exception) -> UsageError:
    """The message about a file that the system does not let be read."""
    return UsageError(f"checkpoint {shortened(os.fspath(path))} cannot be read: {getattr(error, 'strerror', error)}")


def read_archive(path: Path, device: str) -> Any:
    """The content of a file that `torch.save` wrote, after its checksums were checked.

    Never runs code from the file: only tensors and plain data are unpickled, and there is no option to change that.
    No more memory is taken than the file has bytes.

    Args:
        path: an existing path.
        device: where the tensors go.
    Raises:
        UsageError: it cannot be read; the line says whether it is empty, damaged or holds other things.
    """
    state = look(path)
    if state is None:
        raise UsageError(f"checkpoint {path} does not exist")
    if not stat.S_ISREG(state.st_mode):
        raise UsageError(f"checkpoint {path} is no file")
    if state.st_size == 0:
        raise UsageError(f"checkpoint {path} is empty: it was never written completely")
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        check_members(path, file, state.st_size)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(file, map_location=device, weights_only=True)
        # foreign bytes can make an unpickler raise anything; whatever it is, the file is to blame
        except Exception as error:
            if out_of_memory(error):
                raise
            raise UsageError(
                f"checkpoint {path} holds more than tensors and plain data, or is no checkpoint: it is not loaded"
            ) from error


def check_members(path: Path, file: IO[bytes], size: int) -> None:
    """Refuse an archive that is damaged, or whose members are not simply stored one after the other.

    Raises:
        UsageError: one line.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            fault = member_fault(archive, size)
    # besides its own error, zipfile raises those of decoding, of unpacking numbers and of arithmetic
    except Exception as error:
        raise UsageError(f"checkpoint {path} is truncated or not a checkpoint: {first_line(error)}") from error
    if fault is not None:
        raise UsageError(f"checkpoint {path} {fault}")


def member_fault(archive: zipfile.ZipFile, size: int) -> str | None:
    """The fault of the members of an archive of so many bytes, None where there is none."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return "is compressed, as checkpoints never are: it is not unpacked"
    if sum(member.file_size for member in members) >= size or len({*archive.namelist()}) < len(members):
        return "is damaged: its members overlap or share a name"
    broken = archive.testzip()
    return None if broken is None else f"is damaged: the checksum of {shortened(broken)} is wrong"
