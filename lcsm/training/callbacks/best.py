"""The best value of the monitored metric so far."""

from __future__ import annotations

import math
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Best(Callback):
    """Notes the monitored metric after every validation, for the callbacks that come after it.

    Args:
        monitor: name of the validation metric.
        mode: "min" or "max".
    Attributes:
        latest: value of the last validation, NaN before the first.
        value, step: best value and its step; NaN and None before the first.
        waited: validations since then.
        improved: whether the last validation was better than all before it.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor, self.mode = monitor, mode
        self.latest = math.nan
        self.improved = False
        self.forget()

    def forget(self) -> None:
        """Let the next validation be the best."""
        self.value, self.waited = math.nan, 0
        self.step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"latest": self.latest, "value": self.value, "step": self.step, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest, self.value, self.step, self.waited = (
            state_dict[key] for key in ("latest", "value", "step", "waited")
        )

    def better(self, value: float, than: float) -> bool:
        """Whether a value beats another one; anything beats NaN, and NaN beats nothing."""
        if math.isnan(value) or math.isnan(than):
            return math.isnan(than) and not math.isnan(value)
        return value < than if self.mode == "min" else value > than

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.latest = float(trainer.callback_metrics.get(self.monitor, math.nan))
        self.improved = self.better(self.latest, self.value)
        self.waited += 1
        if self.improved:
            self.value, self.step, self.waited = self.latest, trainer.global_step, 0
