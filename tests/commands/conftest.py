import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lcsm.cli import main
from tests.commands.helpers import TINY, run_directory, train


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Take the handlers away that a command adds: they write to what the test captured, which is closed later."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = [handler for handler in logging.root.handlers if handler in before]


@pytest.fixture(scope="package")
def recall_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished tiny recall run."""
    root = tmp_path_factory.mktemp("recall")
    assert train(root) == 0
    return run_directory(root)


@pytest.fixture(scope="package")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished tiny language model on a text of our own."""
    root = tmp_path_factory.mktemp("text")
    (root / "text.txt").write_text("Über den Wolken, sagt man, ist es still. " * 200, encoding="utf-8")
    words = ["task=lm", "data=text", f"data.train_files={root / 'text.txt'}", f"data.cache_dir={root / 'cache'}"]
    words += ["data.val_lengths=[1,2]", "callbacks.samples=null", f"paths.root={root / 'runs'}"]
    assert main(["train", *TINY, *words]) == 0
    return run_directory(root / "runs")
