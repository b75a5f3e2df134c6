"""Outcomes of the jobs of a sweep: one record per job in its directory, one table at the end."""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from lcsm.errors import UsageError, out_of_memory

if TYPE_CHECKING:
    from lcsm.config.compose import Plan

RECORD = "job.json"


class JobRecord(Callback):
    """Writes `job.json` when a job starts and again when it ends; Hydra calls it, in the process that runs the job.

    The traceback of a failed job goes into its own log. A failed single run hands its exception over as the result, for
    the command line to raise. A failed job of a sweep becomes a row of the table; Hydra itself would raise the first
    failure when all jobs of a batch have run, and say nothing of the others.

    Attributes:
        directory: of the sweep that this process runs, None before it starts.
    """

    directory: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        JobRecord.directory = Path(config.hydra.sweep.dir)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.started = time.monotonic()
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            self.write(status="stopped", metric=None, error=None)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        # reading the result of a failed job raises its exception
        failed = job_return.status == JobStatus.FAILED
        error = job_return._return_value if failed else None
        if error is not None:
            self.write_traceback(error)
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            if failed:
                job_return.status, job_return.return_value = JobStatus.COMPLETED, error
            return
        message = None if error is None else describe(error)
        metric = None if failed else job_return.return_value
        self.write(status="failed" if failed else "completed", metric=metric, error=message)
        if failed:
            hydra = HydraConfig.get()
            log = Path(hydra.runtime.output_dir, f"{hydra.job.name}.log")
            sys.stderr.write(f"lcsm: job {hydra.job.num} failed: {message}\nthe whole error is in {log}\n")
        if failed and config.hydra.sweeper._target_.endswith("BasicSweeper"):
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def write(self, **facts: Any) -> None:
        """The record of a job."""
        hydra = HydraConfig.get()
        record = {"number": hydra.job.num, "overrides": list(hydra.overrides.task), **facts}
        record["seconds"] = round(time.monotonic() - self.started, 1)
        Path(hydra.runtime.output_dir, RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def write_traceback(self, error: BaseException) -> None:
        """The whole traceback in the job's log, where there is room; the console gets one line of it."""
        hydra, lines = HydraConfig.get(), traceback.format_exception(error)
        path = Path(hydra.runtime.output_dir, f"{hydra.job.name}.log")
        with suppress(OSError), path.open("a", encoding="utf-8") as log:
            log.write("".join(lines))


def describe(error: BaseException) -> str:
    """An error in one line."""
    first = ((out_of_memory(error) or str(error)).strip().splitlines() or [""])[0]
    return first if isinstance(error, UsageError) else f"{type(error).__name__}: {first}"


def read_records(directory: Path | None) -> dict[int, dict[str, Any]]:
    """The records below the directory of a sweep, by number of the job."""
    paths = sorted(directory.glob(f"*/{RECORD}")) if directory is not None else []
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return {record["number"]: record for record in records}


def print_table(plan: Plan, directory: Path | None) -> bool:
    """One row per job: what it was, what it scored, how it ended.

    Args:
        plan: the jobs that were asked for.
        directory: of the sweep; None if it did not start.
    Returns:
        Whether all jobs are done.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    records = read_records(directory)
    planned = {number: {"overrides": job.overrides} for number, job in enumerate(plan.jobs)} if plan.complete else {}
    rows = {n: {"status": "not run"} | planned.get(n, {}) | records.get(n, {}) for n in sorted({*planned, *records})}
    shared = set.intersection(*(set(row["overrides"]) for row in rows.values())) if len(rows) > 1 else set()
    table = Table("job", "varied", "metric", "time", "status")
    for number, row in rows.items():
        varied = " ".join(word for word in row["overrides"] if word not in shared)
        metric = "" if row.get("metric") is None else f"{row['metric']:.4f}"
        seconds = f"{row['seconds']:.0f} s" if "seconds" in row and row["status"] != "stopped" else ""
        status = row["status"] + (f": {row['error']}" if row.get("error") else "")
        table.add_row(str(number), escape(varied), metric, seconds, escape(status))
    console = Console()
    console.print(table)
    if directory is not None:
        console.print(f"compare: tensorboard --logdir {escape(str(directory))}", highlight=False, soft_wrap=True)
    return all(row["status"] == "completed" for row in rows.values())
