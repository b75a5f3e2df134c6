"""Classification: one label for a whole sequence."""

from __future__ import annotations

from torch import Tensor

from lcsm.batch import Batch, Sequences, Targets
from lcsm.structures import Context
from lcsm.tasks.base import Task, context_of, token_loss


class Classification(Task):
    """Cross entropy and accuracy over sequences.

    Metrics: `val/loss` in nats per sequence and `val/accuracy` in [0, 1], exact over the validation data.
    """

    monitor = "val/accuracy"
    mode = "max"
    targets: Targets = "sequence"

    def sequences(self, batch: Batch) -> tuple[Tensor, Tensor, Context | None]:
        """Inputs, mask and context of all sequences of a batch."""
        return parts(batch)

    def logits(self, batch: Batch) -> Tensor:
        """The model's prediction for a batch, [B classes]."""
        return self.model(*self.sequences(batch))

    def positions_in(self, batch: Batch) -> int:
        return batch["labels"].numel()

    def loss_sum(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return token_loss(self.logits(batch), batch["labels"])

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        logits = self.logits(batch)
        nats, count = token_loss(logits, batch["labels"])
        correct = (logits.argmax(-1) == batch["labels"]).sum()
        self.totals[dataloader_idx].add(nats=nats, count=count, correct=correct)

    def validation_metrics(self, index: int, totals: dict[str, float]) -> dict[str, float]:
        suffix, count = self.suffix(index), max(totals["count"], 1.0)
        return {f"val/loss{suffix}": totals["nats"] / count, f"val/accuracy{suffix}": totals["correct"] / count}


def parts(rows: Sequences) -> tuple[Tensor, Tensor, Context | None]:
    """Inputs, mask and context of some sequences."""
    return rows["tokens"] if "tokens" in rows else rows["inputs"], rows["mask"], context_of(rows)
