"""What became of a command line, in one word, and what is wrong with that."""

from __future__ import annotations

import signal

from tests.faults.forks import Ended

ACCEPTED, REFUSED, MEMORY = "accepted", "refused", "out of memory"
TRACEBACK, HANG, KILLED, WORDS, FAILED = "traceback", "hang", "killed", "wrong words", "failed"
# a message is at most so long
LINES = 3
# of what a broken command printed, this much is shown
SHOWN = 300


def outcome(ended: Ended) -> str:
    """One of the words above.

    A refusal is exit status 2 with one to three lines on stderr; a lack of memory is said in as many with status 1.
    """
    if ended.status is None:
        return HANG
    if "Traceback (most recent call last)" in ended.out + ended.err or "panicked at" in ended.err:
        return TRACEBACK if ended.status >= 0 else KILLED
    if ended.status < 0:
        return KILLED
    if ended.status == 0:
        return ACCEPTED
    if not 1 <= len(ended.lines) <= LINES:
        return WORDS
    if ended.status == 2:
        return REFUSED
    return MEMORY if "out of memory" in ended.err else FAILED


def said(ended: Ended) -> str:
    """How a command ended, with the end of what it said, for one line of a report."""
    status = "no end" if ended.status is None else f"status {ended.status}"
    if ended.status is not None and ended.status < 0:
        status = signal.Signals(-ended.status).name
    lines = [line.strip() for line in ended.lines or ended.out.splitlines()]
    ours = [line for line in lines if line.startswith("File ") and "/lcsm/" in line]
    last = lines[-1:] if ours else lines[-LINES:]
    words = " / ".join([*(line.partition("/lcsm/")[2] for line in ours[-1:]), *last])
    return f"{status}, {len(ended.lines)} lines: {words[:SHOWN]}"
