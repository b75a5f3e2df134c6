"""What a child may suffer: functions that are called in it right before its command line runs."""

from __future__ import annotations

import ctypes
import datetime
import functools
import itertools
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra.core.utils

import lcsm.cli
from lcsm.commands import train
from lcsm.tasks.base import Task
from tests.faults import planted as planted_commands

# Linux: the rights of root to read and write whatever it likes
OVERRIDE, READ_SEARCH = 1, 2
VERSION_3 = 0x20080522


def without_rights() -> None:
    """Root becomes subject to the permissions of files; others are so anyway."""
    system = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    # effective, permitted and inheritable, twice 32 bits each
    sets = (ctypes.c_uint32 * 6)()
    if system.capget(header, sets) == 0:
        sets[0] &= ~(1 << OVERRIDE | 1 << READ_SEARCH)
        system.capset(header, sets)


def planted(name: str) -> None:
    """A command of `planted.py` runs instead of lcsm's."""
    lcsm.cli.main = lambda words: getattr(planted_commands, name)()


def slow(hook: str, seconds: float) -> None:
    """Every call of a hook of the task takes longer."""

    def wait(calls: int) -> None:
        # for who looks when it comes
        Path(hook).touch()
        time.sleep(seconds)

    before(hook, wait)


def die(hook: str, number: int) -> None:
    """The process is killed in the call of this number of a hook of the task."""

    def act(calls: int) -> None:
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    before(hook, act)


def before(hook: str, act: Callable[[int], None]) -> None:
    """Something happens before every call of a hook, in whatever kind of task; it is told which call it is."""
    calls = itertools.count(1)
    for kind in (Task, *Task.__subclasses__()):
        if hook in vars(kind):
            setattr(kind, hook, acting(vars(kind)[hook], lambda: act(next(calls))))


def acting(own: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """A method that does something first."""

    @functools.wraps(own)
    def method(*arguments: Any) -> Any:
        act()
        return own(*arguments)

    return method


def slow_saves(seconds: float) -> None:
    """Data take their time to the disk."""
    own = os.fsync

    def longer(descriptor: Any) -> None:
        time.sleep(seconds)
        own(descriptor)

    os.fsync = longer


def largest_file(size: int) -> None:
    """No file grows beyond a size, as on a disk that is nearly full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fixed_clock() -> None:
    """All runs start in the same microsecond."""
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    stopped = type("Stopped", (datetime.datetime,), {"now": classmethod(lambda kind, zone=None: moment)})
    # where Hydra takes the time of a run's directory from
    hydra.core.utils.datetime = stopped


def slow_report(seconds: float) -> None:
    """The run is over, but its result takes a while to be printed."""
    own = train.report

    def longer(*arguments: Any) -> None:
        time.sleep(seconds)
        own(*arguments)

    train.report = longer
