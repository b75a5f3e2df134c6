"""The table of options, `docs/options.md`, is what `lcsm show --options` prints."""

import json
from pathlib import Path

import pytest

from lcsm.commands import options_table as table
from lcsm.commands.show import run
from lcsm.config.compose import make_plan
from lcsm.config.schemas import MIXER_GROUPS
from tests.commands.helpers import said
from tests.compose import options

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
RENEW = "docs/options.md is out of date: run make docs (lcsm show --options --format markdown > docs/options.md)"


def test_the_page_describes_every_option_as_it_is():
    assert PAGE.read_text(encoding="utf-8") == table.document(table.rows()), RENEW


def test_every_option_of_a_mixer_and_its_stages_has_a_row():
    found = [(row["group"], row["option"]) for row in table.rows()]
    assert sorted(found) == sorted((group, option) for group in MIXER_GROUPS for option in options(group))


@pytest.mark.parametrize("name", ["lcsm", "griffin"])
def test_the_models_of_an_option_are_those_that_compose_with_it(name: str):
    choices = make_plan([f"model={name}"]).jobs[0].config["choices"].items()
    chosen = {(key.partition("@")[0], option) for key, option in choices}
    found = {(row["group"], row["option"]) for row in table.rows() if name in row["models"]}
    assert {pair for pair in chosen if pair[0] in MIXER_GROUPS} == found


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_options_are_printed_in_each_form(form: str, capsys: pytest.CaptureFixture[str]):
    assert run(["--options", f"format={form}"]) == 0
    output = capsys.readouterr().out
    assert all(text in output for text in ("oscillation", "complex_decay", "ComplexDecay"))
    assert form != "json" or json.loads(output)[0]["group"] == "mixer"


def test_a_word_that_the_options_cannot_take_is_refused(capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "show", "--options", "model=gla")
    assert status == 2 and "model=gla" in message
