"""Measure a checkpoint on the validation or test data of its run, or on other data."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from lcsm.commands.arguments import Option, read, refuse_rest, usage_text
from lcsm.errors import UsageError

OPTIONS = {
    "ckpt": Option(str, "checkpoint, or the directory of its run", required=True),
    "split": Option(str, "data to score; a run never reads its test split", "val", choices=("val", "test")),
    "format": Option(str, "how to print", "table", choices=("table", "json")),
    "threads": Option(int, "CPU threads of torch"),
    "allow_targets": Option(list, "your own classes that the checkpoint may name, e.g. [my_module.MyOscillation]"),
}
# what may differ from the run: the data, and how much of it is computed how
OVERRIDABLE = ("data.", "trainer.", "paths.root")
ORIGIN = """data.KEY=value and trainer.KEY=value change settings, e.g. data.val_files=my.txt
A run below paths.root counts as your own. Of a checkpoint from elsewhere the model, numbers and choices are taken;
files, data sets and patterns of its data must be said again. Devices are those of this command, not of the run.
"""
EXAMPLES = (
    "lcsm evaluate ckpt=runs/lcsm/2026-01-31_12-00-00-000000",
    "lcsm evaluate ckpt=best.ckpt split=test",
    "lcsm evaluate ckpt=best.ckpt data.val_lengths=[1,4,16] trainer.limit_val_batches=20 --format json",
)


def usage(arguments: Sequence[str]) -> str:
    """The text of `--help`."""
    text = usage_text("evaluate", "Measure a checkpoint on validation or test data.", OPTIONS, EXAMPLES)
    return f"{text}\n{ORIGIN}"


def run(arguments: Sequence[str]) -> int:
    """Print the metrics of a checkpoint."""
    options, rest = read("evaluate", arguments, OPTIONS)
    overrides = [word for word in rest if word.startswith(OVERRIDABLE) and "=" in word]
    unknown = [word for word in rest if word not in overrides]
    refuse_rest("evaluate", unknown, OPTIONS, "; and data.KEY=..., trainer.KEY=..., paths.root=...")

    from lcsm.commands.checkpoint import load, of_its_version, require_fit
    from lcsm.commands.origin import scoring_config

    checkpoint = load(options["ckpt"], options["threads"], options["allow_targets"])
    with of_its_version(checkpoint):
        config = scoring_config(checkpoint, overrides)

    from lcsm.commands.assemble import build_data, build_task, prepare
    from lcsm.commands.check_model import check_learning
    from lcsm.training.checkpoints import load_weights
    from lcsm.training.rank import is_first_rank
    from lcsm.training.run import evaluate

    check_learning(config)
    prepare(config | {"threads": options["threads"] or config["threads"]})
    datamodule = build_data(config)
    check_vocabulary(datamodule, checkpoint)
    require_fit(checkpoint, config, datamodule.vocab_size, datamodule.describe())
    if options["split"] == "test":
        score_test(datamodule)
    task = build_task(config, datamodule)
    load_weights(task.model, checkpoint)
    measured = evaluate(task, datamodule, config)
    metrics = {name.replace("val/", f"{options['split']}/", 1): value for name, value in measured.items()}
    # of several devices, each runs the whole command
    if is_first_rank():
        write(options, checkpoint.step, metrics)
    return 0


def score_test(datamodule: Any) -> None:
    """Let the loaders of an evaluation read the test split.

    Raises:
        UsageError: these data have none.
    """
    from lcsm.data.base import BatchDataModule
    from lcsm.data.sampling import Shard

    if not isinstance(datamodule, BatchDataModule):
        raise UsageError(
            f"split=test: {type(datamodule).__name__} is no BatchDataModule, whose splits are known; score split=val"
        )
    datamodule.scored_split = "test"
    # says what is missing before a model is built
    datamodule.evaluation_batches("test", Shard())


def check_vocabulary(datamodule: Any, checkpoint: Any) -> None:
    """Refuse data whose tokens mean something else to the model of a checkpoint."""
    from lcsm.training.resume import tokenizer_state

    if datamodule.vocab_size != checkpoint.vocab_size or tokenizer_state(datamodule) != checkpoint.tokenizer:
        raise UsageError(
            f"the data have another vocabulary ({datamodule.vocab_size}) than {checkpoint.path} "
            f"({checkpoint.vocab_size}): its tokens would mean something else\nuse the tokenizer and data of its run"
        )


def write(options: dict[str, Any], step: int, metrics: dict[str, float]) -> None:
    """The metrics as a table, or as one line of JSON."""
    if options["format"] == "json":
        sys.stdout.write(
            json.dumps({"checkpoint": options["ckpt"], "step": step, "split": options["split"], **metrics}) + "\n"
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{options['ckpt']}, step {step}, split {options['split']}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.5g}")
    Console().print(table)
