"""Throughput and memory of a run, reported beside every score."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import Callback, Trainer

from lcsm.training.callbacks.memory import PeakMemory
from lcsm.training.callbacks.progress_state import is_log_step, step_ended


class Throughput(Callback):
    """Reports `speed/tokens_per_second`, `speed/step_seconds` and `memory/peak_mib` at every log step.

    Time is counted from the end of one batch to the end of the next, so waiting for data is in it; validations and
    saves are not. The first batch of a session is left out of the total: it allocates and compiles.

    Args:
        memory: measures the peak memory of the run.
    Attributes:
        tokens, seconds: totals of the run over all its sessions, on all ranks.
    """

    def __init__(self, memory: PeakMemory) -> None:
        self.memory = memory
        self.tokens = 0
        self.seconds = 0.0
        self.window = [0, 0.0, 0]
        self.mark = 0.0
        self.unbroken = False
        self.first = True

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.seconds = state_dict["tokens"], state_dict["seconds"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.unbroken:
            self.mark = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        ended = step_ended(trainer)
        step = trainer.global_step
        if ended and is_log_step(trainer, step) and pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        spent, tokens = now - self.mark, positions(batch) * trainer.world_size
        self.mark, self.unbroken = now, True
        if self.first:
            self.first = False
        else:
            self.tokens += tokens
            self.seconds += spent
        self.window = [self.window[0] + tokens, self.window[1] + spent, self.window[2] + int(ended)]
        if ended and is_log_step(trainer, step):
            tokens_seen, seconds, steps = self.window
            pl_module.step_metrics["speed/tokens_per_second"] = tokens_seen / seconds
            pl_module.step_metrics["speed/step_seconds"] = seconds / max(steps, 1)
            if (peak := self.memory.mib(pl_module.device)) is not None:
                pl_module.step_metrics["memory/peak_mib"] = peak
            self.window = [0, 0.0, 0]

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.unbroken = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.unbroken = False

    @property
    def tokens_per_second(self) -> float | None:
        """Mean over the run without validations and saves, None before the second batch."""
        return self.tokens / self.seconds if self.seconds else None


def positions(batch: Any) -> int:
    """Positions of a batch: tokens, or vectors where the inputs are such; of both sequences where they are pairs."""
    if "mask" in batch:
        return batch["mask"].numel() + (batch["other_mask"].numel() if "other_mask" in batch else 0)
    return batch["tokens"].numel()
