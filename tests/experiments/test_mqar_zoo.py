"""The sweep over all named models: which runs it makes, and what the table says of them."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lcsm.config.compose import make_plan
from tests.compose import compose

FOLDER = Path(__file__).parents[2] / "experiments" / "mqar_zoo"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(FOLDER)
    names = ("zoo_runs", "sweep", "table")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return {name: importlib.import_module(name) for name in names}


def end(folder: Path, accuracy: float | None, status: str = "stopped") -> None:
    """A run that has ended."""
    folder.mkdir(parents=True)
    mark = {"status": status, "best/val/accuracy": accuracy, "step": 40, "seconds": 8.0}
    (folder / "end.json").write_text(json.dumps(mark))
    config = compose("task=mqar", "model=gla", "model.d_model=16", "mixer.num_heads=2")
    (folder / "config.yaml").write_text(json.dumps(config))


def test_best_rate_waits_for_all_runs_and_ignores_failed_ones(modules: dict[str, ModuleType], tmp_path: Path):
    runs = modules["zoo_runs"]
    for rate, accuracy, status in ((1e-3, 0.4, "stopped"), (3e-3, 0.7, "finished"), (1e-2, None, "failed")):
        assert runs.best_rate("gla", [1e-3, 3e-3, 1e-2], tmp_path) is None
        end(runs.Run("gla", rate, 1).folder(tmp_path), accuracy, status)
    assert runs.best_rate("gla", [1e-3, 3e-3, 1e-2], tmp_path) == 3e-3


def test_a_model_that_solves_the_task_is_tried_at_no_further_rate(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sweep, runs = modules["sweep"], modules["zoo_runs"]
    scores = {("gla", 1e-2): 0.997, ("rwkv7", 1e-2): 0.3, ("rwkv7", 3e-3): 0.6}

    def train(run: Any, options: Any) -> None:
        if run.end(options.root) is None:
            end(run.folder(options.root), scores.get((run.model, run.rate), 0.5))

    monkeypatch.setattr(sweep, "train", train)
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--models", "gla", "rwkv7", "--seeds", "2", "--root", str(tmp_path)])
    assert sweep.main() == 0
    made = {(run.model, run.rate, run.seed) for run in runs.found(tmp_path)}
    assert {run for run in made if run[0] == "gla"} == {("gla", 1e-2, 1), ("gla", 1e-2, 2)}
    assert {run[1:] for run in made if run[0] == "rwkv7"} == {(1e-2, 1), (3e-3, 1), (1e-3, 1), (3e-3, 2)}


def test_an_interrupted_run_is_made_again(modules: dict[str, ModuleType], tmp_path: Path):
    run = modules["zoo_runs"].Run("gla", 1e-3, 2)
    end(run.folder(tmp_path), None, "interrupted")
    assert run.end(tmp_path) is None and modules["zoo_runs"].found(tmp_path) == []


def test_every_run_is_a_command_that_trains(modules: dict[str, ModuleType], tmp_path: Path):
    sweep = modules["sweep"]
    options = sweep.arguments(["--models", "gla", "--seconds", "3700", "--root", str(tmp_path), "--", "channel=none"])
    words = sweep.command(modules["zoo_runs"].Run("gla", 3e-3, 2), options)
    config = make_plan(words[2:]).jobs[0].config
    assert config["seed"] == 2 and config["optim"]["lr"] == 3e-3 and config["channel"] is None
    assert config["trainer"]["max_time"] == "00:01:01:40" and config["model"]["name"] == "gla"


def test_a_model_that_sees_the_future_is_no_language_model(modules: dict[str, ModuleType]):
    for name in modules["zoo_runs"].models():
        assert not name.endswith("bidirectional")
    assert compose("model=ldnn_bidirectional")["mixer"]["reverse"] != "none"


def test_unknown_models_are_refused(modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        modules["sweep"].arguments(["--models", "mamba3"])
    assert "choose from" in capsys.readouterr().err


def test_table_gives_median_range_state_and_a_plot(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runs, table = modules["zoo_runs"], modules["table"]
    for rate, seed, accuracy in ((1e-3, 1, 0.9), (3e-3, 1, 0.95), (3e-3, 2, 0.5), (3e-3, 3, None)):
        end(runs.Run("gla", rate, seed).folder(tmp_path / "runs"), accuracy)
    monkeypatch.setattr(sys, "argv", ["table.py", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    table.main()
    (row,) = table.rows(tmp_path / "runs")
    assert (row["median"], row["lowest"], row["highest"], row["seeds"]) == (0.5, 0.0, 0.95, 3)
    assert row["ms_per_step"] == 200.0 and row["state"] == 2 * 2 * 4 * 8
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "table.csv", "accuracy_by_state.png"}


def test_every_causal_model_is_asked(modules: dict[str, ModuleType]):
    reversed_ = {"ldnn_bidirectional"}
    assert set(modules["zoo_runs"].models()) | reversed_ == {
        path.stem for path in (FOLDER.parents[1] / "conf/model").glob("*.yaml")
    }
