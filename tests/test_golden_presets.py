"""What the table of models says of golden cases is what the cases of the repository replay."""

import json
import pkgutil
from pathlib import Path

import pytest

import tests.golden
from lcsm.commands.models_table import GOLDEN, LEVELS, golden
from tests.compose import options
from tests.golden import presets
from tests.golden.case import CASES, adapter, read_case, sidecars

RECORD = json.loads(GOLDEN.read_text(encoding="utf-8"))
RENEW = f"{GOLDEN.name} is out of date: run make docs"
FOUND = list(sidecars(CASES))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_the_record_names_the_models_that_the_case_replays(path: Path):
    case = read_case(path)
    name, level = case.sidecar["name"], case.sidecar["level"]
    recorded = [model for model, levels in RECORD.items() if name in levels.get(level, [])]
    assert sorted(recorded) == presets.replayed(case), RENEW


def test_the_record_names_no_other_models_levels_or_cases():
    cases = {(case.sidecar["level"], case.sidecar["name"]) for case in map(read_case, FOUND)}
    named = {(level, name) for levels in RECORD.values() for level, names in levels.items() for name in names}
    assert named <= cases and set(RECORD) <= set(options("model")) and {level for level, _ in cases} <= LEVELS.keys(), (
        RENEW
    )


def test_the_table_gives_the_levels_of_the_record():
    assert golden("s5") == "operator, layer, matrix" and golden("attention") == "none"


def test_a_model_of_another_recurrence_is_refused(monkeypatch: pytest.MonkeyPatch):
    case = read_case(CASES / "gla.json")
    monkeypatch.setitem(presets.FAMILIES, "gla", lambda config: ["mamba"])
    with pytest.raises(ValueError, match="mamba: the recurrence of the model is not that of the case"):
        presets.replayed(case)


def test_every_family_with_an_adapter_has_a_case_in_the_repository():
    modules = (module.name for module in pkgutil.iter_modules(tests.golden.__path__))
    assert {name for name in modules if hasattr(adapter(name), "replay")} == {read_case(path).family for path in FOUND}


def test_sidecars_of_the_repository_name_their_source_and_the_size_of_their_arrays():
    for path in FOUND:
        case = read_case(path)
        assert {"repo", "file"} <= case.sidecar["source"].keys() and case.sidecar["name"] == path.stem, path
        for name, entry in case.sidecar["arrays"].items():
            if "max_abs" in entry:
                # three digits
                assert abs(case.arrays[name]).max() == pytest.approx(entry["max_abs"], rel=5e-3), path


def test_the_cases_of_the_repository_are_small():
    assert sum(path.stat().st_size for path in CASES.iterdir()) < 1_000_000
