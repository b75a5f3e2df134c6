"""Replays numbers that the public reference implementations produced.

The cases are those of `tests/golden/cases`, or of the folders that `LCSM_GOLDEN` names, separated as in PATH; each is a
json sidecar and an npz of the same stem. Adapters are chosen by what the sidecar says, never by a file's name:
`tests/golden/<family>.py` replays the cases of a family, by level and config. A case without an adapter fails.
`tests/conftest.py` reports how many cases of each family ran.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.golden.case import CASES, adapter, read_case, sidecars

FOLDERS = [Path(name) for name in os.environ.get("LCSM_GOLDEN", "").split(os.pathsep) if name] or [CASES]


def cases() -> list[Path]:
    return [path for folder in FOLDERS for path in sidecars(folder)]


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_golden_folder_holds_cases(folder: Path):
    found = list(sidecars(folder))
    assert found, f"{folder} holds no sidecar of a golden case: LCSM_GOLDEN is {os.environ.get('LCSM_GOLDEN')}"
    assert {path.with_suffix("") for path in folder.rglob("*.npz")} <= {path.with_suffix("") for path in found}


@pytest.mark.parametrize("path", cases(), ids=lambda path: path.stem)
def test_golden(path: Path, record_property: Callable[[str, object], None]):
    family = json.loads(path.read_text())["family"]
    record_property("golden family", family)
    replay = adapter(family)
    if replay is None:
        pytest.fail(f"no adapter for the family {family}: write tests/golden/{family}.py with replay(case)")
    case = read_case(path)
    checked, replays = case.compared(), list(replay.replay(case))
    assert checked and replays, "nothing was compared"
    for algorithm, found in replays:
        for symbol, golden in checked.items():
            assert symbol in found, f"{algorithm}: {symbol} was not replayed"
            assert golden.excess(found[symbol]) <= 1, f"{algorithm}: {symbol} differs"


@pytest.mark.slow
def test_a_case_without_adapter_fails_and_is_counted(tmp_path: Path):
    (tmp_path / "case.json").write_text(json.dumps({"family": "unheard_of", "arrays": {}}))
    environment = os.environ | {"LCSM_GOLDEN": str(tmp_path), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "pytest", f"{__file__}::test_golden", "-p", "no:cacheprovider"]
    run = subprocess.run(words, env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == 1
    assert "no adapter for the family unheard_of" in run.stdout
    assert "1 families, 0 passed, 1 failed" in run.stdout
