"""Loggers: TensorBoard events, and a CSV table of metrics."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lcsm.errors import UsageError, first_line, shortened
from lcsm.training.files import copy_atomically, write_atomically
from lcsm.training.rank import is_first_rank

log = logging.getLogger(__name__)
STEP = re.compile(r"[0-9]{1,18}")

EVENTS, TABLE = "tb", "metrics.csv"


class Enduring(Logger):
    """A logger without which the run goes on where its file cannot be written, such as on a full disk.

    Attributes:
        failed: whether a write has failed; said once, at the first.
    """

    failed = False

    def attempt(self, place: Path, write: Callable[[], Any]) -> bool:
        """Write to a place, and return whether that worked."""
        try:
            write()
        except OSError as error:
            if not self.failed:
                log.warning("%s cannot be written: %s; the run goes on without it", place, error.strerror)
            self.failed = True
            return False
        return True


class Events(Enduring, TensorBoardLogger):
    """TensorBoard events; none are written any more after the first that could not be written.

    Args:
        run_dir: they go to `tb/` in it.
        resume_step: those of earlier files after this step are hidden; None in a new run.
    Attributes:
        continued: whether there are earlier files.
    """

    def __init__(self, run_dir: Path, resume_step: int | None) -> None:
        purge: dict[str, Any] = {} if resume_step is None else {"purge_step": resume_step + 1}
        super().__init__(save_dir=run_dir, name=EVENTS, version="", default_hp_metric=False, **purge)
        self.continued = resume_step is not None and any((run_dir / EVENTS).glob("events.*"))

    @property
    def experiment(self) -> Any:
        """The writer of events; None where its file cannot be made, or has failed."""
        found: list[Any] = []
        self.unless_failed(lambda: found.append(super(Events, self).experiment))
        return found[0] if found else None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.add("scalar", name, value, step)

    def add_row(self, settings: dict[str, Any], scores: dict[str, float], step: int, first: Collection[str]) -> None:
        """Add a row to the hparams table: settings, and scores, of which only those that are known become points.

        Args:
            settings: column -> value.
            scores: column -> value, NaN for what is not known yet.
            step: of the points.
            first: columns that stand before the others: TensorBoard shows the first five alone.
        """
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from torch.utils.tensorboard.summary import hparams

        def write() -> None:
            columns, *row = hparams(settings, scores)
            content = columns.value[0].metadata.plugin_data
            data = HParamsPluginData.FromString(content.content)
            for column in data.experiment.hparam_infos:
                column.differs = column.name in first
            content.content = data.SerializeToString()
            for part in (columns, *row):
                self.experiment._get_file_writer().add_summary(part, step)

        self.unless_failed(write)
        self.log_metrics({name: value for name, value in scores.items() if not math.isnan(value)}, step)

    def add(self, kind: str, name: str, value: Any, step: int | None) -> None:
        """Add a "scalar", "figure" or "text"."""
        self.unless_failed(lambda: getattr(self.experiment, f"add_{kind}")(name, value, step))

    def save(self) -> None:
        self.unless_failed(super().save)

    def finalize(self, status: str) -> None:
        self.unless_failed(lambda: super(Events, self).finalize(status))

    def unless_failed(self, write: Callable[[], Any]) -> None:
        """Write, unless an earlier write failed: that ended the thread that writes."""
        if not self.failed:
            self.attempt(Path(self.log_dir), write)


class MetricsTable(Enduring):
    """Appends metrics to a CSV file, one row per step, written at once.

    Values of one step that arrive in several calls share its row. A new column rewrites the file. Rows that could not
    be written are written with the next one.

    Args:
        path: the file.
        resume_step: rows after this step are dropped from an existing file; None starts a new file.
    """

    def __init__(self, path: Path, resume_step: int | None) -> None:
        super().__init__()
        self.path = path
        self.columns = ["step"]
        # the last row, and the rows before it that could not be written; `offset` bytes of the file come before them
        self.tail: list[dict[str, str]] = []
        self.offset = 0
        self.written = True
        if resume_step is not None and path.exists():
            self.take_over(resume_step)
        elif is_first_rank():
            path.unlink(missing_ok=True)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Hyperparameters are in config.yaml."""

    @rank_zero_only
    def take_over(self, resume_step: int) -> None:
        """Keep the complete rows up to a step.

        Raises:
            UsageError: the file is no table of this kind, which names the line, or cannot be written.
        """
        way = "repair it, or move it away: then the run starts a new table"
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                columns, *lines = list(csv.reader(file)) or [["step"]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{self.path} cannot be read: {first_line(error)}\n{way}") from error
        if columns[:1] != ["step"] or len({*columns}) < len(columns):
            raise UsageError(f"{self.path}, line 1: the columns must be step and others, each once\n{way}")
        for number, line in enumerate(lines, 2):
            if len(line) == len(columns) and not STEP.fullmatch(line[0]):
                raise UsageError(f"{self.path}, line {number}: {shortened(line[0])} is no step\n{way}")
        kept = [line for line in lines if len(line) == len(columns) and int(line[0]) <= resume_step]
        rows = [dict(zip(columns, line, strict=True)) for line in kept]
        self.tail = rows[-1:]
        try:
            self.rewrite(rows[:-1], columns)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}\nmake room and start again") from error

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not metrics or step is None:
            return
        if not self.tail or self.tail[-1]["step"] != str(step):
            if self.written:
                self.offset, self.tail = self.path.stat().st_size if self.path.exists() else 0, []
            self.tail.append({"step": str(step)})
        self.tail[-1] |= {name: repr(float(value)) for name, value in metrics.items()}
        new = list(dict.fromkeys(name for row in self.tail for name in row if name not in self.columns))
        self.written = self.attempt(self.path, lambda: self.widen(new) if new or not self.offset else self.write_tail())

    def write_tail(self) -> None:
        """Write the last rows."""
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            # over the old row in one write, and cut only then: a kill between the two loses nothing
            file.write(self.render(self.tail))
            file.truncate()

    def widen(self, names: list[str]) -> None:
        """Write the whole file with further columns."""
        rows: list[dict[str, str]] = []
        if self.offset:
            with self.path.open("rb") as file:
                rows = list(csv.DictReader(io.StringIO(file.read(self.offset).decode(), newline="")))
        self.rewrite(rows, [*self.columns, *names])

    def rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        """Write the whole file in one step: these rows and the last ones."""
        before = self.columns
        self.columns = columns
        head = (",".join(columns) + "\r\n").encode() + self.render(rows)
        try:
            write_atomically(self.path, lambda file: file.write(head + self.render(self.tail)))
        except OSError:
            self.columns = before
            raise
        self.offset = len(head)

    def render(self, rows: list[dict[str, str]]) -> bytes:
        """Rows as bytes, with an empty cell where a step has no value."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns, restval="").writerows(rows)
        return text.getvalue().encode()


def build_loggers(config: dict[str, Any], run_dir: Path, checkpoint: Path | None, step: int | None) -> list[Logger]:
    """The loggers of `config["logger"]`: {tensorboard: bool, csv: bool}.

    Args:
        config: the `logger` node.
        run_dir: events go to `tb/` in it, the table to `metrics.csv`.
        checkpoint: file from which the run goes on, None in a new run. What another run has logged is taken along.
        step: its step; what was logged beyond is dropped or hidden.
    """
    unknown = sorted({*config} - {"tensorboard", "csv"})
    if unknown:
        raise UsageError(f"logger.{unknown[0]} is not known; choose tensorboard and csv, each true or false")
    if checkpoint is not None and is_first_rank():
        take_along(checkpoint.absolute().parent, run_dir, config)
    loggers: list[Logger] = []
    if config.get("tensorboard"):
        loggers.append(Events(run_dir, step))
    if config.get("csv"):
        loggers.append(MetricsTable(run_dir / TABLE, step))
    return loggers


def take_along(checkpoints: Path, run_dir: Path, config: dict[str, Any]) -> None:
    """Copy what a run has logged into another directory, in which it goes on.

    Args:
        checkpoints: the `checkpoints` directory of the run.
        run_dir: where it goes on.
        config: the `logger` node.
    """
    old = checkpoints.parent
    if checkpoints.name != "checkpoints" or old.resolve() == run_dir.resolve():
        return
    events = (old / EVENTS).glob("events.*") if config.get("tensorboard") else ()
    table = [old / TABLE] if config.get("csv") and (old / TABLE).exists() else []
    try:
        for path in [*table, *events]:
            copy_atomically(path, run_dir / path.relative_to(old))
    except OSError as error:
        raise UsageError(f"cannot take {path} along: {error.strerror}\nmake room or choose another place") from error
