"""Losses and metrics of the tasks are exact, however tokens are spread over batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from lcsm.tasks.base import Task, token_loss
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.tasks.recall import Recall
from lcsm.training.run import evaluate
from tests.training.toy_run import (
    VALIDATION,
    EndlessBatches,
    ToyData,
    ToyModel,
    ToyRows,
    toy_config,
    toy_fit,
    toy_task,
)


def quiet_task(kind: type[Task]) -> Task:
    """A task without dropout, in float64."""
    task = toy_task(toy_config(), kind).double()
    task.model.dropout.p = 0.0
    return task


def scored(task: Task, loader: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, hits and groups of every scored position of a loader, one row at a time."""
    losses, hits, groups = [], [], []
    task.requires_grad_(False)
    for batch in loader:
        for row in range(len(batch["tokens"])):
            logits = task.model(batch["tokens"][row : row + 1])[0][0]
            keep = batch["targets"][row] != -100
            losses.append(functional.cross_entropy(logits[keep], batch["targets"][row][keep], reduction="none"))
            hits.append(logits[keep].argmax(-1) == batch["targets"][row][keep])
            groups.append(batch["groups"]["pairs"][row].expand(int(keep.sum())))
    return torch.cat(losses), torch.cat(hits), torch.cat(groups)


def loaders() -> list[DataLoader]:
    """The validation loaders of the toy data."""
    return [DataLoader(ToyRows(1), batch_sampler=batches) for batches in VALIDATION]


def test_perplexity_and_bits_per_byte_are_means_over_all_tokens() -> None:
    task = quiet_task(LanguageModelling)
    metrics = evaluate(task, ToyData(), toy_config())
    for suffix, loader in zip(("", "_2x"), loaders(), strict=True):
        losses, _, _ = scored(task, loader)
        bytes_seen = sum(int(batch["bytes"].sum()) for batch in loader)
        assert metrics[f"val/loss{suffix}"] == pytest.approx(float(losses.mean()), rel=1e-6)
        assert metrics[f"val/perplexity{suffix}"] == pytest.approx(math.exp(float(losses.mean())), rel=1e-6)
        expected = float(losses.sum()) / math.log(2) / bytes_seen
        assert metrics[f"val/bits_per_byte{suffix}"] == pytest.approx(expected, rel=1e-6)


def test_recall_reports_accuracy_by_number_of_pairs() -> None:
    task = quiet_task(Recall)
    metrics = evaluate(task, ToyData(), toy_config())
    losses, hits, groups = scored(task, loaders()[0])
    assert metrics["val/accuracy"] == pytest.approx(float(hits.double().mean()), rel=1e-6)
    assert metrics["val/loss"] == pytest.approx(float(losses.mean()), rel=1e-6)
    for pairs in groups.unique().tolist():
        expected = float(hits[groups == pairs].double().mean())
        assert metrics[f"val/accuracy_pairs{pairs}"] == pytest.approx(expected, rel=1e-6)


def test_recall_reports_accuracy_by_any_label_of_rows_or_positions() -> None:
    class LabelledRows(ToyRows):
        def __getitem__(self, index: int) -> dict[str, Any]:
            row = super().__getitem__(index)
            return row | {"groups": {"row": row["groups"]["pairs"], "place": torch.arange(len(row["tokens"]))}}

    class LabelledData(ToyData):
        def val_dataloader(self) -> list[DataLoader]:
            return [DataLoader(LabelledRows(1), batch_sampler=batches) for batches in VALIDATION]

    task = quiet_task(Recall)
    metrics = evaluate(task, LabelledData(), toy_config())
    hits: dict[int, list[bool]] = {}
    for batch in loaders()[0]:
        right = task.logits(batch).argmax(-1) == batch["targets"]
        for row, place in (batch["targets"] != -100).nonzero().tolist():
            hits.setdefault(place, []).append(bool(right[row, place]))
    for place, found in hits.items():
        assert metrics[f"val/accuracy_place{place}"] == pytest.approx(sum(found) / len(found), rel=1e-6)
    plain = evaluate(task, ToyData(), toy_config())
    assert {name: value for name, value in metrics.items() if "_place" not in name} == {
        name.replace("pairs", "row"): value for name, value in plain.items()
    }


