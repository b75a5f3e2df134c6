"""One thread for all tests, because small operations on several are slower and less repeatable; their own cache."""

import atexit
import os
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
os.environ["LCSM_CACHE"] = tempfile.mkdtemp(prefix="lcsm-tests-")
atexit.register(shutil.rmtree, os.environ["LCSM_CACHE"], ignore_errors=True)
os.environ["HF_HUB_OFFLINE"] = "1"
# `command &` in a script and nohup start processes that ignore signals, and what they start inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
# Folders whose tests have to pass with every instruction set, see `make numerical`.
NUMERICAL = ("ops", "stages", "mixers", "models", "conversion")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is numerical, before tests are chosen by their marks."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in NUMERICAL:
            item.add_marker("numerical")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many golden cases of each family ran, and how many of them failed."""
    counts: dict[str, Counter[str]] = {"passed": Counter(), "failed": Counter()}
    for outcome, counter in counts.items():
        reports = terminalreporter.stats.get(outcome, [])
        counter.update(value for report in reports for name, value in report.user_properties if name == "golden family")
    families = sorted(counts["passed"] | counts["failed"])
    if families:
        terminalreporter.section("golden cases by family")
    for family in families:
        passed, failed = (counts[outcome][family] for outcome in ("passed", "failed"))
        terminalreporter.write_line(f"{family:<28}{passed:>4} passed" + (f"{failed:>4} failed" if failed else ""))
    if families:
        total = sum(counts["passed"].values()), sum(counts["failed"].values())
        terminalreporter.write_line(f"{len(families)} families, {total[0]} passed, {total[1]} failed")
