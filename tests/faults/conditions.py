"""What a child may suffer: functions that are called in it right before its command line runs."""

from __future__ import annotations

import ctypes

import lcsm.cli
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
