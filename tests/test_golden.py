"""Replays numbers that the public reference implementations produced.

`LCSM_GOLDEN` names the folder of cases, each a json sidecar and an npz of the same stem. The adapter is chosen by the
sidecar's family. Without the folder this file says that it did not run.
"""

import importlib
import importlib.util
import json
import os
from pathlib import Path

import pytest

from tests.golden.case import excess, read_case

FOLDER = os.environ.get("LCSM_GOLDEN")


def cases() -> list[Path]:
    return sorted(Path(FOLDER).rglob("*.json")) if FOLDER else []


def adapter(family: str):
    name = f"tests.golden.{family}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


@pytest.mark.skipif(not FOLDER, reason="golden cases did not run: set LCSM_GOLDEN to their folder")
def test_golden_folder_holds_cases():
    assert cases(), f"LCSM_GOLDEN={FOLDER} holds no json sidecar"


@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_golden(path: Path):
    family = json.loads(path.read_text())["family"]
    replay = adapter(family)
    if replay is None:
        pytest.skip(f"no adapter for the family {family} yet")
    case = read_case(path)
    golden, checked = case.symbols("output", "gradient", "exact"), case.compared()
    for algorithm, found in replay.replay(case):
        for symbol, entry in checked.items():
            assert symbol in found, f"{algorithm}: {symbol} was not replayed"
            assert excess(found[symbol], golden[symbol], entry["tolerance"]) <= 1, f"{algorithm}: {symbol} differs"
