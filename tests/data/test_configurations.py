"""Every data option of conf/ names a class and gives exactly its arguments."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from lcsm.data.base import BatchDataModule
from lcsm.data.sampling import Shard
from tests.data.helpers import TEXT

CONFIGURATIONS = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


def load(path: Path) -> tuple[type[BatchDataModule], dict[str, Any]]:
    settings = yaml.safe_load(path.read_text())
    module, name = settings.pop("_target_").rsplit(".", 1)
    return getattr(importlib.import_module(module), name), settings


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_keys_are_the_arguments_of_the_class(path: Path):
    kind, settings = load(path)
    arguments = inspect.signature(kind).parameters
    assert issubclass(kind, BatchDataModule)
    assert set(settings) == set(arguments)
    assert all(argument.default is inspect.Parameter.empty for argument in arguments.values())


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_every_value_has_a_comment_or_speaks_for_itself(path: Path):
    assert path.read_text().startswith("# ")
    lines = [line for line in path.read_text().splitlines()[1:] if "#" not in line]
    named = ("_target_", "dataset", "subset", "train_split", "val_split", "test_split", "text_column")
    assert all(line.startswith(named) for line in lines)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_the_settings_are_accepted(path: Path, tmp_path: Path):
    kind, settings = load(path)
    (tmp_path / "train.txt").write_text(TEXT)
    settings |= {"seed": 1} | ({"train_files": str(tmp_path / "train.txt")} if "train_files" in settings else {})
    module = kind(**settings)
    assert (module.length, module.loading.batch_size) == (settings.get("length", module.length), settings["batch_size"])


def test_the_default_recall_task_makes_a_batch():
    kind, settings = load(next(path for path in CONFIGURATIONS if path.stem == "mqar"))
    batch = kind(**(settings | {"seed": 1})).training_batches(Shard())[0]
    assert batch["tokens"].shape == (settings["batch_size"], settings["length"])
