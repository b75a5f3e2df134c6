"""Standard output and standard error of a command that outlives its terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Lasting(io.FileIO):
    """A file that takes what it cannot write: the terminal is gone, the reader of the pipe has ended, the disk is full.

    What a run says is worth less than the run.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let writes to standard output and standard error never fail in the block.

    Streams that somebody put in place of the process's own, such as a notebook or a test, stay as they are.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = lasting(sys.stdout, sys.__stdout__), lasting(sys.stderr, sys.__stderr__)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def lasting(stream: TextIO | None, own: TextIO | None) -> TextIO:
    """A stream of the process as one whose writes never fail."""
    if stream is None:
        # closed when the process began
        return open(os.devnull, "w")
    if stream is not own:
        return stream
    file = io.BufferedWriter(Lasting(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=True)
