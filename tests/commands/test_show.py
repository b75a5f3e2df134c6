import json
from collections.abc import Iterator

import pytest

from lcsm.config.compose import make_plan
from lcsm.config.schemas import MIXER_GROUPS
from lcsm.models.build import build_model
from tests.commands.helpers import said
from tests.compose import CONF


def card(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    status, output, _ = said(capsys, "show", "--format", "json", *words)
    assert status == 0
    return json.loads(output)


@pytest.mark.parametrize("words", [[], ["model=attention"], ["oscillation=dense", "mixer.state_dim=8"]])
def test_the_card_counts_the_parameters_of_the_model(words: list[str], capsys: pytest.CaptureFixture[str]):
    model = build_model(make_plan(words).jobs[0].config, 256)
    assert card(capsys, *words)["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_state_of_attention_grows_with_the_position_and_ours_does_not(capsys: pytest.CaptureFixture[str]):
    ours = [card(capsys, f"length={length}")["state_size"] for length in (64, 128)]
    attention = [card(capsys, "model=attention", f"length={length}")["state_size"] for length in (64, 128)]
    assert ours[0] == ours[1] and attention[1] == 2 * attention[0]


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_every_stage_is_named_with_its_axes(form: str, capsys: pytest.CaptureFixture[str]):
    _, output, _ = said(capsys, "show", f"format={form}")
    for text in ("oscillation", "Gate", "[B L H N 1]", "chunk", "FLOPs per token", "real numbers"):
        assert text in output


@pytest.mark.parametrize("form", ["text", "markdown"])
@pytest.mark.parametrize("words", [["model=rwkv7"], ["model=h3"], ["model=griffin", "model.num_layers=3"]])
def test_every_setting_of_every_part_stands_on_the_page(
    form: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "100")
    _, output, _ = said(capsys, "show", f"format={form}", *words)
    config = make_plan(words).jobs[0].config
    groups = [config, *config["mixers"].values()]
    names = [name for node in groups for group in MIXER_GROUPS for name in settings(node.get(group) or {})]
    assert [name for name in names if f"{name}=" not in output] == []
    assert form == "markdown" or max(map(len, output.splitlines())) <= 100


def settings(node: dict) -> Iterator[str]:
    """The names of the settings of a node, those inside it too."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from settings(value)
        elif name != "_target_":
            yield name


def test_every_part_names_its_option_its_file_and_its_symbol(capsys: pytest.CaptureFixture[str]):
    parts = card(capsys, "model=mamba2")["layers"][0]["parts"]
    assert all(f"class {part['class']}(" in (CONF.parent / part["file"]).read_text() for part in parts)
    found = {part["part"]: (part["option"], part["symbol"]) for part in parts}
    assert found["oscillation"] == ("mamba2", ["A, decay", "dt, beta"])
    assert found["expand"] == ("mamba2", ["k, B"]) and found["input"][1] == ["v, x"]


def test_a_hybrid_names_the_options_of_each_mixer(capsys: pytest.CaptureFixture[str]):
    layers = card(capsys, "experiment=hybrid")["layers"]
    assert [[part["option"] for part in layer["parts"] if part["part"] == "mixer"] for layer in layers] == [
        ["eos"],
        ["attention"],
    ]


def test_a_hybrid_shows_its_layers_apart(capsys: pytest.CaptureFixture[str]):
    layers = card(capsys, "experiment=hybrid")["layers"]
    assert [layer["mixer"] for layer in layers] == ["EosMixer", "Attention"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-m", "seed=1,2"], "one model"),
        (["oscillation=dig"], "diag"),
        (["vocab_size=1"], "vocab_size=1"),
        (["vocab_size=0"], "vocab_size=0"),
        (["length=0"], "length=0"),
        (["--all", "length=0"], "length=0"),
        (["normaliser=denominator", "oscillation=diag_outer"], "denominator"),
        (["mixer.algorithm=convolution"], "convolution"),
    ],
)
def test_a_mistake_is_one_message(words: list[str], named: str, capsys: pytest.CaptureFixture[str]):
    status, _, message = said(capsys, "show", *words)
    assert status == 2 and named in message and len(message.splitlines()) <= 3


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_every_way_to_run_has_its_cost_and_the_chosen_one_a_reason(
    form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "160")
    _, output, _ = said(capsys, "show", f"format={form}", "model=ldnn", "length=4096")
    for text in ("lock-step scan", "associative scan", "recurrent steps", "O(L N max(D, log L))", "one table of its"):
        assert text in output


def test_an_algorithm_that_was_asked_for_says_so(capsys: pytest.CaptureFixture[str]):
    layer = card(capsys, "model=ldnn", "mixer.algorithm=convolution")["layers"][0]
    assert layer["algorithm"] == "convolution" and "asks for it" in layer["why"]


def test_matrices_between_channels_and_modes_are_counted(capsys: pytest.CaptureFixture[str]):
    layer = card(capsys, "model=ldnn", "model.d_model=32", "mixer.state_dim=8")["layers"][0]
    # B and C are real, with two operations per entry; mixer.output is half a gate of 32 x 32
    assert layer["flops_per_token"] == 2 * (2 * 32 * 8 + 32 * 32) + 4 * 8 * 5


def test_memories_of_stages_are_counted(capsys: pytest.CaptureFixture[str]):
    words = ("model.d_model=8", "mixer.num_heads=2", "mixer.state_dim=3", "channel=none")
    layer = card(capsys, "model=gsa", *words)["layers"][0]
    # query, key, slots, value, output; the gate is the activation; two memories of 2 heads with 3 x 4 entries each
    projections = 2 * (3 * 8 * 8 + 8 * 6 + 8 * 8)
    assert layer["flops_per_token"] == projections + 2 * (2 * 3 * 4 * 5)


def test_a_vocabulary_that_is_still_to_be_learnt_has_the_size_it_is_asked_for(capsys: pytest.CaptureFixture[str]):
    words = ("task=lm", "data=text", "data.train_files=a.txt", "data.val_files=b.txt", "data.tokenizer=bpe")
    assert card(capsys, *words)["vocab_size"] == 4096
