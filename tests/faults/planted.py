"""Commands that do what no command may do, in place of lcsm's own: each must be found."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable


def hang() -> int:
    """Never ends."""
    while True:
        time.sleep(1)


def abort() -> int:
    """Is ended by the system."""
    os.kill(os.getpid(), signal.SIGABRT)
    return 2


def crash() -> int:
    """A mistake of the program."""
    raise ValueError("planted")


def devour() -> int:
    """More memory than there is, unnoticed."""
    return len(bytes(1 << 40))


def talk() -> int:
    """A refusal of more than three lines."""
    sys.stderr.write("one\ntwo\nthree\nfour\n")
    return 2


def say_nothing() -> int:
    """A refusal without a word."""
    return 2


def mislead() -> int:
    """A refusal with wrong words."""
    sys.stderr.write("lcsm: set data.encoding=latin-1\n")
    return 2


def accept() -> int:
    """Takes what is wrong."""
    return 0


def refuse() -> int:
    """What a command should do."""
    sys.stderr.write("lcsm: seed=-1 must be >= 0\nuse another\n")
    return 2


def write_outside() -> int:
    """A file beside the working directory."""
    return refuse_after(lambda: open("../elsewhere", "w").close())


def make_outside() -> int:
    """A folder beside the working directory."""
    return refuse_after(lambda: os.mkdir("../elsewhere"))


def rename_outside() -> int:
    """A file of its own that goes elsewhere."""
    open("here", "w").close()
    return refuse_after(lambda: os.rename("here", "../elsewhere"))


def start_program() -> int:
    """Another program."""
    return refuse_after(lambda: os.system("true"))


def connect() -> int:
    """Another machine, or a server on this one."""
    return refuse_after(lambda: socket.create_connection(("127.0.0.1", 9), 1).close())


def import_foreign() -> int:
    """Code that came with the case."""
    return refuse_after(lambda: __import__("foreign_code"))


def fork() -> int:
    """One more process."""
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return refuse()


def refuse_after(attempt: Callable[[], object]) -> int:
    """Whatever comes of an attempt, the command ends as it should."""
    with contextlib.suppress(OSError):
        attempt()
    return refuse()
