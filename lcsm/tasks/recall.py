"""Recall: predict the value that was stored under a key earlier in the sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lcsm.batch import NOT_SCORED, Batch
from lcsm.tasks.base import Task, context_of, token_loss

if TYPE_CHECKING:
    from lcsm.models.language_model import LanguageModel


class Recall(Task):
    """Cross entropy and accuracy on the scored positions, overall and by the labels that batches carry.

    Metrics: `val/loss` in nats, `val/accuracy` in [0, 1] over all scored positions, and `val/accuracy_<name><n>` over
    those whose label under `groups` is n, such as the number of stored pairs.
    """

    model: LanguageModel
    monitor = "val/accuracy"
    mode = "max"
    predicts_next = True
    stop_at = 0.995

    def scored(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [K V] and targets [K] of the K scored positions.

        Most positions of a recall task are not scored; the head is applied to the others only.
        """
        places = batch["targets"] != NOT_SCORED
        hidden = self.model.hidden(batch["tokens"], context=context_of(batch))[0]
        return self.model.read_out(hidden[places]), batch["targets"][places]

    def loss_sum(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, targets = self.scored(batch)
        return token_loss(logits, targets)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        logits, targets = self.scored(batch)
        nats, count = token_loss(logits, targets)
        correct = logits.argmax(-1) == targets
        totals = self.totals[dataloader_idx]
        totals.add(nats=nats, count=count, correct=correct.sum())
        places = batch["targets"] != NOT_SCORED
        for name, labels in batch.get("groups", {}).items():
            # a label of a whole row is one of all its positions
            of_scored = (labels if labels.ndim == 2 else labels[:, None].expand_as(places))[places]
            for label in of_scored.unique().tolist():
                of_label = of_scored == label
                totals.add(
                    **{f"count_{name}{label}": of_label.sum(), f"correct_{name}{label}": correct[of_label].sum()}
                )

    def validation_metrics(self, index: int, totals: dict[str, float]) -> dict[str, float]:
        suffix = self.suffix(index)
        count = max(totals["count"], 1.0)
        metrics = {f"val/loss{suffix}": totals["nats"] / count, f"val/accuracy{suffix}": totals["correct"] / count}
        groups = [name.removeprefix("count_") for name in totals if name.startswith("count_")]
        # by name, then by number
        for group in sorted(groups, key=lambda group: (group.rstrip("0123456789"), len(group), group)):
            share = totals[f"correct_{group}"] / totals[f"count_{group}"]
            metrics[f"val/accuracy_{group}{suffix}"] = share
        return metrics
