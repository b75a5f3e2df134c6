"""Errors that end a run before its last step."""

from __future__ import annotations

import signal
from pathlib import Path

from lcsm.errors import UsageError


class NonFiniteError(UsageError):
    """The loss, a gradient or a weight is not finite; raised before anything of it is stored."""


class Interrupted(SystemExit):
    """A signal asked the run to stop: it did so at the end of a step, or at once where no step was under way.

    Not an `Exception`, so that nothing on its way takes it for a failure that it could go on from.

    Args:
        number: the signal.
        step: number of finished optimiser steps, None outside training.
        checkpoint: the file from which the run resumes, None where there is none.
    Attributes:
        exit_code: 128 + the number of the signal, as shells report it.
    """

    def __init__(self, number: int, step: int | None = None, checkpoint: Path | None = None) -> None:
        self.number = number
        self.step = step
        self.checkpoint = checkpoint
        self.exit_code = 128 + number
        super().__init__(self.exit_code)

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        if self.step is None:
            return f"{name}: stopped outside training"
        saved = f"saved in {self.checkpoint}" if self.checkpoint else "no checkpoint is saved"
        return f"{name}: stopped at step {self.step}, {saved}"
