import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lcsm.commands.checkpoint import of_its_version
from lcsm.errors import UsageError
from lcsm.training.checkpoints import read_checkpoint
from tests.commands.helpers import said


def test_a_checkpoint_scores_as_it_did_when_it_was_saved(recall_run: Path, capsys: pytest.CaptureFixture[str]):
    status, output, _ = said(capsys, "evaluate", f"ckpt={recall_run}", "--format", "json")
    end = json.loads((recall_run / "end.json").read_text())
    measured = json.loads(output.splitlines()[-1])
    assert status == 0 and measured["val/accuracy"] == pytest.approx(end["best/val/accuracy"])


def test_the_data_can_be_changed(recall_run: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint = recall_run / "checkpoints/last.ckpt"
    status, output, _ = said(capsys, "evaluate", f"ckpt={checkpoint}", "data.num_val=8", "data.num_pairs=[1,3]")
    assert status == 0 and "accuracy_pairs3" in output


def test_the_test_split_has_other_rows_and_names_itself(recall_run: Path, capsys: pytest.CaptureFixture[str]):
    scores = []
    for split in ("val", "test"):
        _, output, _ = said(capsys, "evaluate", f"ckpt={recall_run}", f"split={split}", "--format", "json")
        scores.append(json.loads(output.splitlines()[-1]))
    assert [score["split"] for score in scores] == ["val", "test"]
    assert scores[0]["val/loss"] != scores[1]["test/loss"] and "val/loss" not in scores[1]
    _, table, _ = said(capsys, "evaluate", f"ckpt={recall_run}", "split=test")
    assert "split test" in " ".join(table.split()) and "test/accuracy" in table


def test_a_test_text_that_the_run_did_not_name_can_be_scored(
    text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "test.txt").write_text("Über den Wolken ist es still. " * 20, encoding="utf-8")
    words = ["evaluate", f"ckpt={text_run}", f"paths.root={text_run.parents[1]}", "split=test", "--format", "json"]
    status, output, _ = said(capsys, *words, f"data.test_files={tmp_path / 'test.txt'}")
    assert status == 0 and json.loads(output.splitlines()[-1])["test/bits_per_byte"] > 0
    status, _, message = said(capsys, *words)
    assert status == 2 and "no test split" in message and "data.test_files" in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["split=train"], ["split=train", "val"]),
        (["data.num_vla=3"], ["data.num_vla", "num_val"]),
        (["data.vocab_size=64"], ["vocabulary", "64", "32"]),
        (["data.num_val=1,2"], ["data.num_val"]),
        (["dat.num_val=3"], ["dat.num_val", "data.KEY"]),
        (["data.num_val=0"], ["data.num_val=0"]),
        (["trainer.devices=64"], ["trainer.devices=64", "CPU cores"]),
        (["trainer.max_stpes.x=3"], ["trainer.max_stpes.x"]),
        (["trainer.max_steps=5"], ["trainer.max_steps=5", "no effect", "limit_val_batches"]),
        (["trainer.limit_val_batches=0"], ["trainer.limit_val_batches=0", "> 0"]),
        (["threads=100000"], ["threads=100000", "cores"]),
        (["allow_targets=["], ["allow_targets=[", "list of classes"]),
        (["format=yaml"], ["format=yaml", "json"]),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], named: list[str], recall_run: Path, capsys: pytest.CaptureFixture[str]
):
    status, _, message = said(capsys, "evaluate", f"ckpt={recall_run}", *words)
    assert status == 2 and all(name in message for name in named) and len(message.splitlines()) <= 3


def test_of_several_devices_one_prints(
    recall_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    assert said(capsys, "evaluate", f"ckpt={recall_run}")[:2] == (0, "")


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_what_is_no_checkpoint_is_one_message(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "x.ckpt").write_bytes(content)
    status, _, message = said(capsys, "evaluate", f"ckpt={tmp_path / 'x.ckpt'}")
    assert status == 2 and "x.ckpt" in message and len(message.splitlines()) <= 3


def test_a_directory_without_checkpoint_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "evaluate", f"ckpt={tmp_path}")
    assert status == 2 and "best.ckpt" in message


@pytest.mark.parametrize("group", ["oscillation", "data"])
def test_a_checkpoint_cannot_name_code_to_run(
    group: str, recall_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = torch.load(recall_run / "checkpoints/best.ckpt", weights_only=True)
    config = json.loads(content["lcsm"]["config"])
    config[group] = {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"}
    content["lcsm"]["config"] = json.dumps(config)
    torch.save(content, tmp_path / "x.ckpt")
    status, _, message = said(capsys, "evaluate", f"ckpt={tmp_path / 'x.ckpt'}")
    assert status == 2 and "os.system" in message and not (tmp_path / "ran").exists()


def test_a_checkpoint_that_sees_the_token_to_predict_is_refused(
    recall_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = torch.load(recall_run / "checkpoints/best.ckpt", weights_only=True)
    config = json.loads(content["lcsm"]["config"])
    config["mixer"]["reverse"]["shrink"] = "tied"
    content["lcsm"]["config"] = json.dumps(config)
    torch.save(content, tmp_path / "x.ckpt")
    status, _, message = said(capsys, "evaluate", f"ckpt={tmp_path / 'x.ckpt'}")
    assert status == 2 and "set mixer.reverse.shrink=none" in message


def test_what_another_version_wrote_is_refused_with_its_version(recall_run: Path):
    read = read_checkpoint(recall_run / "checkpoints" / "best.ckpt")
    with pytest.raises(UsageError) as refusal, of_its_version(replace(read, versions={"lcsm": "0.1.0"})):
        raise UsageError("mixer.skip='none' is mixer.skip.of now\nand more")
    assert [part for part in ("0.1.0", "mixer.skip.of now", "train again") if part not in str(refusal.value)] == []
    assert len(str(refusal.value).splitlines()) == 3
