"""Why a run ends before its last step."""

from __future__ import annotations

import signal
from pathlib import Path

from lcsm.errors import UsageError


class NonFiniteError(UsageError):
    """The loss, a gradient or a weight is not finite; raised before anything of it is stored."""


class Interrupted(Exception):
    """A signal asked the run to stop, and it did so at the end of a step.

    Args:
        number: the signal.
        step: number of finished optimiser steps.
        checkpoint: the file from which the run resumes, None where there is none.
    Attributes:
        exit_code: 128 + the number of the signal, as shells report it.
    """

    def __init__(self, number: int, step: int, checkpoint: Path | None) -> None:
        self.number = number
        self.step = step
        self.checkpoint = checkpoint
        self.exit_code = 128 + number
        saved = f"saved in {checkpoint}" if checkpoint else "no checkpoint is saved"
        super().__init__(f"{signal.Signals(number).name}: stopped at step {step}, {saved}")
