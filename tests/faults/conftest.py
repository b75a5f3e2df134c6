"""The parent of all children, the runs that faults are done to, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.faults.assets import make_assets
from tests.faults.forks import Forks
from tests.faults.ledger import PROPERTY, Row, table


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Starts command lines."""
    with Forks(tmp_path_factory.mktemp("parent")) as parent:
        yield parent


@pytest.fixture(scope="session")
def assets(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with a finished run each, by name; to be copied, never to be changed."""
    return make_assets(forks, tmp_path_factory.mktemp("assets"))


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Callable[[str], Row]:
    """Adds a row to the table at the end: `row = ledger("what is done")`, then `row.note(loss)` for each fault."""

    def add(name: str) -> Row:
        row = Row(name)
        request.node.user_properties.append((PROPERTY, row))
        return row

    return add


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """Rows become plain data, which a worker process can hand on."""
    report = yield
    report.user_properties = [(n, asdict(v) if isinstance(v, Row) else v) for n, v in report.user_properties]
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of all faults, and what could not be tried."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    found = [
        (report.nodeid, value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if found:
        terminalreporter.section("faults")
        for report in terminalreporter.stats.get("skipped", []):
            terminalreporter.write_line(f"not tried: {report.nodeid.partition('::')[2]}: {report.longrepr[2]}")
        for line in table([row for _, row in sorted(found, key=lambda pair: pair[0])]):
            terminalreporter.write_line(line)
