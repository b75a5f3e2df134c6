"""A checkpoint decides about its model; what it says of files counts for one's own runs, of the machine never."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lcsm.commands.origin import own_run, unsaid
from lcsm.config.shipped import load
from lcsm.models.language_model import LanguageModel
from lcsm.training import run
from lcsm.training.checkpoints import fingerprint
from tests.commands.helpers import changed, said

Capture = pytest.CaptureFixture[str]


@pytest.fixture()
def best(text_run: Path) -> Path:
    """The best checkpoint of a run on a text of our own."""
    return text_run / "checkpoints/best.ckpt"


@pytest.fixture()
def foreign(best: Path, tmp_path: Path) -> Path:
    """The same checkpoint somewhere else."""
    return Path(shutil.copy(best, tmp_path / "x.ckpt"))


@pytest.fixture()
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Data module and configuration of every evaluation, in place of its metrics."""
    found: list[Any] = []
    monkeypatch.setattr(run, "evaluate", lambda task, data, config: found.extend((data, config)) or {})
    return found


def test_an_own_run_is_scored_without_further_words(text_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture):
    end = json.loads((text_run / "end.json").read_text())
    for place in ("word", "environment"):
        words = [f"paths.root={text_run.parents[1]}"] if place == "word" else []
        if place == "environment":
            monkeypatch.setenv("LCSM_RUNS", str(text_run.parents[1]))
        status, output, _ = said(capsys, "evaluate", f"ckpt={text_run}", "--format", "json", *words)
        measured = json.loads(output.splitlines()[-1])
        assert status == 0 and measured["val/loss"] == pytest.approx(end["best/val/loss"])


