"""The command line from outside: status, length and speed of what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lcsm.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent.parent
HEAVY = "torch", "lightning", "hydra"


def command(*words: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LCSM_RUNS": str(directory or "runs")}
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *words], capture_output=True, text=True, env=environment, timeout=120
    )


def modules_after(words: list[str]) -> set[str]:
    """The heavy modules that a command has imported when it ends."""
    script = (
        f"import sys; from lcsm.cli import main; main({words!r}); print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    return set((result.stdout.splitlines() or [""])[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["show", "--help"], ["generate", "--help"], []])
def test_help_imports_nothing_heavy(words: list[str]):
    assert modules_after(words) == set()


def test_help_lists_groups_options_and_descriptions():
    result = command("--help")
    assert result.returncode == 0
    for text in ("oscillation\n", "* diag ", "Data-driven decay of every row", "--config-dir", "mqar_ablation"):
        assert text in result.stdout


def test_help_lists_the_options_of_a_users_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "oscillation").mkdir()
    (tmp_path / "oscillation/mine.yaml").write_text("# My own decay\ndefaults: [diag]\n")
    assert main(["train", "--help", f"--config-dir={tmp_path}"]) == 0
    assert "My own decay" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "example" in text and ("lcsm " + name in text)


# what each mistake is told is tested in tests/config/test_errors.py
@pytest.mark.parametrize("words", [["optim.lr=nan"], ["-m", "seed=1,2", "model=dig"]])
def test_a_mistake_ends_with_status_2_and_three_lines(words: list[str], tmp_path: Path):
    result = command(*words, directory=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("lcsm: ") and len(result.stderr.splitlines()) <= 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["oscilation=ones", "oscillation=nosuch", "oscillation.tua=3", "optim.lr=nan"])
def test_a_mistake_outside_the_components_is_found_without_torch(word: str):
    assert modules_after(["train", word]) == {"hydra"}


def test_a_mistake_in_a_component_of_the_model_is_found_without_lightning():
    assert modules_after(["train", "oscillation.tau=abc"]) == {"hydra", "torch"}


def test_the_module_of_the_command_line_runs_like_the_package():
    runs = [subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, cwd=ROOT, timeout=60)
            for module in ("lcsm", "lcsm.cli")]  # fmt: skip
    assert runs[0].stdout == runs[1].stdout != b""


def test_an_unknown_command_is_named_with_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_overrides_without_a_command_are_told_where_to_go(capsys: pytest.CaptureFixture[str]):
    assert main(["oscillation=diag"]) == 2
    assert "lcsm train oscillation=diag" in capsys.readouterr().err


def test_the_configuration_is_printed_and_nothing_runs(tmp_path: Path):
    result = command("--cfg", "job", "oscillation.tau=77", directory=tmp_path)
    assert result.returncode == 0 and "tau: 77" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words", "expected"),
    [
        ("lcsm train model=mam", ["train"], {"model=mamba", "model=mamba2"}),
        ("python train.py model=mam", ["train"], {"model=mamba", "model=mamba2"}),
        ("lcsm show model=mam", [], {"model=mamba", "model=mamba2"}),
        ("lcsm train oscillation=diag oscillation.ta", [], {"oscillation.tau="}),
        ("lcsm tr", [], {"train"}),
        ("lcsm ", [], set(COMMANDS)),
        ("lcsm evaluate ckpt=x", [], set()),
        ("lcsm train seed=[1, mod", [], set()),
    ],
)
def test_a_shell_completes_a_line(
    line: str, words: list[str], expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COMP_LINE", line)
    assert main([*words, "-sc", "query=bash"]) == 0
    assert set(capsys.readouterr().out.split()) == expected


def test_completion_is_installed_for_lcsm_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["/somewhere/lcsm"])
    assert main(["train", "-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion lcsm")


@pytest.mark.parametrize("words", [[], ["install=tcsh"], ["install=bash", "query=bash"], ["query=bash"]])
def test_a_completion_that_nobody_can_give_is_refused(words: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COMP_LINE", raising=False)
    assert main(["train", "--shell-completion", *words]) == 2


def test_a_saved_configuration_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.yaml").write_text("seed: 5\npaths: {root: here}\n")
    assert main(["train", f"--config-path={tmp_path}", "--config-name=config", "--cfg=job"]) == 0
    assert capsys.readouterr().out == "seed: 5\npaths:\n  root: here\n"


def test_the_whole_error_is_shown_on_request(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="oscillation=dig"):
        main(["train", "oscillation=dig"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("behind", "word", "status", "said"),
    [
        (">&-", "--help", 0, ""),
        (">/dev/full", "--help", 1, "lcsm: cannot write: No space left on device; make room\n"),
        ("2>&-", "trian", 2, ""),
        ("2>/dev/full", "trian", 2, ""),
        ("<&- >&- 2>&-", "trian", 2, ""),
    ],
)
def test_what_nobody_takes_changes_no_status_and_is_no_traceback(
    behind: str, word: str, status: int, said: str, unbuffered: str
):
    shell = ["bash", "-c", f'"$@" {behind}', "bash", sys.executable, "-m", "lcsm", word]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run(shell, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (status, said)
