"""Groups of parameters: who decays, who has an own rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lcsm.config.locate import conf_directory, options
from lcsm.config.shipped import load
from lcsm.errors import UsageError
from lcsm.parameters import mark
from lcsm.training.parameter_groups import SHIPPED, build_optimiser, group_lines, group_table, parameter_groups
from tests.training.toy_run import toy_config


class Marked(nn.Module):
    """One parameter of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm([2, 4])
        self.decays = mark(nn.Parameter(torch.zeros(2, 4)), group="oscillation")
        self.angles = mark(nn.Parameter(torch.zeros(2, 4)), no_decay=False, group="oscillation")
        self.scale = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def names(**changes: Any) -> dict[str, set[str]]:
    """Names of the parameters by group."""
    config = toy_config(**changes)["optim"]
    return {group["name"]: set(group["parameter_names"]) for group in parameter_groups(Marked(), config)}


def test_only_unmarked_matrices_decay() -> None:
    groups = names(optim__groups={})
    assert groups["base"] == {"linear.weight"}
    assert groups["oscillation"] == {"angles"} and groups["oscillation_no_decay"] == {"decays"}
    assert groups["base_no_decay"] == {"embedding.weight", "linear.bias", "norm.weight", "norm.bias", "scale"}


def test_embeddings_decay_when_asked_and_a_tied_head_belongs_to_them() -> None:
    assert "embedding.weight" in names(optim__embedding_decay=True)["base"]


def test_a_group_has_its_own_rate_and_decay() -> None:
    config = toy_config(optim__groups={"oscillation": {"lr": 0.001, "weight_decay": 0.02}})["optim"]
    groups = {group["name"]: group for group in parameter_groups(Marked(), config)}
    assert groups["oscillation"]["lr"] == 0.001 and groups["oscillation"]["weight_decay"] == 0.02
    assert set(groups["oscillation"]["parameter_names"]) == {"angles", "decays"}
    assert groups["base"]["lr"] == 0.01 and groups["base"]["weight_decay"] == 0.1


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    model = Marked()
    rows = group_table(parameter_groups(model, toy_config()["optim"]))
    listed = [name for row in rows for name in row["parameters"]]
    assert sorted(listed) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    assert sum(row["count"] for row in rows) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_groups_are_logged_with_their_rates_and_parameters_of_all_layers_at_once() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(3)), "head": nn.Linear(2, 1)})
    lines = group_lines(parameter_groups(model, toy_config()["optim"]))
    assert lines == [
        "group base: lr 0.01, weight decay 0.1, 14 numbers: layers.*.weight, head.weight",
        "group base_no_decay: lr 0.01, weight decay 0, 7 numbers: layers.*.bias, head.bias",
    ]


def test_the_optimiser_is_fused_and_follows_the_schedule() -> None:
    model = nn.Linear(3, 3)
    optimiser, schedule = build_optimiser(toy_config())(model)
    assert all(group["fused"] for group in optimiser.param_groups)
    assert schedule.get_last_lr()[0] == pytest.approx(0.01 / 3)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(0.02 / 3)


@pytest.mark.parametrize(
    ("precision", "clip", "fused"),
    [("32-true", 1.0, True), ("bf16-mixed", None, True), ("bf16-mixed", 1.0, False), ("16-mixed", None, False)],
)
def test_gradients_are_unscaled_before_their_norm_is_taken(precision: str, clip: float | None, fused: bool) -> None:
    config = toy_config(trainer__precision=precision, trainer__gradient_clip_val=clip)
    optimiser, _ = build_optimiser(config)(nn.Linear(3, 3))
    assert {bool(group["fused"]) for group in optimiser.param_groups} == {fused}


@pytest.mark.parametrize(
    "key,value", [("lr", float("nan")), ("lr", -1.0), ("weight_decay", float("inf")), ("lr", None)]
)
def test_rates_must_be_finite_and_not_negative(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"optim.{key}="):
        build_optimiser(toy_config(**{f"optim__{key}": value}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim___target_": "torch.optim.Adam2"}, "not part of lcsm"),
        ({"optim___target_": "lcsm.training.schedules.Cosine"}, "subclass of torch.optim.optimizer.Optimizer"),
        ({"optim__beta": 0.9}, "AdamW.*beta"),
        ({"schedule___target_": "lcsm.training.schedules.Linear"}, "no class Linear"),
        ({"schedule___target_": "lcsm.errors.UsageError"}, "subclass of lcsm.training.schedules.Schedule"),
        ({"schedule__warm": 3}, "Cosine.*warm"),
    ],
)
def test_classes_and_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_optimiser(toy_config(**changes))(nn.Linear(1, 1))


def test_what_the_shipped_options_name_needs_no_leave() -> None:
    assert {load("optim", name)["_target_"] for name in options(conf_directory())["optim"]} == {*SHIPPED}


class Plain(torch.optim.Optimizer):
    """Gradient descent without weight decay."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})


def test_an_optimiser_without_weight_decay_is_not_given_any() -> None:
    name = f"{__name__}.Plain"
    optim = {"_target_": name, "lr": 0.1, "weight_decay": 0.1, "embedding_decay": False}
    with pytest.raises(UsageError, match=r"optim.weight_decay=0.1: Plain takes no weight decay"):
        build_optimiser(toy_config(optim=optim, allow_targets=[name]))(nn.Linear(1, 1))
    optimiser, _ = build_optimiser(toy_config(optim=optim | {"weight_decay": 0.0}, allow_targets=[name]))(
        nn.Linear(1, 1)
    )
    assert isinstance(optimiser, Plain)
