"""Turn the long convolutions of a checkpoint into recurrences of constant cost per token, with a report."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lcsm.commands.arguments import Option, read, refuse_rest, usage_text
from lcsm.commands.evaluate import ORIGIN
from lcsm.errors import UsageError

METHODS = ("auto", "etsc", "modal", "hybrid")
OPTIONS = {
    "ckpt": Option(str, "checkpoint of a language model, or the directory of its run", required=True),
    "method": Option(
        str,
        "etsc: every lag exactly, as many states as lags; modal: fewest modes; hybrid: exact first taps, then modes; "
        "auto: the least work within the tolerance",
        "auto",
        choices=METHODS,
    ),
    "tolerance": Option(float, "largest relative error of a kernel", 1e-4),
    "out": Option(str, "checkpoint to write; none writes recurrent.ckpt beside ckpt"),
    "lags": Option(int, "tokens for which the recurrence is to hold; none takes the lags that each memory holds"),
    "max_order": Option(int, "largest number of real states that modal and hybrid try", 256),
    "measure": Option(bool, "whether errors and perplexity are measured on the validation data", True),
    "threads": Option(int, "CPU threads of torch"),
    "allow_targets": Option(list, "your own classes that the checkpoint may name, e.g. [my_module.MyOscillation]"),
}
# what may differ from the run: the text on which errors are measured, and how much of it
OVERRIDABLE = ("data.", "trainer.", "paths.root")
EXAMPLES = (
    "lcsm convert ckpt=runs/tnn/2026-01-31_12-00-00-000000 tolerance=1e-3",
    "lcsm convert ckpt=best.ckpt method=hybrid out=small.ckpt data.val_files=my.txt trainer.limit_val_batches=20",
)
# rows of the validation data on which the outputs of layers are compared
COMPARED = 4


def usage(arguments: Sequence[str]) -> str:
    """The text of `--help`."""
    text = usage_text("convert", "Turn long convolutions into recurrences.", OPTIONS, EXAMPLES)
    return (
        f"{text}\nModels whose memory is a recurrence already (S4D, S5, GLA, Mamba, ...) need no conversion. "
        "For exact streams of any kernel, see lcsm generate stream=.\n"
        f"Errors are measured as lcsm evaluate measures. {ORIGIN}"
    )


def run(arguments: Sequence[str]) -> int:
    """Write the converted checkpoint and its report, and print the report."""
    options, rest = read("convert", arguments, OPTIONS)
    overrides = [word for word in rest if word.startswith(OVERRIDABLE) and "=" in word]
    refuse_rest("convert", [word for word in rest if word not in overrides], OPTIONS)
    if options["max_order"] < 1:
        raise UsageError(f"max_order={options['max_order']} must be at least 1")
    if not 0 < options["tolerance"] < 1:
        raise UsageError(f"tolerance={options['tolerance']} must lie between 0 and 1, e.g. 1e-4")
    if overrides and not options["measure"]:
        raise UsageError(f"{overrides[0]} is of no use with measure=false: leave one of them out")

    from lcsm.commands.checkpoint import load, load_model
    from lcsm.conversion.model import convert_model

    checkpoint = load(options["ckpt"], options["threads"], options["allow_targets"])
    out = target(options["out"], checkpoint.path)
    model = load_model(checkpoint)
    converted = convert_model(
        checkpoint.config, model, options["method"], options["tolerance"], options["lags"], options["max_order"]
    )
    batches, scores = measured(checkpoint, model, converted, overrides) if options["measure"] else ([], [])
    write(checkpoint, model, converted, batches, scores, options["tolerance"], out)
    return 0


def target(out: str | None, source: Path) -> Path:
    """The path of the converted checkpoint; refuses to write over its source, or where nothing can be written."""
    path = source.with_name("recurrent.ckpt") if out is None else Path(out)
    if path.is_dir():
        raise UsageError(f"out={path} is a directory: give a file, e.g. {path / 'recurrent.ckpt'}")
    if path.suffix != ".ckpt":
        raise UsageError(f"out={out} must end in .ckpt; the report takes its name with .md, .csv and .png")
    if path.exists() and path.samefile(source):
        raise UsageError(f"out={path} is the checkpoint that is converted: choose another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent):
            return path
    except OSError as error:
        raise UsageError(f"out={path}: {path.parent}: {error.strerror}; choose another folder") from error


def measured(checkpoint: Any, model: Any, converted: Any, overrides: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """Some held-out text, and the validation metrics before and after.

    Raises:
        UsageError: the data are not those of the checkpoint's vocabulary.
    """
    from lcsm.commands.assemble import build, build_data, prepare
    from lcsm.commands.evaluate import check_vocabulary
    from lcsm.commands.origin import scoring_config
    from lcsm.conversion.report import Score
    from lcsm.tasks.base import Task, context_of
    from lcsm.training.parameter_groups import build_optimiser
    from lcsm.training.run import evaluate

    config = scoring_config(checkpoint, overrides, "; measure=false needs no data")
    prepare(config)
    datamodule = build_data(config)
    check_vocabulary(datamodule, checkpoint)

    def metrics(of: Any) -> dict[str, float]:
        task = build("task", config, Task, model=of, optimise=build_optimiser(config))
        return evaluate(task, datamodule, config)

    before, after = metrics(model), metrics(converted.model)
    loaders = datamodule.val_dataloader()
    batch: Any = next(iter(loaders[0] if isinstance(loaders, (list, tuple)) else loaders))
    batch = {name: batch[name][:COMPARED] for name in ("tokens", "segments", "dt") if name in batch}
    model.eval(), converted.model.eval()
    scores = [Score(name, value, after[name]) for name, value in before.items()]
    return [(batch["tokens"], context_of(batch))], scores


def write(
    checkpoint: Any, model: Any, converted: Any, batches: list[Any], scores: list[Any], tolerance: float, out: Path
) -> None:
    """Checkpoint, tables and figure; the table is printed too."""
    from lcsm.conversion import report
    from lcsm.conversion.measure import rows as measure
    from lcsm.training.checkpoints import HEADER, MODEL_PREFIX, make_header, write_checkpoint
    from lcsm.training.files import write_atomically

    weights = converted.model.state_dict()
    header = make_header(
        config=converted.config,
        step=checkpoint.step,
        weights=weights,
        vocab_size=checkpoint.vocab_size,
        tokenizer=checkpoint.tokenizer,
        data=checkpoint.data,
        metrics={score.metric: score.after for score in scores} or checkpoint.metrics,
    )
    rows = measure(model, converted, batches)
    header["holds"] = report.holds(converted, rows)
    state = {MODEL_PREFIX + name: value.cpu() for name, value in weights.items()}
    text = report.markdown(converted, rows, scores, tolerance)
    files = {".md": text.encode(), ".csv": report.table(rows).encode(), ".png": report.figure(converted)}
    write_checkpoint({HEADER: header, "state_dict": state}, out)
    for suffix, content in files.items():
        write_atomically(out.with_suffix(suffix), partial(put, content))
    show(converted, rows, scores, tolerance, out)


def put(content: bytes, file: Any) -> None:
    """Write a file's content."""
    file.write(content)


def show(converted: Any, rows: list[Any], scores: list[Any], tolerance: float, out: Path) -> None:
    """The report on the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from lcsm.conversion import report

    console = Console()
    if not console.is_terminal:
        # a file has no width, and every number is wanted
        console.width = 120
    table = Table(*report.SHOWN, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        table.add_row(*report.cells(row))
    console.print(table)
    console.print(report.LEGEND, style="dim", highlight=False)
    console.print(report.promise(converted, rows), highlight=False)
    if missed := report.warning(rows, tolerance):
        console.print(missed, style="bold", highlight=False)
    for score in scores:
        sys.stdout.write(f"{score.metric}: {score.before:.6g} before, {score.after:.6g} after\n")
    beside = ", ".join(out.with_suffix(suffix).name for suffix in (".md", ".csv", ".png"))
    sys.stdout.write(f"written: {out}, and beside it {beside}\n")
