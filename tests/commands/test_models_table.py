"""The table of named models, `docs/models.md`, is what `lcsm show --all` prints."""

from pathlib import Path

import pytest

from lcsm.commands import models_table as table
from lcsm.commands.show import run
from tests.commands.helpers import said
from tests.compose import options

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
RENEW = "docs/models.md is out of date: run make docs (lcsm show --all --format markdown > docs/models.md)"


def lines() -> list[str]:
    return PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", options("model"))
def test_the_page_describes_the_model_as_it_is(name: str):
    assert table.line(table.row(name, table.DEFAULTS, 1024)) in lines(), RENEW


def test_the_page_has_a_row_for_every_model_and_no_other():
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines() if line.startswith("| ")]
    assert rows[2:] == options("model"), RENEW
    assert PAGE.read_text(encoding="utf-8").startswith(table.document(table.DEFAULTS, 1024, [])), RENEW


def test_every_paper_is_named_in_the_file_of_its_model():
    assert [name for name, text in table.names().items() if "arXiv" not in text] == []


def test_settings_of_the_command_line_replace_the_defaults():
    assert table.settings(["model.d_model=64"]) == ["task=lm", "model.d_model=64"]
    small, large = (table.row("gla", ["task=mqar", f"model.d_model={width}"], 64) for width in (32, 64))
    assert small["state_size"] < large["state_size"] and small["oscillation"] == "gla"


def test_a_hybrid_shows_the_layer_that_is_no_attention():
    cells = table.row("griffin", table.DEFAULTS, 1024)
    assert cells["algorithm"] == "elementwise" and cells["paper"].endswith("with window layers")


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_all_prints_every_model_in_each_form(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(table, "names", lambda: {"gla": "GLA", "mamba": "Mamba"})
    status = run(["--all", "format=" + form])
    output = capsys.readouterr().out
    assert status == 0 and "gla" in output and "mamba" in output and "chunk" in output


@pytest.mark.parametrize(("word", "named"), [("model=gla", "every model"), ("vocab_size=9", "vocab_size")])
def test_a_word_that_all_cannot_take_is_refused(word: str, named: str, capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "show", "--all", word)
    assert status == 2 and named in message