@pytest.mark.parametrize("command", ["evaluate", "convert"])
def test_files_that_a_checkpoint_from_elsewhere_names_are_not_read(
    command: str, foreign: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lcsm.conversion.model.convert_model", lambda *_: None)
    path = changed(foreign, foreign, data__train_files="/etc/passwd", data__document_separator="(a+)+b")
    status, _, message = said(capsys, command, f"ckpt={path}")
    assert status == 2 and "data.train_files='/etc/passwd'" in message and "'(a+)+b'" in message
    assert "paths.root=runs" in message and len(message.splitlines()) == 3


def test_files_that_are_said_again_are_read(foreign: Path, tmp_path: Path, scored: list[Any], capsys: Capture):
    (tmp_path / "mine.txt").write_text("Eine andere Wolke. " * 100)
    path = changed(foreign, foreign, data__cache_dir=str(tmp_path / "evil"))
    words = [f"data.train_files={tmp_path / 'mine.txt'}", "data.encoding=utf-8"]
    assert said(capsys, "evaluate", f"ckpt={path}", *words)[0] == 0
    assert scored[0].describe()["train_bytes"] < 2000 and not (tmp_path / "evil").exists()


def test_machine_and_places_are_never_those_of_a_checkpoint(
    recall_run: Path, tmp_path: Path, scored: list[Any], capsys: Capture
):
    settings = {"data__num_workers": 200, "trainer__devices": 2, "trainer__strategy": "ddp", "trainer__num_nodes": 9}
    settings |= {"threads": 10_000, "compile": True, "paths__root": "/elsewhere", "logger": {"evil": 1}, "callbacks": 3}
    settings |= {"trainer__precision": "64-true", "trainer__limit_val_batches": 1}
    path = changed(recall_run / "checkpoints/best.ckpt", tmp_path / "x.ckpt", **settings)
    assert said(capsys, "evaluate", f"ckpt={path}")[0] == 0
    data, config = scored
    trainer = config["trainer"]
    assert data.loading.num_workers == 0 and config["threads"] is None and not config["compile"]
    assert (trainer["devices"], trainer["strategy"], trainer["num_nodes"]) == (1, "auto", 1)
    assert config["paths"]["root"] == "runs" and "evil" not in config["logger"]
    # without these the score would be another one
    assert (trainer["precision"], trainer["limit_val_batches"]) == ("64-true", 1)


def test_a_file_put_into_an_own_run_is_scored_on_the_data_of_that_run(
    text_run: Path, best: Path, scored: list[Any], capsys: Capture
):
    path = changed(best, best.with_name("put.ckpt"), data__train_files="/etc/passwd")
    status, _, _ = said(capsys, "evaluate", f"ckpt={path}", f"paths.root={text_run.parents[1]}")
    path.unlink()
    assert status == 0 and scored[1]["data"]["train_files"].endswith("text.txt")


def test_a_run_is_ones_own_below_the_root_only(text_run: Path, best: Path, tmp_path: Path):
    assert own_run(best, str(text_run.parents[1])) == text_run.resolve()
    assert own_run(best, str(tmp_path)) is None
    (tmp_path / "link").symlink_to(text_run)
    assert own_run(tmp_path / "link/checkpoints/best.ckpt", str(tmp_path)) is None
    assert own_run(text_run / "best.ckpt", str(text_run.parents[1])) is None


@pytest.mark.parametrize("content", ["data: [", "- 1", "a: 1", "data: 3", b"\xff"])
def test_a_damaged_configuration_of_a_run_is_one_message(
    content: str | bytes, best: Path, tmp_path: Path, capsys: Capture
):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    shutil.copy(best, tmp_path / "run/checkpoints")
    (tmp_path / "run/config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    status, _, message = said(capsys, "evaluate", f"ckpt={tmp_path / 'run'}", f"paths.root={tmp_path}")
    assert status == 2 and str(tmp_path / "run") in message and len(message.splitlines()) <= 3


def test_shipped_names_choices_and_numbers_are_taken_and_other_texts_are_not():
    shipped = load("data", "wikitext2") | {"seed": 3}
    assert list(unsaid(shipped)) == [] and list(unsaid(shipped | {"packing": "documents", "length": 7})) == []
    for key, value in (("dataset", "someone/else"), ("document_separator", "x"), ("revision", "main")):
        assert list(unsaid(shipped | {key: value})) == [(key, value)]
    files = load("data", "text") | {"seed": 3, "train_files": ["a", "b"], "val_files": {"a": 1}}
    assert [key for key, _ in unsaid(files)] == ["train_files", "val_files"]
    assert [key for key, _ in unsaid({"_target_": "mine.Data", "folder": "x", "size": 3})] == ["folder"]


SIZES = [
    ({"model__num_layers": 1_000_000}, "model.num_layers=1000000"),
    ({"model__num_layers": None}, "model.num_layers=None"),
    ({"model__d_model": 10**12 + 1}, "model.d_model=1000000000001"),
    ({"model__d_model": [16]}, "model.d_model=[16]"),
    ({"model": None}, "model.num_layers=None"),
    ({"mixer__num_heads": 16, "mixer__state_dim": 64}, "is of another model"),
]
COMMANDS = {"evaluate": [], "generate": ["prompt=a"], "convert": ["measure=false"]}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("settings", "named"), SIZES)
def test_sizes_are_compared_with_the_weights_before_memory_is_taken(
    settings: dict[str, Any], named: str, command: str, text_run: Path, best: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    make = LanguageModel.__init__

    def without_memory(self: LanguageModel, *given: Any) -> None:
        assert torch.empty(0).is_meta, "memory was taken"
        make(self, *given)

    monkeypatch.setattr(LanguageModel, "__init__", without_memory)
    monkeypatch.setenv("LCSM_RUNS", str(text_run.parents[1]))
    path = changed(best, best.with_name("large.ckpt"), **settings)
    status, _, message = said(capsys, command, f"ckpt={path}", *COMMANDS[command])
    path.unlink()
    assert status == 2 and named in message and len(message.splitlines()) <= 3


def test_a_vocabulary_beyond_the_weights_is_refused(foreign: Path, capsys: Capture):
    content = torch.load(foreign, weights_only=True)
    content["lcsm"]["vocab_size"] = 10**11
    torch.save(content, foreign)
    status, _, message = said(capsys, "generate", f"ckpt={foreign}", "prompt=a")
    assert status == 2 and "vocab_size=100000000000" in message


HOSTILE = [
    ({"mixers": [1]}, "mixers"),
    ({"mixers": {"x": 3}}, "mixers.x"),
    ({"block": [1]}, "block"),
    ({"mixer": None}, "mixer"),
    ({"model__pattern": [["main"]]}, "model.pattern"),
    ({"model__pattern": []}, "model.pattern"),
    ({"mixer__num_heads": 0}, "mixer.num_heads"),
    ({"oscillation": {"_target_": 3}}, "oscillation"),
    ({"seed": "x"}, "seed"),
    ({"seed": -1}, "seed"),
]


@pytest.mark.parametrize("command", ["evaluate", "generate"])
@pytest.mark.parametrize(("settings", "named"), HOSTILE)
def test_a_model_that_is_none_is_one_message(
    settings: dict[str, Any], named: str, command: str, best: Path, text_run: Path, tmp_path: Path, capsys: Capture
):
    path = changed(best, tmp_path / "x.ckpt", **settings)
    status, _, message = said(capsys, command, f"ckpt={path}", *COMMANDS[command])
    assert status == 2 and named in message and len(message.splitlines()) <= 3


def test_the_data_of_a_run_are_no_part_of_its_model(foreign: Path, capsys: Capture):
    settings: dict[str, Any] = {"callbacks": {"figures": True}, "data": None, "trainer": 3, "optim": [], "logger": "x"}
    path = changed(foreign, foreign, **settings)
    assert said(capsys, "generate", f"ckpt={path}", "prompt=a", "num_tokens=1")[0] == 0


def to_nan(weight: torch.Tensor) -> torch.Tensor:
    return torch.full_like(weight, float("nan"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("change", [torch.Tensor.long, torch.Tensor.cfloat, torch.Tensor.to_sparse, to_nan])
def test_weights_that_are_none_are_refused(change: Any, command: str, foreign: Path, capsys: Capture):
    content = torch.load(foreign, weights_only=True)
    state = content["state_dict"]
    state["model.embedding.weight"] = change(state["model.embedding.weight"])
    content["lcsm"]["fingerprint"] = fingerprint({name.removeprefix("model."): value for name, value in state.items()})
    torch.save(content, foreign)
    words = [*COMMANDS[command], *(["data.train_files=train.py"] if command == "evaluate" else [])]
    status, _, message = said(capsys, command, f"ckpt={foreign}", *words)
    assert status == 2 and "embedding.weight is" in message and len(message.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_is_too_long_is_one_message(command: str, capsys: Capture):
    status, _, message = said(capsys, command, f"ckpt={'a' * 5000}", *COMMANDS[command])
    assert status == 2 and "File name too long" in message and len(message) < 300
