"""Language modelling: predict the next token, also beyond the trained length."""

from __future__ import annotations

import math

from lcsm.batch import Batch
from lcsm.tasks.base import Task, token_loss

# exp of more nats than this is infinite in float32 and says nothing
LARGEST_LOSS = 80.0


class LanguageModelling(Task):
    """Next-token cross entropy, perplexity and bits per byte.

    Metrics of the first validation loader, exact over all its tokens: `val/loss` in nats per token, `val/perplexity`,
    and where batches carry `bytes` (the number of bytes that the scored tokens stand for) `val/bits_per_byte`. Further
    loaders, named by the data module (`2x`, `4x`, ... the trained length), report the same with their name behind:
    `val/loss_2x`.
    """

    monitor = "val/loss"
    mode = "min"
    predicts_next = True

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        nats, count = token_loss(self.logits(batch), batch["targets"])
        totals = self.totals[dataloader_idx]
        totals.add(nats=nats, count=count)
        if "bytes" in batch:
            totals.add(bytes=batch["bytes"].sum())

    def validation_metrics(self, index: int, totals: dict[str, float]) -> dict[str, float]:
        suffix = self.suffix(index)
        loss = totals["nats"] / max(totals["count"], 1.0)
        metrics = {f"val/loss{suffix}": loss, f"val/perplexity{suffix}": math.exp(min(loss, LARGEST_LOSS))}
        if totals.get("bytes"):
            metrics[f"val/bits_per_byte{suffix}"] = totals["nats"] / math.log(2) / totals["bytes"]
        return metrics
