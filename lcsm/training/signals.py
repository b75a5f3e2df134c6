"""Signals that stop a run at the end of a step: the handler only notes the signal, the training loop acts on it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StopSignals:
    """Notes the first of SIGINT, SIGTERM and SIGUSR1; the second one has its default effect.

    Use as a context manager around everything that may be stopped, as early as possible: until training starts a noted
    signal waits for the first step.

    Attributes:
        number: the noted signal, None as long as there is none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in STOPPING:
            handler = signal.getsignal(number)
            # a process in the background of a script inherits an ignored SIGINT, which it should keep ignoring
            if in_main_thread() and handler is not signal.SIG_IGN:
                self.previous[number] = handler
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Put the handler in place, again where a library replaced it."""
        if in_main_thread():
            for number in self.previous:
                signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if sys.stderr.isatty():
                # a progress bar may have hidden the cursor
                os.write(2, b"\x1b[?25h")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.number = number
        os.write(
            2, f"\n{signal.Signals(number).name}: stopping at the end of this step; once more stops at once\n".encode()
        )


def in_main_thread() -> bool:
    """Only the main thread may set handlers."""
    return threading.current_thread() is threading.main_thread()
