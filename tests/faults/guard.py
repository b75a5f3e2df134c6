"""In a child: nothing is written, and no program is started, outside of the case; attempts are noted and refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# audit event -> positions of its path and of the directory descriptor that goes with it, None without one
PATHS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
}
PROGRAMS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pty.spawn", "os.startfile"}
NETWORK = {"socket.connect", "socket.getaddrinfo"}


class Guard:
    """Refuses what a case must not do, and notes it in a file.

    Args:
        notes: file that gets one line for each attempt, and `fork` for each process that is forked.
        allowed: folders and files below which, or at which, may be written.
    """

    def __init__(self, notes: Path, allowed: list[Path]) -> None:
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.allowed = [os.path.realpath(path) for path in (*allowed, Path(os.devnull))]

    def install(self) -> None:
        """From here on, for this process and its children; it cannot be taken back."""
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by the interpreter before it does what an event says."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not isinstance(path, int):
                self.require_inside("wrote", path, None)
        elif event in PATHS:
            for position, directory in PATHS[event]:
                path = arguments[position]
                if not isinstance(path, int):
                    self.require_inside(event, path, None if directory is None else arguments[directory])
        elif event == "socket.connect" and isinstance(arguments[1], (str, bytes)):
            # a name in the file system: processes of one machine
            self.require_inside("connected to", arguments[1], None)
        elif event in PROGRAMS or event in NETWORK:
            self.refuse(f"{event} {arguments[:2]!r}")
        elif event == "os.fork":
            os.write(self.notes, b"fork\n")

    def require_inside(self, what: str, named: Any, directory: int | None) -> None:
        """Refuse a path outside of the allowed ones."""
        text = os.fsdecode(named)
        if directory is not None and directory >= 0 and not os.path.isabs(text):
            text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)
        full = os.path.join(os.path.realpath(os.path.dirname(text) or "."), os.path.basename(text))
        # what a process asks the system about itself is no file
        allowed = (*self.allowed, f"/proc/{os.getpid()}")
        if not any(full == path or full.startswith(path + os.sep) for path in allowed):
            self.refuse(f"{what} {full}")

    def refuse(self, what: str) -> None:
        """Note an attempt and let it fail as the system would."""
        os.write(self.notes, f"{what[:300]}\n".encode(errors="replace"))
        raise PermissionError(13, f"not allowed to a case: {what}")
