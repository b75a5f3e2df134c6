import io
import json
from pathlib import Path

import pytest
import torch

from lcsm.commands.generate import decoded, write_stream
from lcsm.data.tokenizer import train_bpe
from tests.commands.helpers import said


def test_a_text_is_continued_by_the_asked_number_of_tokens(text_run: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"ckpt={text_run}", "prompt=Über ", "num_tokens=12", "temperature=0"]
    status, output, _ = said(capsys, "generate", *words)
    assert status == 0 and output.startswith("Über ") and output.endswith("\n") and len(output) > len("Über \n")


def test_the_seed_decides_the_text(text_run: Path, capsys: pytest.CaptureFixture[str]):
    texts = [
        said(capsys, "generate", f"ckpt={text_run}", "prompt=a", "num_tokens=30", f"seed={seed}")[1]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_the_smallest_temperature_takes_the_most_likely_tokens(text_run: Path, capsys: pytest.CaptureFixture[str]):
    words = [f"ckpt={text_run}", "prompt=a", "num_tokens=8"]
    texts = [said(capsys, "generate", *words, f"temperature={value}")[1] for value in ("1e-45", "5e-324", "0")]
    assert texts[0] == texts[1] == texts[2]


def test_the_prompt_may_come_from_standard_input(
    text_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO("Wolken"))
    assert said(capsys, "generate", f"ckpt={text_run}", "prompt=-", "num_tokens=1")[1].startswith("Wolken")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["prompt="], "prompt"),
        (["prompt=a", "num_tokens=0"], "num_tokens=0"),
        (["prompt=a", "temperature=-1"], "temperature=-1"),
        (["prompt=a", "top_p=2"], "top_p=2"),
        (["prompt=a", "seed=-1"], "seed=-1"),
        (["prompt=a", "threads=0"], "threads=0"),
        (["prompt=a", "tolerance=1e-3"], "tolerance=0.001 has no effect with stream=auto"),
        (["prompt=a", "tolerance=5", "stream=modal"], "tolerance=5.0 must lie between 0 and 1"),
        (["prompt=a", "tempreature=1"], "temperature"),
        ([], "prompt is missing"),
    ],
)
def test_a_mistake_is_one_message(words: list[str], named: str, text_run: Path, capsys: pytest.CaptureFixture[str]):
    status, output, message = said(capsys, "generate", f"ckpt={text_run}", *words)
    assert status == 2 and output == "" and named in message and len(message.splitlines()) <= 3


def test_a_model_without_text_is_told_so(recall_run: Path, capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "generate", f"ckpt={recall_run}", "prompt=a")
    assert status == 2 and "not trained on text" in message


@pytest.mark.parametrize(("prompt", "named"), [("a\udcff", "byte 0xff at character 1"), ("\ud83d", "half a character")])
def test_a_prompt_that_is_no_text_is_one_message(
    prompt: str, named: str, text_run: Path, capsys: pytest.CaptureFixture[str]
):
    status, output, message = said(capsys, "generate", f"ckpt={text_run}", f"prompt={prompt}")
    assert status == 2 and output == "" and named in message and len(message.splitlines()) <= 3


def test_a_standard_input_that_is_no_text_is_one_message(
    text_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\xff"), encoding="utf-8"))
    status, _, message = said(capsys, "generate", f"ckpt={text_run}", "prompt=-")
    assert status == 2 and "prompt=-: standard input is no text" in message and len(message.splitlines()) == 1


def test_a_model_that_overflows_is_one_message(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    content = torch.load(text_run / "checkpoints/best.ckpt", weights_only=True)
    content["state_dict"]["model.embedding.weight"] *= 1e38
    torch.save(content, tmp_path / "x.ckpt")
    for temperature in (0, 1):
        words = [f"ckpt={tmp_path / 'x.ckpt'}", "prompt=a", f"temperature={temperature}"]
        status, _, message = said(capsys, "generate", *words)
        assert status == 2 and "after 1 tokens the model gives numbers that are not finite" in message


def test_a_tokenizer_of_another_size_is_one_message(text_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    content = torch.load(text_run / "checkpoints/best.ckpt", weights_only=True)
    content["lcsm"]["tokenizer"] = json.dumps(train_bpe(["a text " * 90], 262).state())
    torch.save(content, tmp_path / "x.ckpt")
    status, _, message = said(capsys, "generate", f"ckpt={tmp_path / 'x.ckpt'}", "prompt=a")
    assert status == 2 and "its tokenizer has 262 ids, its model 257" in message


def test_a_character_in_several_pieces_is_written_when_it_is_complete():
    written: list[str] = []
    write_stream([b"\xc3", b"\x9cber", b"\xe2\x82"], written.append, lambda: None)
    assert [text for text in written if text] == ["Über", "\ufffd"]


def test_bytes_that_are_no_text_are_replaced():
    assert "".join(decoded([b"a\xff", b"b"])) == "a\ufffdb"
