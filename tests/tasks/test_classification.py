"""Classification and matching: exact metrics, padding that does not count, rates of groups, tasks that are learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.nn import functional

from lcsm.commands.assemble import build_datamodule, build_task
from lcsm.commands.check_model import check_combination
from lcsm.config.compose import make_plan
from lcsm.data.labelled.listops import ListOps
from lcsm.errors import UsageError
from lcsm.inspection import decay_spectrum, mixing_matrix
from lcsm.models.build import build_classifier
from lcsm.models.classifier import PairHead
from lcsm.tasks.classification import Classification
from lcsm.tasks.matching import Matching
from lcsm.training.parameter_groups import group_table, parameter_groups
from lcsm.training.run import evaluate
from tests.compose import CONF, compose
from tests.data.helpers import take
from tests.data.labelled_helpers import make_aan, make_listops

SMALL = ("model.d_model=16", "model.num_layers=1", "model.embedding_dropout=0", "trainer.accelerator=cpu")
SIZES = {
    "s5": ("mixer.state_dim=8", "mixer.reverse.shrink=own", "mixer.reverse.exclusive=false"),
    "s4d_legs": ("mixer.state_dim=4", "mixer.reverse.shrink=own"),
    "s4": ("mixer.state_dim=4", "mixer.reverse.shrink=own"),
    "ldnn_bidirectional": ("mixer.num_heads=4", "mixer.state_dim=2"),
    "attention": ("mixer.num_heads=2", "mixer.causal=false"),
    "lcsm": ("mixer.num_heads=2", "mixer.state_dim=4"),
}
LRA = sorted(f"lra/{path.parent.name}/{path.stem}" for path in (CONF / "experiment/lra").glob("*/*.yaml"))


def config(model: str, *words: str) -> dict[str, Any]:
    """A small classifier of expressions."""
    return compose("task=classification", "data=listops", f"model={model}", *SMALL, *SIZES[model], *words)


def classifier(model: str, data: ListOps, *words: str) -> Classification:
    task = build_task(config(model, *words), data).double().eval()
    assert isinstance(task, Classification)
    return task


@pytest.mark.parametrize(
    ("model", "block"),
    [
        *((model, "pre_norm") for model in SIZES),
        *(("s5", block) for block in ("pre_rms_norm", "pre_batch_norm", "post_batch_norm")),
    ],
)
def test_padding_does_not_change_the_prediction(model: str, block: str):
    data = make_listops()
    task = classifier(model, data, f"block={block}")
    batch = take(data.train_dataloader(), 1)[0]
    together = task.logits(batch)
    for row, length in enumerate(batch["mask"].sum(1).tolist()):
        alone = task.model(batch["tokens"][row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-6, atol=1e-8)


def test_accuracy_and_loss_are_means_over_all_sequences():
    data = make_listops()
    task = classifier("s5", data)
    metrics = evaluate(task, data, config("s5"))
    losses, hits = [], []
    task.requires_grad_(False)
    for batch in data.evaluation_batches("validation", data._shard())["1x"]:
        logits = task.logits(batch)
        losses.append(functional.cross_entropy(logits, batch["labels"], reduction="none"))
        hits.append(logits.argmax(-1) == batch["labels"])
    assert metrics["val/loss"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-6)
    assert metrics["val/accuracy"] == pytest.approx(float(torch.cat(hits).double().mean()), rel=1e-6)


class Gradients(Classification):
    """Keeps the gradients with which the optimiser would step."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        super().on_before_optimizer_step(optimizer)
        self.kept = [p.grad.clone() for p in self.model.parameters()]


def test_the_gradient_is_that_of_the_mean_over_sequences(tmp_path: Path):
    data = make_listops()
    task = classifier("s5", data)
    watched = Gradients(task.model, task.optimise)
    Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
    ).fit(watched, datamodule=data)  # fmt: skip
    reference = classifier("s5", make_listops())
    batch = take(make_listops().train_dataloader(), 1)[0]
    functional.cross_entropy(reference.logits(batch), batch["labels"]).backward()
    for kept, parameter in zip(watched.kept, reference.model.parameters(), strict=True):
        torch.testing.assert_close(kept, parameter.grad, rtol=1e-6, atol=1e-9)


def test_a_pair_is_judged_by_both_sequences_alone(tmp_path: Path):
    data = make_aan(tmp_path / "aan", batch_size=3)
    settings = compose("task=matching", "model=s5", *SMALL, *SIZES["s5"])
    task = build_task(settings, data).double().eval()
    assert isinstance(task, Matching)
    batch = take(data.train_dataloader(), 1)[0]
    first, second = (rows["tokens"][0, : rows["mask"][0].sum()] for rows in (batch, batch["other"]))
    alone = task.model.head(task.model.encode(first[None]), task.model.encode(second[None]))
    torch.testing.assert_close(task.logits(batch)[:1], alone, rtol=1e-6, atol=1e-8)


def test_the_pair_head_is_an_mlp_of_the_four_features():
    head, a, b = PairHead(3, 2).double(), torch.randn(5, 3).double(), torch.randn(5, 3).double()
    weights = {name: value for name, value in head.named_parameters()}
    features = torch.cat([a, b, a - b, a * b], 1)
    hidden = functional.gelu(features @ weights["join.weight"].T + weights["join.bias"])
    torch.testing.assert_close(head(a, b), hidden @ weights["decide.weight"].T + weights["decide.bias"])


