"""The warmed parent: imports everything once, then forks a child for each command line.

Reads one JSON request per line and answers with one line: `{"start": JOB}` with the pid, `{"poll": pid}` with the wait
status of a child that has ended, else null. It has one thread, so that a child is a process like any other.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

WARM = ("train", "evaluate", "generate", "convert", "show")
MODULES = (
    *(f"lcsm.commands.{name}" for name in (*WARM, "assemble", "check_plan", "checkpoint", "models_table", "sweep")),
    "lcsm.config.compose", "lcsm.conversion.model", "lcsm.conversion.streams", "lcsm.conversion.report",
    "lcsm.data.mqar", "lcsm.data.text_files", "lcsm.models.generation", "lcsm.inspection", "lcsm.tasks.recall",
    "lcsm.tasks.language_modelling", "lcsm.training.run", "lightning", "matplotlib.figure", "tensorboard",
)  # fmt: skip


def warm() -> None:
    """Import what the commands import, without starting a thread."""
    import torch

    torch.set_num_threads(1)
    for name in MODULES:
        importlib.import_module(name)


def child(job: dict[str, Any]) -> int:
    """Run one command line as a process of its own; the exit status.

    Args:
        job: as `forks.Forks.start` writes it.
    """
    import lcsm.cli
    from tests.faults import conditions
    from tests.faults.guard import Guard

    folder = Path(job["folder"])
    os.setsid()
    # a shell hands an ignored SIGINT on to what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name, flags in ((0, job["stdin"], os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        path = name if number == 0 else folder / name
        descriptor = os.open(path, flags | (os.O_CREAT | os.O_TRUNC if number else 0))
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder / "work")
    os.environ.update(job["environment"])
    tempfile.tempdir = None
    sys.path.insert(0, str(folder / "foreign"))
    sys.argv = ["lcsm", *job["words"]]
    if job["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    guard = Guard(folder / "notes", [folder / "work", folder / "tmp", *map(Path, job["allowed"])])
    for name, arguments in job["conditions"]:
        getattr(conditions, name)(*arguments)
    (folder / "started").touch()
    guard.install()
    try:
        return lcsm.cli.main(job["words"])
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(f"{stop.code}\n")
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1


def end(status: int) -> None:
    """All that the interpreter does at its end but for taking apart what the parent imported, which takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # as the interpreter says that what was printed went nowhere
            status = 120
    os._exit(status)


def serve() -> None:
    """Answer requests until there are no more; in a child, run its command line instead."""
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in iter(requests.readline, ""):
        request = json.loads(line)
        if "start" in request:
            sys.stdout.flush()
            answer: int | None = os.fork()
            if answer == 0:
                requests.close(), answers.close()
                end(child(request["start"]))
        else:
            found, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = status if found else None
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    warm()
    serve()
