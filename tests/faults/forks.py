"""Command lines of lcsm as processes that start in milliseconds: children of a parent that has imported everything."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.counts import count

ROOT = Path(__file__).parents[2]
# a command that takes longer hangs; the largest of ours takes two seconds of a core of its own
SECONDS = count("SECONDS", 40)
# address space, most of it never used: torch alone takes two gibibytes
MEMORY = 6 << 30


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Args:
        status: exit status; the negative number of the signal that killed it; None where it was ended for its time.
        out, err: what it printed.
        notes: what the guard refused, one line each.
        forks: processes that it forked.
    """

    status: int | None
    out: str
    err: str
    notes: list[str]
    forks: int

    @property
    def lines(self) -> list[str]:
        """The lines on stderr that are not blank."""
        return [line for line in self.err.splitlines() if line.strip()]


class Child:
    """A running command line.

    Args:
        forks: its parent.
        pid: of the process, which leads a group of its own.
        folder: holds `work`, where it runs, and what it said.
    """

    def __init__(self, forks: Forks, pid: int, folder: Path) -> None:
        self.forks, self.pid, self.folder = forks, pid, folder
        self.status: int | None = None
        self.ended = False

    @property
    def work(self) -> Path:
        """The working directory."""
        return self.folder / "work"

    def running(self) -> bool:
        """Whether it runs still."""
        if not self.ended:
            found = self.forks.ask({"poll": self.pid})
            if found is not None:
                self.status, self.ended = os.waitstatus_to_exitcode(found), True
        return not self.ended

    def until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
        """Wait until something holds, the child has ended or the time is over; whether it holds."""
        end = time.monotonic() + seconds
        while not (holds := condition()) and self.running() and time.monotonic() < end:
            time.sleep(0.003)
        return holds or condition()

    def send(self, number: int) -> None:
        """A signal to the process alone, as an operator or the kernel sends it."""
        if self.running():
            os.kill(self.pid, number)

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Wait for the end, and make one where the time is over; what the processes that it forked do ends too."""
        self.until(lambda: False, seconds)
        hung = self.running()
        self.end_group()
        self.until(lambda: False, 10)
        notes = read(self.folder / "notes").splitlines()
        return Ended(
            None if hung else self.status,
            read(self.folder / "out"),
            read(self.folder / "err"),
            [note for note in notes if note != "fork"],
            notes.count("fork"),
        )

    def end_group(self) -> None:
        """Kill what is left of the child and of the processes that it forked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Forks:
    """The parent of all children; a context manager.

    Args:
        folder: where it keeps what matplotlib caches, and what it says itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()

    def __enter__(self) -> Forks:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # the memory of pyarrow would keep a thread of its own
        one["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
        own = {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1", "MPLCONFIGDIR": str(self.folder / "matplotlib")}
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LCSM", "HYDRA"))}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.said = (self.folder / "parent.txt").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT,
            env=environment | one | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.said.close()

    def ask(self, request: dict[str, Any]) -> Any:
        """What the parent answers."""
        with self.lock:
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the parent of all children is gone: {read(self.folder / 'parent.txt')[-2000:]}")
        return json.loads(answer)

    def start(
        self,
        folder: Path,
        words: Sequence[str],
        *,
        conditions: Sequence[tuple[Any, ...]] = (),
        environment: dict[str, str] | None = None,
        memory: int = MEMORY,
        allowed: Sequence[str] = (),
        stdin: str = os.devnull,
    ) -> Child:
        """Start a command line; returns when its process is there.

        Args:
            folder: of the child; its `work` is the working directory, `tmp` the TMPDIR, and it may write nowhere else.
            words: the command and its arguments.
            conditions: functions of `conditions.py`, each with its arguments.
            environment: variables besides those that point into the folder.
            memory: bytes of address space; 0 sets no limit.
            allowed: further folders in which it may write.
            stdin: file that it reads.
        """
        for name in ("work", "tmp", "foreign"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("started", "notes"):
            (folder / name).unlink(missing_ok=True)
        inside = {"HOME": "work", "LCSM_CACHE": "work/cache", "XDG_CACHE_HOME": "work/xdg", "TMPDIR": "tmp"}
        job = {
            "folder": str(folder),
            "words": list(words),
            "conditions": [(name, arguments) for name, *arguments in conditions],
            "environment": {name: str(folder / path) for name, path in inside.items()} | (environment or {}),
            "memory": memory,
            "allowed": list(allowed),
            "stdin": stdin,
        }
        return Child(self, self.ask({"start": job}), folder)

    def run(self, folder: Path, words: Sequence[str], seconds: float = SECONDS, **options: Any) -> Ended:
        """Start a command line and wait for its end."""
        return self.start(folder, words, **options).wait(seconds)


def read(path: Path) -> str:
    """A file as text, "" where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def fresh(folder: Path, asset: Path | None = None) -> Path:
    """An empty folder, or a copy of one; hard links become files of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    if asset is not None:
        shutil.copytree(asset, folder, symlinks=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
