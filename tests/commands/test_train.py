import json
from pathlib import Path

import pytest
import yaml

from lcsm.cli import main
from lcsm.config.compose import make_plan
from lcsm.inspection import card
from lcsm.models.build import build_model
from lcsm.training.lock import RunLock
from tests.commands.helpers import RECALL, TINY, records, run_directory, said, train

STAGE = '''
from lcsm.stages.decay.ones import Ones

class Mine(Ones):
    """No decay, with a setting that only its signature knows."""

    def __init__(self, strength: float) -> None:
        super().__init__()

class Other:
    """Not a stage."""
'''


def test_a_run_prints_its_score_and_leaves_its_configuration(recall_run: Path):
    end = json.loads((recall_run / "end.json").read_text())
    saved = yaml.safe_load((recall_run / "config.yaml").read_text())
    assert end["status"] == "finished" and (recall_run / "checkpoints/best.ckpt").is_file()
    expected = make_plan([*TINY, *RECALL, f"paths.root={recall_run.parent.parent}"]).jobs[0].config
    assert saved == expected


def test_the_last_lines_name_score_run_checkpoint_and_tensorboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train(tmp_path) == 0
    directory = run_directory(tmp_path)
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split()[0] for line in lines] == ["accuracy", "run", "checkpoint", "compare"]
    assert lines[1].endswith(str(directory)) and lines[3].endswith(f"tensorboard --logdir {tmp_path}")


def test_a_saved_configuration_runs_again(recall_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"--config-path={recall_run}", f"paths.root={tmp_path}", "seed=2"]
    assert said(capsys, "train", *words)[0] == 0
    again = yaml.safe_load((run_directory(tmp_path) / "config.yaml").read_text())
    first = yaml.safe_load((recall_run / "config.yaml").read_text())
    assert (again.pop("seed"), first.pop("seed")) == (2, 1)
    changed = {"paths", "data", "choices"}
    assert {key: again[key] for key in again if key not in changed} == {
        key: first[key] for key in first if key not in changed
    }


def test_a_refused_run_leaves_the_configuration_of_the_earlier_one(tmp_path: Path):
    assert train(tmp_path) == 0
    saved = run_directory(tmp_path) / "config.yaml"
    before = saved.read_bytes()
    assert train(tmp_path, f"hydra.run.dir={saved.parent}", "resume=auto", "seed=5") == 2
    assert saved.read_bytes() == before


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_a_start_into_a_directory_in_use_writes_nothing_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
):
    words = [*flags, f"hydra.run.dir={tmp_path}", f"hydra.sweep.dir={tmp_path}"]
    assert train(tmp_path, *words) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with RunLock(tmp_path):
        assert train(tmp_path, *words, "optim.lr=0.5") == 2
        assert "is in use by pid" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_batch_that_is_too_large_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train(tmp_path, "data.batch_size=1000000000000") == 1
    message = capsys.readouterr().err.splitlines()[-2:]
    assert "out of memory" in message[0] and "data.batch_size" in message[1]


def test_a_hybrid_trains(tmp_path: Path):
    assert train(tmp_path, "experiment=hybrid") == 0


def test_a_sweep_has_a_directory_and_a_record_per_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train(tmp_path, "-m", "oscillation=ones,diag", "seed=1,2") == 0
    found = records(tmp_path)
    assert [record["status"] for record in found] == ["completed"] * 4
    names = sorted(path.name for path in tmp_path.glob("sweeps/*/*") if path.is_dir())
    assert names == [
        f"{i}_oscillation={o},seed={s}" for i, (o, s) in enumerate([("ones", 1), ("ones", 2), ("diag", 1), ("diag", 2)])
    ]
    assert "completed" in capsys.readouterr().out