def test_metrics_do_not_depend_on_how_rows_are_batched() -> None:
    class OneByOne(ToyData):
        def val_dataloader(self) -> list[DataLoader]:
            rows = [range(7), range(7, 9)]
            return [DataLoader(ToyRows(1), batch_sampler=[[row] for row in part]) for part in rows]

    for kind in (LanguageModelling, Recall):
        together = evaluate(quiet_task(kind), ToyData(), toy_config())
        assert evaluate(quiet_task(kind), OneByOne(), toy_config()) == pytest.approx(together, rel=1e-6)


class Gradients(LanguageModelling):
    """Keeps the gradients with which the optimiser would step."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        super().on_before_optimizer_step(optimizer)
        self.kept = [p.grad.clone() for p in self.model.parameters()]


def test_accumulated_batches_weigh_their_tokens_and_not_themselves(tmp_path: Path) -> None:
    task = quiet_task(Gradients)
    reference = quiet_task(Gradients)
    Trainer(
        accelerator="cpu", max_steps=1, accumulate_grad_batches=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
    ).fit(task, datamodule=ToyData())  # fmt: skip
    batches = EndlessBatches(0).__iter__()
    rows = [ToyRows(0)[index] for _ in range(3) for index in next(batches)]
    whole = {key: torch.stack([row[key] for row in rows]) for key in ("tokens", "targets")}
    nats, count = token_loss(reference.logits(whole), whole["targets"])
    assert int(count) < whole["targets"].numel()
    (nats / count).backward()
    expected = float(nats.detach() / count)
    for kept, parameter in zip(task.kept, reference.model.parameters(), strict=True):
        torch.testing.assert_close(kept, parameter.grad, rtol=1e-6, atol=1e-9)
    assert float(task.step_metrics["train/loss"]) == pytest.approx(expected, rel=1e-6)


def test_the_reported_gradient_norm_is_that_of_the_loss_per_scored_token(tmp_path: Path) -> None:
    config = toy_config(trainer__max_steps=1, trainer__accumulate_grad_batches=2, trainer__gradient_clip_val=1e-3)
    task, _ = toy_fit(tmp_path, config, Gradients)
    norm = torch.stack([gradient.norm() for gradient in task.kept]).norm()
    torch.testing.assert_close(task.step_metrics["train/gradient_norm"], norm)


@pytest.mark.parametrize("kind", [LanguageModelling, Recall])
def test_rescaling_the_gradient_reads_no_number_from_the_device(kind: type[Task]) -> None:
    task = toy_task(toy_config(), kind)
    task.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    batch = next(iter(loaders()[0]))
    task.training_step(batch, 0).backward()
    # reading a number of a tensor on the meta device is an error
    task.accumulated = [(nats.to("meta"), count.to("meta")) for nats, count in task.accumulated]
    for parameter in task.to("meta").parameters():
        parameter.grad = torch.empty_like(parameter)
    task.rescale_gradient(torch.optim.SGD(task.parameters()))
    assert task.accumulated == []


def test_recall_applies_the_head_to_the_scored_positions_only() -> None:
    task = quiet_task(Recall)
    batch = next(iter(loaders()[0]))
    keep = batch["targets"] != -100
    read: list[int] = []
    task.model.head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[:-1].numel()))
    logits, targets = task.scored(batch)
    assert read == [int(keep.sum())] and read[0] < keep.numel()
    torch.testing.assert_close(logits, task.logits(batch)[keep])
    assert torch.equal(targets, batch["targets"][keep])


def test_segments_reach_the_model() -> None:
    seen = []

    class Watching(ToyModel):
        def forward(self, tokens: Tensor, state: Any = None, context: Any = None) -> Any:
            seen.append(context)
            return super().forward(tokens, state)

    task = LanguageModelling(Watching(), lambda model: None)  # type: ignore[arg-type, return-value]
    tokens = torch.zeros(1, 8, dtype=torch.int64)
    task.logits({"tokens": tokens})
    task.logits({"tokens": tokens, "segments": tokens + 3})
    task.logits({"tokens": tokens, "dt": tokens / 2})
    assert seen[0] is None and torch.equal(seen[1].segments, tokens + 3)
    assert seen[2].segments is None and torch.equal(seen[2].dt, tokens / 2)


def test_a_batch_without_scored_positions_costs_nothing() -> None:
    for kind in (LanguageModelling, Recall):
        task = toy_task(toy_config(), kind).requires_grad_(False)
        batch = {"tokens": torch.zeros(2, 8, dtype=torch.int64), "targets": torch.full((2, 8), -100)}
        nats, count = task.loss_sum(batch)
        assert float(nats) == 0.0 and int(count) == 0
