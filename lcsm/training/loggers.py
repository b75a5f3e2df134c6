"""Where metrics go: TensorBoard events and a table that any program reads."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lcsm.errors import UsageError
from lcsm.training.files import write_atomically
from lcsm.training.rank import is_first_rank


class MetricsTable(Logger):
    """Appends metrics to a CSV file, one row per step, written at once.

    Values of one step that arrive in several calls share its row. A new column rewrites the file.

    Args:
        path: the file.
        resume_step: rows after this step are dropped from an existing file; None starts a new file.
    """

    def __init__(self, path: Path, resume_step: int | None) -> None:
        super().__init__()
        self.path = path
        self.columns = ["step"]
        self.step: int | None = None
        self.row: dict[str, str] = {}
        self.offset = 0
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
        """Keep the complete rows up to a step."""
        with self.path.open(newline="") as file:
            columns, *rows = list(csv.reader(file)) or [["step"]]
        kept = [row for row in rows if len(row) == len(columns) and int(row[0]) <= resume_step]
        self.columns = columns
        self.rewrite([dict(zip(columns, row, strict=True)) for row in kept])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not metrics or step is None:
            return
        new = {name: repr(float(value)) for name, value in metrics.items()}
        self.row = {**(self.row if step == self.step else {"step": str(step)}), **new}
        if any(name not in self.columns for name in new):
            rows = self.read_rows()
            rows = rows[:-1] if step == self.step else rows
            self.columns += [name for name in new if name not in self.columns]
            self.rewrite([*rows, self.row])
        else:
            with self.path.open("r+b") as file:
                file.seek(self.offset if step == self.step else 0, 0 if step == self.step else 2)
                self.offset = file.tell()
                # over the old row in one write, and cut only then: a kill between the two loses nothing
                file.write(self.render([self.row]))
                file.truncate()
        self.step = step

    def read_rows(self) -> list[dict[str, str]]:
        """All rows of the file."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def rewrite(self, rows: list[dict[str, str]]) -> None:
        """Write the whole file in one step."""
        head = (",".join(self.columns) + "\r\n").encode() + self.render(rows[:-1])
        write_atomically(self.path, lambda file: file.write(head + self.render(rows[-1:])))
        self.offset = len(head)
        if rows:
            self.row, self.step = rows[-1], int(rows[-1]["step"])

    def render(self, rows: list[dict[str, str]]) -> bytes:
        """Rows as bytes, with an empty cell where a step has no value."""
        text = io.StringIO(newline="")
        csv.DictWriter(text, self.columns, restval="").writerows(rows)
        return text.getvalue().encode()


def build_loggers(config: dict[str, Any], run_dir: Path, resume_step: int | None) -> list[Logger]:
    """The loggers of `config["logger"]`: {tensorboard: bool, csv: bool}.

    Args:
        config: the `logger` node.
        run_dir: events go to `tb/` in it, the table to `metrics.csv`.
        resume_step: step at which a resumed run goes on; what was logged beyond is dropped or hidden.
    """
    unknown = sorted({*config} - {"tensorboard", "csv"})
    if unknown:
        raise UsageError(f"logger.{unknown[0]} is not known; choose tensorboard and csv, each true or false")
    loggers: list[Logger] = []
    if config.get("tensorboard"):
        purge: dict[str, Any] = {} if resume_step is None else {"purge_step": resume_step + 1}
        loggers.append(TensorBoardLogger(save_dir=run_dir, name="tb", version="", default_hp_metric=False, **purge))
    if config.get("csv"):
        loggers.append(MetricsTable(run_dir / "metrics.csv", resume_step))
    return loggers
