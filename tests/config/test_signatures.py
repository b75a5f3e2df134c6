"""What is read of the classes that a configuration may name."""

import sys
from typing import TYPE_CHECKING, Any

import pytest

from lcsm.config.annotations import accepts
from lcsm.config.locate import conf_directory
from lcsm.config.shipped import load
from lcsm.config.signatures import Signature, names, of_object, of_target

if TYPE_CHECKING:
    from somewhere import Thing

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


@pytest.mark.parametrize("target", TARGETS)
def test_every_class_says_what_it_takes_and_of_which_kind(target: str):
    read = of_target(target)
    assert read is not None and not read.open
    assert Any not in read.fields.values()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "lcsm.nothing.Here",
        "lcsm.errors.Nothing",
        "lcsm.config...locate.PACKAGE",
        "lcsm.training.files.os.system",
        # of another package, or no class
        "lcsm.training.files.Path",
        "lcsm.config.signatures.names",
    ],
)
def test_what_is_no_class_of_ours_is_not_read(target: str):
    assert of_target(target) is None


def test_what_is_not_ours_is_not_imported(tmp_path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "not_ours.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert of_target("not_ours.Thing") is None and names("not_ours") == []
    assert "not_ours" not in sys.modules


def test_a_class_without_constructor_has_that_of_its_base():
    # Cosine inherits nothing of Constant, Constant everything of WarmUp
    inherited = of_target("lcsm.training.schedules.Constant")
    assert inherited == Signature({"warmup_steps": int}, frozenset({"warmup_steps"}))
    assert of_target("lcsm.stages.normaliser.Identity") == Signature()


def test_annotations_of_a_constructor_are_evaluated():
    class Own:
        def __init__(self, plain, size: "int | None" = None, **rest: Any) -> None: ...

    assert of_object(Own) == Signature({"plain": Any, "size": int | None}, frozenset({"plain"}), open=True)


def test_an_annotation_that_only_a_type_checker_knows_allows_everything():
    class Own:
        def __init__(self, thing: "Thing") -> None: ...

    assert accepts("anything", of_object(Own).fields["thing"])
