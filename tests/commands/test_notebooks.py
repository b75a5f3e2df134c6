"""The notebooks run from top to bottom."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def executed(name: str) -> dict[str, Any]:
    """The variables after all code cells of a notebook."""
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "clear the outputs"
    variables: dict[str, Any] = {}
    with matplotlib.rc_context({"backend": "agg"}):
        for number, cell in enumerate(code):
            exec(compile("".join(cell["source"]), f"{name}, code cell {number}", "exec"), variables)
        plt.close("all")
    return variables


def test_every_notebook_is_run_here():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == {"read_a_model.ipynb", "compare_runs.ipynb"}


def test_a_model_is_read():
    variables = executed("read_a_model.ipynb")
    assert variables["matrix"].shape == (55, 55) and len(variables["spectrum"]) == 2


def test_runs_are_compared(recall_run: Path, text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lcsm").mkdir()
    for name, run in (("recall", recall_run), ("text", text_run)):
        (tmp_path / "lcsm" / name).symlink_to(run)
    monkeypatch.setenv("LCSM_RUNS", str(tmp_path))
    variables = executed("compare_runs.ipynb")
    assert list(variables["results"].index) == ["lcsm/recall", "lcsm/text"]
    assert "choices.task" in variables["varied"] and "val/accuracy" in variables["metrics"]
