"""A tiny model, tiny data and a tiny configuration for tests of training."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lcsm.structures import Context
from lcsm.tasks.base import Task
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.training.parameter_groups import build_optimiser
from lcsm.training.run import fit
from lcsm.training.signals import StopSignals

VOCAB, LENGTH, BATCH = 11, 8, 4
COSINE = {"_target_": "lcsm.training.schedules.Cosine"}
CONSTANT = {"_target_": "lcsm.training.schedules.Constant", "warmup_steps": 0}
# rows of the batches of each validation loader
VALIDATION = ([[0, 1, 2, 3], [4, 5, 6]], [[7, 8]])


class ToyModel(nn.Module):
    """Embedding, dropout, recurrence, head."""

    def __init__(self, width: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, width)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.GRU(width, width, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCAB)

    def forward(self, tokens: Tensor, state: Any = None, context: Context | None = None) -> tuple[Tensor, Any]:
        x, state = self.hidden(tokens, state, context)
        return self.read_out(x), state

    def hidden(self, tokens: Tensor, state: Any = None, context: Context | None = None) -> tuple[Tensor, Any]:
        return self.mix(self.dropout(self.embedding(tokens)), state)

    def read_out(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x))


class ToyRows(Dataset):
    """Rows as a pure function of (split, index): tokens at equal distances; the first ones are not scored."""

    def __init__(self, split: int, poison: int | None = None) -> None:
        self.split = split
        self.poison = poison

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(1000003 * self.split + index)
        start, step = torch.randint(1, 5, (2,), generator=generator).tolist()
        row = (start + step * torch.arange(LENGTH + 1)) % VOCAB
        targets = row[1:].clone()
        targets[: int(torch.randint(0, 4, (), generator=generator))] = -100
        groups = {"pairs": torch.tensor(step)}
        return {"tokens": row[:-1], "targets": targets, "groups": groups, "bytes": (targets != -100).sum()}


class EndlessBatches:
    """Batches of global row indices from `first` on; each rank takes its share of every batch."""

    def __init__(self, first: int, rank: int = 0, world_size: int = 1) -> None:
        self.first = first
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        index = self.first
        while True:
            yield list(range(index * BATCH, (index + 1) * BATCH))[self.rank :: self.world_size]
            index += 1


class ToyData(LightningDataModule):
    """Two validation loaders and an endless training loader."""

    vocab_size = VOCAB
    val_names = ("1x", "2x")

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.first_batch = 0
        self.workers = workers

    def describe(self) -> dict[str, Any]:
        return {"rows": "endless"}

    def tokenizer_state(self) -> dict[str, Any]:
        return {"kind": "bytes"}

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(97 + token) for token in tokens)

    def train_dataloader(self) -> DataLoader:
        batches = EndlessBatches(self.first_batch, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(ToyRows(0), batch_sampler=batches, num_workers=self.workers)

    def val_dataloader(self) -> list[DataLoader]:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        batches = [[part[rank::ranks] for part in parts] for parts in VALIDATION]
        return [DataLoader(ToyRows(1), batch_sampler=indices) for indices in batches]


def toy_config(**changes: Any) -> dict[str, Any]:
    """A whole configuration; keys like `trainer__max_steps` change a nested value."""
    config: dict[str, Any] = {
        "seed": 1,
        "resume": None,
        "model": {"name": "toy", "d_model": 8, "num_layers": 1},
        "mixer": {"_target_": "toy.Mixer", "num_heads": 1},
        "optim": {
            "_target_": "torch.optim.AdamW", "lr": 1e-2, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1,
            "embedding_decay": False, "fused": True, "groups": {"oscillation": {"lr": None, "weight_decay": 0.0}},
        },
        "schedule": COSINE | {"warmup_steps": 3, "final_fraction": 0.1, "max_steps": 12},
        "trainer": {
            "accelerator": "cpu", "devices": 1, "max_steps": 12, "val_check_interval": 4, "limit_val_batches": None,
            "num_sanity_val_steps": 0, "log_every_n_steps": 1, "accumulate_grad_batches": 1, "gradient_clip_val": 1.0,
            "enable_progress_bar": False, "enable_model_summary": False,
        },
        "callbacks": {
            "checkpoint": {"every": 1}, "progress": False, "throughput": True, "learning_rates": True,
            "hyperparameters": True, "nonfinite_skips": 0, "ema": None, "stop_at": None, "patience": None,
            "figures": None, "samples": None,
        },
        "logger": {"tensorboard": False, "csv": True},
    }  # fmt: skip
    for key, value in changes.items():
        *path, last = key.split("__")
        node = config
        for part in path:
            node = node[part]
        node[last] = value
    return config


def toy_task(config: dict[str, Any], kind: type[Task] = LanguageModelling, width: int = 8) -> Task:
    """A task over a freshly initialised toy model."""
    torch.manual_seed(config["seed"])
    return kind(ToyModel(width), build_optimiser(config))


def toy_fit(
    run_dir: Path, config: dict[str, Any], kind: type[Task] = LanguageModelling, **kwargs: Any
) -> tuple[Task, dict]:
    """Train the toy task; the task and what `fit` returned."""
    task = toy_task(config, kind)
    return task, fit(task, ToyData(), config, run_dir, **kwargs)


class SlowToyModel(ToyModel):
    """Takes a while for each batch, and says so once it runs."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        import time

        time.sleep(0.01)
        return super().forward(*args, **kwargs)


def main() -> None:
    """`toy_run.py RUN_DIR JSON_OF_CHANGES DROPOUT`: a run in a process of its own, for tests with signals and kills."""
    from lcsm.training.errors import Interrupted

    torch.set_num_threads(1)
    with StopSignals() as signals:
        config = toy_config(**json.loads(sys.argv[2]))
        torch.manual_seed(config["seed"])
        task = LanguageModelling(SlowToyModel(dropout=float(sys.argv[3])), build_optimiser(config))
        try:
            fit(task, ToyData(), config, sys.argv[1], signals)
        except Interrupted as interrupted:
            sys.stderr.write(f"{interrupted}\n")
            sys.exit(interrupted.exit_code)


if __name__ == "__main__":
    main()
