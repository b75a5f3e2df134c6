"""Two algorithms of one model train alike, through the command's own way from a configuration to a run."""

import csv
from pathlib import Path

import pytest

from lcsm.commands.train import train
from tests.compose import compose

TINY = (
    "task=mqar",
    "data.length=32",
    "data.vocab_size=32",
    "data.num_pairs=2",
    "data.num_val=64",
    "model.d_model=16",
    "mixer.state_dim=8",
    "logger=csv",
    "trainer.max_steps=50",
    "trainer.val_check_interval=50",
    "trainer.log_every_n_steps=1",
    "threads=1",
)


def losses(folder: Path, *words: str) -> list[float]:
    """The training loss of every step."""
    train(compose(*TINY, *words), folder, verbose=False)
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["s5", "ldnn", "ldnn_multihead", "lru"])
def test_convolution_and_lockstep_train_alike(model: str, tmp_path: Path):
    found = {
        name: losses(tmp_path / name, f"model={model}", f"mixer.algorithm={name}")
        for name in ("convolution", "lockstep")
    }
    assert len(found["lockstep"]) == 50 and found["lockstep"][-1] < found["lockstep"][0]
    assert found["convolution"] == pytest.approx(found["lockstep"], rel=1e-4)


@pytest.mark.compile
def test_a_compiled_model_trains_as_an_eager_one(tmp_path: Path):
    words = ("trainer.max_steps=2", "trainer.val_check_interval=2")
    eager, compiled = (losses(tmp_path / mode, *words, f"compile={mode}") for mode in ("false", "true"))
    assert compiled == pytest.approx(eager, rel=1e-5) and len(compiled) == 2
