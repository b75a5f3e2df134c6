"""The base of all tasks: a loss that weighs tokens equally, and exact means over a validation loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lcsm.batch import NOT_SCORED, Batch, Sequences, Targets
from lcsm.structures import Context

Optimise = Callable[[nn.Module], tuple[Optimizer, LRScheduler]]


def token_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy summed over the scored positions, in float32, and their number.

    Args:
        logits: [... V].
        targets: class of every position, [...]; -100 is not scored.
    Returns:
        The sum in nats and the number of scored positions (int64), both scalars.
    """
    classes = logits.shape[-1]
    flat = targets.reshape(-1)
    nats = functional.cross_entropy(logits.reshape(-1, classes).float(), flat, ignore_index=NOT_SCORED, reduction="sum")
    return nats, (flat != NOT_SCORED).sum()


def context_of(rows: Sequences) -> Context | None:
    """Document ids and step lengths of some sequences; None where they have neither."""
    segments, dt = rows.get("segments"), rows.get("dt")
    return None if segments is None and dt is None else Context(segments=segments, dt=dt)


class Totals:
    """Sums by name over a validation loader, in double precision on the host, added over ranks when they are read."""

    def __init__(self) -> None:
        self.values: defaultdict[str, float] = defaultdict(float)

    def add(self, **amounts: Tensor | float) -> None:
        for name, amount in amounts.items():
            self.values[name] += float(amount)

    def over_ranks(self, world_size: int) -> dict[str, float]:
        """The sums of all ranks."""
        if world_size == 1:
            return dict(self.values)
        parts: list[dict[str, float]] = [{} for _ in range(world_size)]
        torch.distributed.all_gather_object(parts, dict(self.values))
        totals: Counter[str] = Counter()
        for part in parts:
            totals.update(part)
        return dict(totals)


class Task(LightningModule, ABC):
    """A model, its optimiser and a token-level cross entropy.

    The gradient of a step is that of (sum of the losses) / (number of scored tokens) over all accumulated batches and
    all ranks: each batch is divided by its fixed number of positions, and the gradient is rescaled once before the
    optimiser's step by the number of positions that were really scored. Batches of a run therefore need one fixed
    size.

    Args:
        model: `forward(tokens [B L], state=None, context=None) -> (logits [B L V], state)`, composed of
            `hidden(tokens, state, context) -> (x [B L D], state)` and `read_out(x [... D]) -> logits [... V]`.
        optimise: makes the optimiser and the schedule of a model.
    Attributes:
        monitor, mode: the validation metric that decides which checkpoint is best, and its direction.
        stop_at: value of the metric at which training may stop, None for never.
        targets: what the task learns from.
        predicts_next: whether the targets are later tokens, which the model must not see.
        step_metrics: what the present step has to report; callbacks add to it and a recorder writes it.
    """

    monitor = "val/loss"
    mode = "min"
    stop_at: float | None = None
    targets: Targets = "positions"
    predicts_next = False

    def __init__(self, model: nn.Module, optimise: Optimise) -> None:
        super().__init__()
        self.model = model
        self.optimise = optimise
        self.step_metrics: dict[str, Tensor | float] = {}
        self.positions = 0
        # of every batch since the last step: sum of the losses in nats, scored positions
        self.accumulated: list[tuple[Tensor, Tensor]] = []

    def logits(self, batch: Batch) -> Tensor:
        """The model's prediction for a batch, [B L V]."""
        return self.model(batch["tokens"], context=context_of(batch))[0]

    def loss_sum(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss summed over the scored positions in nats, and their number."""
        return token_loss(self.logits(batch), batch["targets"])

    def positions_in(self, batch: Batch) -> int:
        """Number of positions of a batch, scored or not."""
        return batch["targets"].numel()

    def configure_optimizers(self) -> Any:
        optimiser, schedule = self.optimise(self.model)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        nats, count = self.loss_sum(batch)
        self.accumulated.append((nats.detach(), count))
        self.positions = self.positions_in(batch)
        return nats / self.positions

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.rescale_gradient(optimizer)

    def rescale_gradient(self, optimizer: Optimizer) -> None:
        """Rescale the gradient from "per position" to "per scored token" and report the loss of the step.

        Hooks of callbacks run before those of the task, so a callback that looks at the gradient of the step calls this
        first; a second call in the same step changes nothing.
        """
        if not self.accumulated:
            return
        nats, counts = (torch.stack(part).sum() for part in zip(*self.accumulated, strict=True))
        self.accumulated = []
        sums = torch.stack([nats, counts.to(nats.dtype)])
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        # stays on the device: reading the number would wait for the whole step
        scored = sums[1].clamp_min(1)
        self.step_metrics["train/loss"] = sums[0] / scored
        # Lightning divides by its accumulation factor and averages over ranks; both are undone here
        positions = self.positions * self.trainer.accumulate_grad_batches * self.trainer.world_size
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, positions / scored)

    def on_validation_epoch_start(self) -> None:
        self.totals: dict[int, Totals] = defaultdict(Totals)

    def on_validation_epoch_end(self) -> None:
        metrics: dict[str, float] = {}
        for index in sorted(self.totals):
            metrics |= self.validation_metrics(index, self.totals[index].over_ranks(self.trainer.world_size))
        # the recorder writes them at the number of finished steps; Lightning would count batches
        self.log_dict(metrics, logger=False)

    def suffix(self, index: int) -> str:
        """The suffix of a loader's metrics: none for the first loader, else `_<name of the loader>`."""
        return f"_{self.trainer.datamodule.val_names[index]}" if index else ""  # type: ignore[attr-defined]

    @abstractmethod
    def validation_metrics(self, index: int, totals: dict[str, float]) -> dict[str, float]:
        """The metrics of one validation loader from its sums."""
