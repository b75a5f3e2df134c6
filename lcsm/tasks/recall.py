"""Recall: predict the value that was stored under a key earlier in the sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lcsm.tasks.base import IGNORED, Batch, Task, context_of, token_loss

if TYPE_CHECKING:
    from lcsm.models.language_model import LanguageModel


class Recall(Task):
    """Cross entropy and accuracy on the scored positions, overall and per number of stored pairs.

    Metrics: `val/loss` in nats, `val/accuracy` in [0, 1] over all scored positions, and where batches carry `group` [B]
    `val/accuracy_pairs<n>` for each group n.
    """

    model: LanguageModel
    monitor = "val/accuracy"
    mode = "max"
    predicts_next = True
    stop_at = 0.995

    def scored(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [K V] and targets [K] of the K scored positions, and the row of each, [K].

        Most positions of a recall task are not scored; the head is applied to the others only.
        """
        rows, columns = (batch["targets"] != IGNORED).nonzero(as_tuple=True)
        hidden = self.model.hidden(batch["tokens"], context=context_of(batch))[0]
        return self.model.read_out(hidden[rows, columns]), batch["targets"][rows, columns], rows

    def loss_sum(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, targets, _ = self.scored(batch)
        return token_loss(logits, targets)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        logits, targets, rows = self.scored(batch)
        nats, count = token_loss(logits, targets)
        correct = logits.argmax(-1) == targets
        totals = self.totals[dataloader_idx]
        totals.add(nats=nats, count=count, correct=correct.sum())
        if "group" in batch:
            groups = batch["group"][rows]
            for pairs in groups.unique().tolist():
                of_group = groups == pairs
                totals.add(
                    **{f"count_pairs{pairs}": of_group.sum(), f"correct_pairs{pairs}": (correct & of_group).sum()}
                )

    def validation_metrics(self, index: int, totals: dict[str, float]) -> dict[str, float]:
        suffix = self.suffix(index)
        count = max(totals["count"], 1.0)
        metrics = {f"val/loss{suffix}": totals["nats"] / count, f"val/accuracy{suffix}": totals["correct"] / count}
        pairs = sorted(int(name.removeprefix("count_pairs")) for name in totals if name.startswith("count_pairs"))
        for number in pairs:
            share = totals[f"correct_pairs{number}"] / totals[f"count_pairs{number}"]
            metrics[f"val/accuracy_pairs{number}{suffix}"] = share
        return metrics
