import csv
import json
from pathlib import Path

import pytest
import torch

from lcsm.cli import main
from tests.commands.helpers import TINY, run_directory, said

TEXT = "Über Land, "


@pytest.fixture(scope="module")
def tnn_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny TNN that knows its text.

    Its first token leads the second by a nat and more, where those of a model that has learnt nothing nearly tie: a
    conversion moves logits by a thousandth.
    """
    root = tmp_path_factory.mktemp("tnn")
    (root / "text.txt").write_text(TEXT * 700, encoding="utf-8")
    words = ["task=lm", "data=text", f"data.train_files={root / 'text.txt'}", f"data.cache_dir={root / 'cache'}"]
    words += ["data.val_lengths=[1,4]", "callbacks.samples=null", f"paths.root={root / 'runs'}", "model=tnn"]
    words += ["mixer.state_dim=64", "optim.lr=0.02", "trainer.max_steps=80", "trainer.val_check_interval=40"]
    assert main(["train", *(word for word in TINY if "mixer" not in word), *words]) == 0
    return run_directory(root / "runs")


@pytest.fixture(autouse=True)
def _own_runs(tnn_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is one of the user's own, so that its text is read without being named again."""
    monkeypatch.setenv("LCSM_RUNS", str(tnn_run.parents[1]))


Measured = tuple[dict[str, float], str]


def measure(path: Path, capsys: pytest.CaptureFixture[str]) -> Measured:
    """The scores of a checkpoint and what it writes."""
    scores = json.loads(said(capsys, "evaluate", f"ckpt={path}", "--format", "json")[1].splitlines()[-1])
    text = said(capsys, "generate", f"ckpt={path}", "prompt=Über ", "num_tokens=50", "temperature=0")[1]
    return scores, text


@pytest.fixture(scope="module")
def before() -> dict[Path, Measured]:
    """What is measured of a run before it is converted, filled by the first test that needs it."""
    return {}


# tests/conversion has every method on models; two of them are enough for the command
@pytest.mark.parametrize(
    "method",
    [pytest.param("etsc", marks=pytest.mark.slow), pytest.param("modal", marks=pytest.mark.slow), "hybrid", "auto"],
)
def test_a_converted_checkpoint_scores_and_writes_as_before(
    method: str, tnn_run: Path, before: dict[Path, Measured], capsys: pytest.CaptureFixture[str]
):
    out = tnn_run / f"checkpoints/{method}.ckpt"
    words = [f"ckpt={tnn_run}", f"method={method}", "tolerance=1e-4"]
    assert said(capsys, "convert", *words, f"out={out}")[0] == 0
    if tnn_run not in before:
        before[tnn_run] = measure(tnn_run, capsys)
    (expected, text), (scores, again) = before[tnn_run], measure(out, capsys)
    names = [name for name in scores if name.startswith("val/perplexity")]
    assert len(names) == 2 and all(scores[name] == pytest.approx(expected[name], rel=1e-3) for name in names)
    assert text == again and 3 * TEXT in text


def test_the_report_says_what_was_done(tnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.ckpt"
    status, output, _ = said(capsys, "convert", f"ckpt={tnn_run}", "tolerance=1e-3", f"out={out}")
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert status == 0 and "val/perplexity" in output and "Holds" in output
    assert len(rows) == 4 and all(0 < float(row["kernel_error"]) <= 1e-3 for row in rows)
    assert all(int(row["least_max"]) <= int(row["order_max"]) + int(row["taps"]) for row in rows)
    assert all(float(row["output_error"]) < 1e-3 for row in rows)
    assert "| val/perplexity |" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("stream", ["ring", "tiles", "etsc", "modal", "hybrid"])
def test_every_stream_writes_the_same_text(stream: str, tnn_run: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"ckpt={tnn_run}", "prompt=a", "num_tokens=40", "temperature=0"]
    texts = [said(capsys, "generate", *words, f"stream={name}")[1] for name in ("auto", stream)]
    assert texts[0] == texts[1] and 3 * TEXT in texts[0]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["method=prony"], ["method=prony", "modal"]),
        (["tolerance=0"], ["tolerance=0"]),
        (["lags=0"], ["lags=0"]),
        (["max_order=0"], ["max_order=0"]),
        (["tolerence=1"], ["tolerence", "tolerance"]),
        (["data.val_flies=x"], ["data.val_flies", "val_files"]),
        (["measure=false", "data.val_files=x"], ["measure=false"]),
        (["out=."], ["out=.", "directory"]),
        (["out=report.md"], ["out=report.md", ".ckpt"]),
        (["out=/proc/1/x/y.ckpt"], ["out=/proc/1/x/y.ckpt", "another folder"]),
        (["tolerance=1"], ["tolerance=1.0", "between 0 and 1"]),
        (["method=modal", "tolerance=1e-12"], ["misses tolerance=1e-12", "stream=tiles"]),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], named: list[str], tnn_run: Path, capsys: pytest.CaptureFixture[str]
):
    status, _, message = said(capsys, "convert", f"ckpt={tnn_run}", *words)
    assert status == 2 and all(name in message for name in named) and len(message.splitlines()) <= 3


def test_few_lags_and_missed_tolerances_are_said(tnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (f"ckpt={tnn_run}", "lags=1", "tolerance=1e-12", "measure=false", f"out={tmp_path / 'one.ckpt'}")
    status, text, _ = said(capsys, "convert", *words)
    text = " ".join(text.split())
    assert status == 0 and "although the convolution remembers 64" in text and (tmp_path / "one.png").exists()
    with (tmp_path / "one.csv").open() as file:
        assert {row["output_error"] for row in csv.DictReader(file)} == {"nan"}


def test_the_source_is_not_written_over(tnn_run: Path, capsys: pytest.CaptureFixture[str]):
    path = tnn_run / "checkpoints/best.ckpt"
    before = path.read_bytes()
    status, _, message = said(capsys, "convert", f"ckpt={path}", f"out={path}")
    assert status == 2 and "choose another file" in message and path.read_bytes() == before


def test_a_recurrent_model_needs_no_conversion(text_run: Path, capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "convert", f"ckpt={text_run}")
    assert status == 2 and "no long convolution" in message


def test_a_converted_checkpoint_holds_plain_data_and_no_kernel(
    tnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out.ckpt"
    assert said(capsys, "convert", f"ckpt={tnn_run}", f"out={out}", "method=etsc", "measure=false")[0] == 0
    content = torch.load(out, weights_only=True)
    names = list(content["state_dict"])
    assert any("eigenvalues" in name for name in names) and not any("network" in name for name in names)


def test_a_text_beyond_what_a_conversion_promises_is_announced_once(
    tnn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out.ckpt"
    assert said(capsys, "convert", f"ckpt={tnn_run}", f"out={out}", "method=modal", "measure=false")[0] == 0
    assert "Holds up to 64 tokens" in out.with_suffix(".md").read_text()
    words = [f"ckpt={out}", "prompt=ab", "temperature=0"]
    # 64 tokens are read where 65 are there
    assert said(capsys, "generate", *words, "num_tokens=63")[2] == ""
    status, _, message = said(capsys, "generate", *words, "num_tokens=64")
    assert status == 0 and message.count("holds for 64 tokens") == 1 and "lags=66" in message
    assert said(capsys, "generate", f"ckpt={tnn_run}", "prompt=ab", "num_tokens=70")[2] == ""
