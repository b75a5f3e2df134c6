"""Paths that settings of the data name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lcsm.errors import UsageError, shortened


@contextmanager
def looking_at(argument: str, name: str) -> Iterator[None]:
    """Turn what the system refuses into one line.

    Args:
        argument: name of the setting.
        name: the path that it gives.
    Raises:
        UsageError: inside the block a name was too long or a folder closed.
    """
    try:
        yield
    except OSError as error:
        at = "" if error.filename in (None, name) else f" {shortened(str(error.filename))}:"
        raise UsageError(
            f"{argument}={shortened(name)} cannot be read:{at} {error.strerror}; give another path"
        ) from error


def local_path(argument: str, name: str) -> Path:
    """A path with ~ as the home folder; nothing needs to be there.

    Args:
        argument: name of the setting, for the error.
    Raises:
        UsageError: the name is too long, a folder on the way is closed, or there is no such home folder.
    """
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{argument}={shortened(name)}: {error}; give another path") from error
    with looking_at(argument, name):
        path.is_file()
    return path