def test_other_jobs_go_on_when_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train(tmp_path, "-m", "resume=null,missing.ckpt,auto") == 1
    assert [record["status"] for record in records(tmp_path)] == ["completed", "failed", "completed"]
    output = capsys.readouterr()
    assert "missing.ckpt" in output.out and "job 1 failed" in output.err and "Traceback" not in output.err
    (log,) = tmp_path.glob("sweeps/*/1_*/train.log")
    assert "Traceback" in log.read_text() and "missing.ckpt" in log.read_text()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["normaliser=layer_norm,denominator", "oscillation=diag_outer"], "denominator"),
        (["data.num_pairs=2,100"], "data.num_pairs=100"),
    ],
)
def test_a_mistake_anywhere_in_a_sweep_stops_it_before_the_first_job(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert train(tmp_path, "-m", *words) == 2
    message = capsys.readouterr().err
    assert "job 1 of 2" in message and named in message and len(message.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_data_of_a_single_run_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train(tmp_path, "data.num_pairs=100") == 2
    message = capsys.readouterr().err
    assert "data.num_pairs=100" in message and "Traceback" not in message and len(message.splitlines()) <= 3


def test_a_place_that_cannot_be_written_is_named_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    assert train(tmp_path / "file") == 2
    message = capsys.readouterr().err
    assert str(tmp_path / "file") in message and "paths.root" in message and len(message.splitlines()) <= 3


@pytest.mark.parametrize(
    "words",
    [["paths.root=/proc/x"], ["paths.root=/proc/self/x"], ["paths.root=" + "a" * 300], ["hydra.run.dir=/dev/null/x"]],
)
def test_a_place_that_takes_no_folder_is_not_said_to_be_missing(words: list[str], capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "train", *words)
    assert status == 2 and "No such file" not in message and "paths.root" in message
    assert len(message.splitlines()) <= 3


def users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: str, settings: str) -> list[str]:
    """A module and an option of a user in the working directory."""
    name = f"stages_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(STAGE)
    (tmp_path / "conf/oscillation").mkdir(parents=True)
    (tmp_path / "conf/oscillation/mine.yaml").write_text(f"_target_: {name}.{cls}\n{settings}")
    monkeypatch.chdir(tmp_path)
    return ["--config-dir=conf", "oscillation=mine", f"allow_targets=[{name}.{cls}]"]


def test_a_name_that_is_too_long_for_a_folder_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert train(tmp_path, f"name={'a' * 300}") == 2
    message = capsys.readouterr().err
    assert "name='aaa" in message and "255 bytes" in message and len(message.splitlines()) <= 3


def test_a_users_own_stage_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = users_directory(tmp_path, monkeypatch, "Mine", "strength: 0.5\n")
    assert train(tmp_path / "runs", *words) == 0


@pytest.mark.parametrize(
    ("cls", "settings", "named"),
    [
        ("Mine", "strenght: 0.5\n", ["oscillation.strenght", "strength"]),
        ("Mine", "strength: much\n", ["oscillation.strength", "number"]),
        ("Mine", "", ["oscillation.strength is missing"]),
        ("Other", "", ["Other", "subclass"]),
        ("Missing", "", ["Missing"]),
    ],
)
def test_a_users_own_stage_is_checked(
    cls: str,
    settings: str,
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    words = users_directory(tmp_path, monkeypatch, cls, settings)
    assert train(tmp_path / "runs", *words) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in named) and len(message.splitlines()) <= 3
    assert not (tmp_path / "runs").exists()


def test_a_users_own_stage_needs_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = users_directory(tmp_path, monkeypatch, "Mine", "strength: 0.5\n")[:2]
    assert train(tmp_path / "runs", *words) == 2
    assert "allow_targets=[" in capsys.readouterr().err


def test_threads_are_set_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chosen: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", chosen.append)
    assert train(tmp_path, "threads=1") == 0
    assert chosen == [1]
    assert yaml.safe_load((run_directory(tmp_path) / "config.yaml").read_text())["threads"] == 1


def test_size_and_cost_of_the_model_are_logged_and_kept(recall_run: Path):
    end, log = json.loads((recall_run / "end.json").read_text()), (recall_run / "train.log").read_text()
    shown = card(build_model(yaml.safe_load((recall_run / "config.yaml").read_text()), 32), 16)
    assert {name: end[name] for name in ("parameters", "state_size", "flops_per_token")} == {
        name: shown[name] for name in ("parameters", "state_size", "flops_per_token")
    }
    assert f"model lcsm: {shown['parameters']:,} parameters, {shown['state_size']:,} state numbers" in log
    assert "layers: 2 x diagonal" in log


def test_a_quick_try_shortens_the_warm_up_and_says_so(tmp_path: Path):
    assert train(tmp_path, "schedule.warmup_steps=50", "trainer.max_steps=3") == 0
    assert "schedule.warmup_steps=50 is beyond the last step" in (run_directory(tmp_path) / "train.log").read_text()


@pytest.mark.parametrize("option", ["disabled", "none", "stdout"])
def test_the_log_of_hydra_can_be_chosen(option: str, tmp_path: Path):
    assert train(tmp_path, f"hydra/job_logging={option}", "trainer.max_steps=2") == 0
    assert not (run_directory(tmp_path) / "train.log").exists()


@pytest.mark.slow
def test_a_language_model_that_cannot_stream_trains_without_samples(tmp_path: Path):
    (tmp_path / "text.txt").write_text("It is quiet above the clouds. " * 200, encoding="utf-8")
    words = ["task=lm", "data=text", f"data.train_files={tmp_path / 'text.txt'}", "logger.tensorboard=true"]
    words += [f"data.cache_dir={tmp_path / 'cache'}", f"paths.root={tmp_path / 'runs'}"]
    words += ["model=dss_softmax", "model.num_layers=1", "data.val_lengths=[1]"]
    assert main(["train", *TINY, *words]) == 0
    log = (run_directory(tmp_path / "runs") / "train.log").read_text()
    assert log.count("no samples of text: this model cannot stream") == 1
