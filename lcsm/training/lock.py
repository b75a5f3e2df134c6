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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UsageError(
                f"run directory {self.path.parent} is in use by {holder}\nwait for it or choose another directory"
            ) from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self.file = file
        return self

    def __exit__(self, *_: object) -> None:
        assert self.file is not None
        # the file stays: removing it would let a third process lock a new file while a second still waits for the old
        # one
        self.file.truncate(0)
        self.file.close()
