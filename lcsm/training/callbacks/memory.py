"""The peak memory of a run, also where its process has run others before."""

from __future__ import annotations

import itertools
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

# Linux sets the largest resident size (VmHWM in the status) back to the present one where a 5 is written
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RUNS = itertools.count()


class PeakMemory(Callback):
    """Measures the largest memory from the start of training on.

    On CUDA what torch has allocated on the device, elsewhere the resident size of the process. Where the system does
    not set that back, it is the size since the process began, which only the first run of a process has for its own:
    later ones, such as the jobs of a sweep, have none.
    """

    def __init__(self) -> None:
        self.reset = self.alone = False

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.alone = next(RUNS) == 0
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        try:
            RESET.write_text("5")
            self.reset = True
        except OSError:
            self.reset = False

    def mib(self, device: torch.device) -> float | None:
        """The largest memory so far in MiB, None where it is not known."""
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated(device) / 2**20
        if self.reset:
            (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
            return int(line.split()[1]) / 2**10
        if not self.alone:
            return None
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / (2**20 if sys.platform == "darwin" else 2**10)
