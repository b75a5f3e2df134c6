"""Standard output and standard error of a command that outlives its terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
def lasting_output(*names: str) -> Iterator[None]:
    """Let writes to these streams, "stdout" and "stderr", never fail in the block.

    Streams that somebody put in place of the process's own, such as a notebook or a test, stay as they are.
    """
    before = {name: getattr(sys, name) for name in names}
    for name, stream in before.items():
        setattr(sys, name, lasting(stream, getattr(sys, f"__{name}__")))
    try:
        yield
    finally:
        for name, stream in before.items():
            getattr(sys, name).flush()
            setattr(sys, name, stream)


def lasting(stream: io.TextIOBase, own: io.TextIOBase | None) -> io.TextIOBase:
    """A stream of the process as one whose writes never fail."""
    if stream is not own:
        return stream
    file = io.BufferedWriter(Lasting(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=True)


def open_closed() -> None:
    """Open the null device for each stream that was closed when the process began.

    In the order of their descriptors, so that no file of a run gets the number under which messages are written.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
