"""Noise of a step as a function of the seed and the step, so that a resumed run draws what the unbroken run drew."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from lightning import Callback, Trainer


def step_seed(seed: int, batch: int, rank: int) -> int:
    """A 63-bit seed for one batch on one rank.

    Args:
        seed: of the run.
        batch: index over all batches of the run, counting those of accumulation.
        rank: of the process.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}/{batch}/{rank}".encode(), digest_size=8).digest(), "big") >> 1


class StepSeed(Callback):
    """Seeds torch's default generators before every training batch.

    `Generator.manual_seed` takes microseconds; `torch.manual_seed` would take up to half a millisecond a step.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        seed = step_seed(self.seed, trainer.fit_loop.total_batch_idx, trainer.global_rank)
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)
        elif pl_module.device.type == "mps":
            torch.mps.manual_seed(seed)
