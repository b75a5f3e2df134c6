"""The progress of a run for the person in front of it."""

from __future__ import annotations

import logging
from typing import Any

from lightning import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lcsm.training.callbacks.progress_state import is_log_step, step_ended

logger = logging.getLogger(__name__)

# of the further validation loaders, one number for what three say
SAME_AS_PERPLEXITY = ("val/loss_", "val/bits_per_byte_")


class ProgressBar(Callback):
    """A bar over the steps with loss, metric, tokens per second and the time that is left.

    On a terminal the bar stays at the bottom and validations are printed above it; elsewhere validations are logged,
    one line each.

    Args:
        monitor: name of the validation metric that the bar shows.
        drawn: whether there is a bar on a terminal; without it validations are logged there too.
        console: where to draw; None draws on standard error.
    """

    def __init__(self, monitor: str, drawn: bool = True, console: Console | None = None) -> None:
        self.monitor = monitor
        self.drawn = drawn
        self.console = console or Console(stderr=True)
        self.bar: Progress | None = None
        self.shown: dict[str, Any] = {"loss": "", "metric": "", "speed": ""}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if not (self.drawn and trainer.is_global_zero and self.console.is_terminal):
            return
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}{task.fields[metric]}{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=4,
        )
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self.bar.add_task("training", total=total, completed=trainer.global_step, **self.shown)
        self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.bar is None or not step_ended(trainer):
            return
        if is_log_step(trainer, trainer.global_step):
            metrics = pl_module.step_metrics
            self.shown["loss"] = f"loss {float(metrics['train/loss']):.4g}"
            if "speed/tokens_per_second" in metrics:
                self.shown["speed"] = f"  {float(metrics['speed/tokens_per_second']):,.0f} tokens/s"
        self.bar.update(self.bar.task_ids[0], completed=trainer.global_step, **self.shown)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        if self.monitor in metrics:
            self.shown["metric"] = f"  {self.monitor} {float(metrics[self.monitor]):.4g}"
        shown = [name for name in metrics if not name.startswith(SAME_AS_PERPLEXITY)]
        ordered = sorted(shown, key=lambda name: (name != self.monitor, name))
        line = "  ".join(f"{name.removeprefix('val/')} {float(metrics[name]):.4g}" for name in ordered)
        line = f"step {trainer.global_step}/{trainer.max_steps}  {line}"
        if self.bar is None:
            logger.info(line)
        else:
            self.bar.console.print(line, highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it is and give the terminal back."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
