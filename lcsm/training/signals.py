"""Signals that stop a run: at the end of a step while it trains, at once before and after."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from lcsm.training.errors import Interrupted

# the last one tells that the terminal is gone
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
STOPPING = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class StopSignals:
    """Takes the first of SIGINT, SIGTERM, SIGUSR1 and SIGHUP; the second one has its default effect.

    Use as a context manager around everything that may be stopped, as early as possible. The first signal raises
    `Interrupted`; after `defer` it is only noted, and the training loop acts on it.

    Attributes:
        number: the signal that came, None as long as there is none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.previous: dict[int, Any] = {}
        self.deferred = self.speaks = False
        self.process = os.getpid()

    def __enter__(self) -> StopSignals:
        for number in STOPPING:
            handler = signal.getsignal(number)
            # a process in the background of a script inherits an ignored SIGINT, one under nohup an ignored SIGHUP,
            # which it should keep ignoring
            if in_main_thread() and handler is not signal.SIG_IGN:
                self.previous[number] = handler
        self.install()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        if self.number is not None and not self.deferred and isinstance(error, Exception):
            # a library that `Interrupted` passes through may fail while it cleans up, which hides it
            raise Interrupted(self.number) from error

    def install(self) -> None:
        """Put the handler in place, again where a library replaced it."""
        if in_main_thread():
            for number in self.previous:
                signal.signal(number, self.note)

    def defer(self, speaks: bool = True) -> None:
        """Only note signals from here on.

        Args:
            speaks: whether to say that one came; of several processes one does.
        Raises:
            Interrupted: one came already, and what it raised was lost on the way.
        """
        self.deferred, self.speaks = True, speaks
        if self.number is not None:
            raise Interrupted(self.number)

    def note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            # a forked worker, which serves the run until that stops; who terminates it wants it to end
            if not self.deferred or number == signal.SIGTERM:
                end_by(number)
            return
        if self.number is not None:
            if sys.stderr.isatty():
                # a progress bar may have hidden the cursor
                write_directly("\x1b[?25h")
            end_by(number)
            return
        self.number = number
        if not self.deferred:
            raise Interrupted(number)
        if self.speaks:
            name = signal.Signals(number).name
            write_directly(f"\n{name}: stopping at the end of this step; once more stops at once\n")


def end_by(number: int) -> None:
    """The default effect of a signal on this process."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def write_directly(text: str) -> None:
    """Write to standard error inside a handler, which must not wait for a buffer; the terminal may be gone."""
    with suppress(OSError):
        os.write(2, text.encode())


def in_main_thread() -> bool:
    """Only the main thread may set handlers."""
    return threading.current_thread() is threading.main_thread()