def test_tied_dropout_drops_a_channel_in_the_whole_sequence():
    model = build_classifier(config("s5", "model.dropout=0.5", "block.tied_dropout=true"), 10, 17, None, "sequence")
    dropped = model.backbone.layers[0].dropout(torch.ones(4, 7, 16))
    assert ((dropped == 0) | (dropped == 2)).all() and (dropped == dropped[:, :1]).all()
    assert 0 < float((dropped == 0).double().mean()) < 1


def test_attention_without_causality_sees_the_future_and_refuses_to_stream():
    mixer = classifier("attention", make_listops()).model.backbone.layers[0].mixer
    x = torch.randn(1, 5, 16, dtype=torch.float64, requires_grad=True)
    outputs, _ = mixer(x)
    outputs[0, 0].sum().backward()
    assert x.grad is not None and (x.grad[0].abs().sum(-1) > 0).all()
    with pytest.raises(UsageError, match=r"set mixer.causal=true"):
        mixer(x, mixer.initial_state())


def test_figures_can_be_drawn_of_classifiers():
    data = make_listops()
    task, tokens = classifier("s5", data), torch.randint(2, 17, (1, 9))
    assert decay_spectrum(task.model, tokens)[0][1].max() <= 1
    assert mixing_matrix(task.model, 0, tokens).shape == (9, 9)
    matrix = mixing_matrix(classifier("attention", data).model, 0, tokens)
    np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("task=classification", "data=mqar"), "Classification learns from a label for each sequence, but Mqar"),
        (("task=lm", "data=listops"), "LanguageModelling learns from targets at every position, but ListOps"),
        (("task=classification", "data=aan"), "use task=matching for these data"),
    ],
)
def test_a_task_with_data_of_another_kind_is_refused(words: tuple[str, ...], message: str):
    with pytest.raises(UsageError, match=message):
        build_datamodule(compose(*words))


@pytest.mark.parametrize("name", LRA)
def test_published_settings_compose_and_build(name: str):
    settings = make_plan([f"experiment={name}"]).jobs[0].config
    check_combination(settings)
    data = build_datamodule(settings)
    assert settings["name"] == "lra_{}_{}".format(*name.split("/")[1:])
    assert settings["schedule"]["final_fraction"] == 0 and settings["trainer"]["gradient_clip_val"] is None
    assert data.vocab_size > 0 or data.num_features == 1


def rates(name: str) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter of one layer."""
    settings = make_plan([f"experiment={name}", "model.num_layers=1"]).jobs[0].config
    model = build_classifier(settings, 10, 17, None, "sequence")
    rows = group_table(parameter_groups(model, settings["optim"]))
    return {
        p.removeprefix("backbone.layers.0."): (row["lr"], row["weight_decay"])
        for row in rows
        for p in row["parameters"]
    }


def test_groups_of_parameters_have_the_published_rates():
    s5, path, s4, ldnn = (rates(f"lra/{name}") for name in ("listops/s5", "pathx/s5", "listops/s4", "imdb/ldnn"))
    assert s5["mixer.oscillation.log_step"] == s5["mixer.oscillation.real"] == (1e-3, 0.0)
    assert s5["mixer.expand.weight"] == s5["mixer.shrink.weight"] == s5["head.weight"] == (3e-3, 0.04)
    assert s5["mixer_norm.weight"] == s5["mixer.output.select.bias"] == (3e-3, 0.04)
    assert rates("lra/imdb/s5")["mixer.oscillation.log_step"] == (4e-3, 0.07)
    assert path["mixer.expand.weight"] == (6e-4, 0.06) and path["mixer.oscillation.real"] == (6e-4, 0.0)
    assert s4["mixer.oscillation.real"] == (1e-3, 0.0) and s4["mixer.oscillation.log_step"] == (1e-2, 0.0)
    assert s4["mixer.shrink.direction"] == s4["head.weight"] == (1e-2, 0.05)
    assert ldnn["mixer.expand.weight"] == ldnn["mixer.skip.weight"] == (1e-3, 0.0)
    assert ldnn["mixer.shrink.weight"] == (4e-3, 0.0) and ldnn["mixer.output.mix.weight"] == (4e-3, 0.07)


def test_a_pattern_that_is_no_list_is_refused():
    settings = config("s5")["optim"]
    groups = {"groups": {"steps": {"match": "*log_step"}}}
    with pytest.raises(UsageError, match=r"optim.groups.steps.match='\*log_step' must be a list of patterns"):
        parameter_groups(torch.nn.Linear(1, 1), settings | groups)


def trained(model: str, data: ListOps, steps: int, *words: str) -> Classification:
    """A classifier after some steps on one stream of batches."""
    task = build_task(config(model, *words), data)
    optimiser = task.configure_optimizers()["optimizer"]
    for batch in take(data.train_dataloader(), steps):
        nats, count = task.loss_sum(batch)
        optimiser.zero_grad()
        (nats / count).backward()
        optimiser.step()
    return task.eval()


def accuracy(task: Classification, data: ListOps) -> float:
    hits: list[Tensor] = []
    with torch.no_grad():
        for batch in data.val_dataloader()[0]:
            hits.append(task.logits(batch).argmax(-1) == batch["labels"])
    return float(torch.cat(hits).double().mean())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["s5", "s4d_legs", "ldnn_bidirectional", "attention"])
def test_flat_expressions_are_learnt(model: str):
    # lists of two to four digits without nesting; the most frequent value alone gives less than a quarter
    data = make_listops(max_depth=2, min_length=3, length=16, num_train=None, num_val=500, batch_size=64)
    task = trained(model, data, 600, "model.d_model=32", "optim.lr=5e-3", "schedule.warmup_steps=0")
    assert accuracy(task, data) > 0.5
