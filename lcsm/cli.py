"""The command line: finds the command, imports only what it needs, says users' mistakes without a traceback.

Exit status: 0 done; 1 failure; 2 a mistake of the user; 128 + n stopped by signal n.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import lcsm
from lcsm.commands.terminal import lasting_output, open_closed
from lcsm.config.suggest import did_you_mean
from lcsm.errors import UsageError, out_of_memory

DONE, FAILURE, USER_ERROR, INTERRUPTED = 0, 1, 2, 130
# a disk, a quota or the largest file is full, or the terminal is gone
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# name -> one line of help; each is lcsm/commands/<name>.py with run(argv) -> exit status and usage() -> text
COMMANDS = {
    "train": "train a model, or a sweep of models; the same as python train.py",
    "evaluate": "measure a checkpoint on validation or test data",
    "generate": "continue a text with a checkpoint, token by token",
    "convert": "turn the long convolutions of a checkpoint into recurrences of constant cost per token",
    "show": "describe a model without training it: shapes, structure, algorithm, size, cost",
}

COMPLETION = ("-sc", "--shell-completion")

OVERVIEW = """lcsm {version}: linear-complexity sequence models built as Expand, Oscillation, Shrink

usage: lcsm COMMAND [key=value ...]

{commands}

lcsm COMMAND --help explains a command; lcsm train --help lists the options of every group.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the command and its arguments; None takes those of the process.
    Returns:
        The exit status.
    """
    open_closed()
    # the status tells what nobody reads
    with lasting_output("stderr"):
        return status_of(list(sys.argv[1:] if argv is None else argv))


def status_of(words: list[str]) -> int:
    """Run a command, with a line for what a traceback would not help with."""
    try:
        status = dispatch(words)
        sys.stdout.flush()
        return status
    except UsageError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.stderr.write(f"lcsm: {error}\n")
        return USER_ERROR
    except (MemoryError, RuntimeError) as error:
        message = out_of_memory(error)
        if message is None or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        sys.stderr.write(f"lcsm: {message}\n")
        return FAILURE
    except KeyboardInterrupt:
        sys.stderr.write("\nlcsm: stopped\n")
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of a pipe, such as head, has what it wanted
        drop_output()
        return DONE
    except OSError as error:
        if error.errno not in NO_ROOM or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        drop_output()
        sys.stderr.write(f"lcsm: cannot write: {error.strerror}; make room\n")
        return FAILURE


def drop_output() -> None:
    """Let what is left of the output go nowhere, for it would fail again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(words: list[str]) -> int:
    """Find the command and hand it its arguments."""
    if not words or words[0] in ("-h", "--help", "help"):
        lines = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
        sys.stdout.write(OVERVIEW.format(version=lcsm.__version__, commands=lines))
        return DONE
    if words[0] == "--version":
        sys.stdout.write(f"lcsm {lcsm.__version__}\n")
        return DONE
    if words[0] in COMPLETION:
        # a shell knows the program, not its commands; only some of them have groups and keys to complete
        typed = os.environ.get("COMP_LINE", "").split(" ")[1:]
        if len(typed) == 1 or (typed and typed[0] not in ("train", "show")):
            names = [name for name in COMMANDS if len(typed) == 1 and name.startswith(typed[0])]
            sys.stdout.write(" ".join(names) + "\n")
            return DONE
        words = ["train", *words]
    name, arguments = words[0], words[1:]
    if name not in COMMANDS:
        way = f"write lcsm train {name}" if "=" in name else f"commands: {', '.join(COMMANDS)}"
        raise UsageError(f"{name!r} is not a command{did_you_mean(name, COMMANDS)}\n{way}")
    command = importlib.import_module(f"lcsm.commands.{name}")
    if any(word in ("-h", "--help") for word in arguments):
        sys.stdout.write(command.usage(arguments))
        return DONE
    return command.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
