"""One process at a time writes into a run directory."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from lcsm.errors import UsageError


class RunLock:
    """A lock on a run directory for as long as the `with` block lasts; the system frees it when the process dies.

    Processes that this one forks, such as loader workers, do not keep it.

    Args:
        run_dir: an existing directory.
    Raises:
        UsageError: on entry, another process holds the lock; names its pid and host.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / ".lock"
        self.file: IO[str] | None = None

    def __enter__(self) -> RunLock:
        file = self.path.open("a+")
        holder = holder_unless_free(file, fcntl.LOCK_EX)
        if holder is not None:
            file.close()
            raise UsageError(
                f"run directory {self.path.parent} is in use by {holder}\nwait for it or choose another directory"
            )
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self.file = file
        HELD.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.file is not None
        # the file stays: removing it would let a third process lock a new file while a second still waits for the old
        # one
        self.file.truncate(0)
        self.close()

    def close(self) -> None:
        """Let go of the file; the lock is free once no process has it open."""
        HELD.discard(self)
        if self.file is not None:
            self.file.close()


def user_of(run_dir: Path) -> str | None:
    """The process that writes into a run directory, in words; None where nobody does."""
    try:
        file = (run_dir / ".lock").open()
    except OSError:
        return None
    with file:
        return holder_unless_free(file, fcntl.LOCK_SH)


def holder_unless_free(file: IO[str], kind: int) -> str | None:
    """Lock an open file if it is free, else say who holds it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return file.read().strip() or "another process"
    return None


HELD: set[RunLock] = set()


def close_inherited() -> None:
    """Close the locks in a forked process: one that outlives its run would keep them."""
    for lock in list(HELD):
        lock.close()


os.register_at_fork(after_in_child=close_inherited)
