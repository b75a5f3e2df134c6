"""Stops a run at the first loss or gradient that is not finite, before the optimiser uses it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lcsm.training.callbacks.progress_state import on_any_rank
from lcsm.training.errors import NonFiniteError

logger = logging.getLogger(__name__)

WAYS_OUT = "lower optim.lr, set trainer.gradient_clip_val, or find the operation with trainer.detect_anomaly=true"


class NonFiniteGuard(Callback):
    """Looks at the losses and gradients of a step after the backward pass, with one synchronisation of the device.

    Reports `train/gradient_norm`, the norm over all gradients of the loss per scored token, before clipping.

    Args:
        skips: how many updates in a row may be left out before the run stops; 0 stops at the first. A step that is
            left out changes neither weights nor the optimiser's state, and still counts as a step of the schedule.
        describe_good: says where the last good checkpoint lies.
    """

    def __init__(self, skips: int, describe_good: Callable[[], str]) -> None:
        self.skips = skips
        self.describe_good = describe_good
        self.skipped_in_a_row = 0
        self.losses: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        return {"skipped_in_a_row": self.skipped_in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped_in_a_row = state_dict["skipped_in_a_row"]

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        self.losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        pl_module.rescale_gradient(optimizer)
        named = [(name, p.grad) for name, p in pl_module.named_parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm([gradient for _, gradient in named]))
        losses = torch.stack(self.losses).float()
        self.losses = []
        norm = norms.float().norm()
        pl_module.step_metrics["train/gradient_norm"] = norm
        # with a gradient scaler an infinite gradient is part of its work: it lowers its scale and leaves the step out
        scaled = trainer.precision == "16-mixed"
        bad = not bool(losses.isfinite().all() if scaled else (losses.sum() + norm).isfinite())
        if not on_any_rank(trainer, bad):
            self.skipped_in_a_row = 0
            return
        step = trainer.global_step + 1
        what = describe(losses, [name for name, _ in named], norms)
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > self.skips:
            after = f" after {self.skips} updates left out in a row" if self.skips else ""
            raise NonFiniteError(f"step {step}: {what}{after}; nothing was updated\n{self.describe_good()}\n{WAYS_OUT}")
        logger.warning("step %d: %s; this update is left out (%d in a row)", step, what, self.skipped_in_a_row)
        for parameter in pl_module.parameters():
            parameter.grad = None


def describe(losses: Tensor, names: list[str], norms: Tensor) -> str:
    """The quantity that is not finite, in words."""
    if not bool(losses.isfinite().all()):
        return f"the loss is {float(losses[~losses.isfinite()][0])}"
    bad = [name.removeprefix("model.") for name, fine in zip(names, norms.isfinite().tolist(), strict=True) if not fine]
    if not bad:
        return "the gradient is not finite on another rank, or its norm overflows"
    more = f" and of {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"the gradient of {bad[0]}{more} is not finite"


def require_finite_weights(trainer: Trainer, last_good: str) -> None:
    """Refuse to save weights that are not finite.

    Raises:
        NonFiniteError: names the first such weight and where the last good checkpoint lies.
    """
    named = list(trainer.lightning_module.named_parameters())
    finite = torch.stack([torch.isfinite(parameter.detach()).all() for _, parameter in named]).tolist()
    bad = [name.removeprefix("model.") for (name, _), fine in zip(named, finite, strict=True) if not fine]
    if bad:
        raise NonFiniteError(
            f"step {trainer.global_step}: weight {bad[0]} is not finite after the update; it is not saved\n"
            f"{last_good}\n{WAYS_OUT}"
        )
