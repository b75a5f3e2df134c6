"""A run that takes a second, and the command line inside this process."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lcsm.cli import main

TINY = (
    "model.d_model=16",
    "mixer.state_dim=8",
    "data.length=16",
    "data.batch_size=8",
    "trainer.max_steps=4",
    "trainer.val_check_interval=2",
    "schedule.warmup_steps=1",
    "callbacks.figures=null",
    "callbacks.progress=false",
    "logger.tensorboard=false",
)
RECALL = ("data.num_pairs=2", "data.vocab_size=32", "data.num_val=16")


def train(root: Path, *words: str) -> int:
    """Train a tiny model for recall below `root`; the exit status."""
    return main(["train", *TINY, *RECALL, f"paths.root={root}", *words])


def run_directory(root: Path) -> Path:
    """The only run below `root`."""
    (found,) = [path.parent for path in root.glob("*/*/end.json")]
    return found


def records(root: Path) -> list[dict[str, Any]]:
    """The records of the only sweep below `root`, by number."""
    found = [json.loads(path.read_text()) for path in root.glob("sweeps/*/*/job.json")]
    return sorted(found, key=lambda record: record["number"])


def changed(source: Path, target: Path, **settings: Any) -> Path:
    """A copy of a checkpoint with other settings in the configuration that it holds; `data__length` is data.length."""
    content = torch.load(source, weights_only=True)
    config = json.loads(content["lcsm"]["config"])
    for key, value in settings.items():
        *path, last = key.split("__")
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    content["lcsm"]["config"] = json.dumps(config)
    torch.save(content, target)
    return target


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Status, output and errors of a command."""
    capsys.readouterr()
    status = main(list(words))
    output = capsys.readouterr()
    return status, output.out, output.err
