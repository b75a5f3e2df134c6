import inspect
from importlib import import_module
from typing import Any

import pytest

from lcsm.config.annotations import words
from lcsm.config.locate import conf_directory
from lcsm.config.shipped import load
from lcsm.config.signatures import of_object, of_source

TARGETS = sorted(
    {
        target
        for path in conf_directory().glob("*/*.yaml")
        if path.parent.name not in ("hydra", "experiment")
        for node in [load(path.parent.name, path.stem)]
        for target in [node.get("_target_") or (node.get("task") or {}).get("_target_")]
        if target and target.startswith("lcsm.")
    }
)


def imported(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_gives_the_signature_of_the_class(target: str):
    read = of_source(target)
    assert read is not None
    parameters = inspect.signature(imported(target)).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if read.fields:
        assert list(read.fields) == [p.name for p in named]
        assert read.required == {p.name for p in named if p.default is p.empty}
    else:
        # a class without a constructor shows the one of torch.nn.Module, which takes nothing
        assert not [p for p in named if p.default is p.empty]


@pytest.mark.parametrize("target", TARGETS)
def test_source_and_object_agree_on_annotations(target: str):
    read, live = of_source(target), of_object(imported(target))
    assert read is not None
    known = {name: rule for name, rule in read.fields.items() if rule is not Any}
    assert {name: words(live.fields[name]) for name in known} == {name: words(rule) for name, rule in known.items()}


def test_what_is_not_ours_is_not_read():
    assert of_source("os.system") is None
    assert of_source("lcsm.nothing.Here") is None
    assert of_source("lcsm.config...locate.PACKAGE") is None


def test_a_class_without_constructor_has_that_of_its_base():
    # Cosine inherits nothing of Constant, Constant everything of WarmUp
    inherited = of_source("lcsm.training.schedules.Constant")
    assert inherited is not None and list(inherited.fields) == ["warmup_steps"]
