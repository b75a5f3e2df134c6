"""Every named model in one table: its stages, structure, algorithm, state, size, golden cases and paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lcsm.commands.describe import describe
from lcsm.config.compose import make_plan
from lcsm.config.locate import conf_directory, options
from lcsm.errors import UsageError

# What the table assumes where the command line says nothing.
DEFAULTS = ("task=lm", "model.d_model=256")
COLUMNS = {
    "model": "model",
    "expand": "expand",
    "oscillation": "oscillation",
    "shrink": "shrink",
    "structure": "structure",
    "algorithm": "algorithm",
    "state_size": "state",
    "mixer_parameters": "mixer",
    "layer_parameters": "layer",
    "golden": "golden",
    "paper": "paper",
}
# The golden cases in which the tests replay each model, by level; `python -m tests.golden.presets` writes it.
GOLDEN = Path(__file__).with_name("golden.json")
LEVELS = {"operator": "operator", "stage": "stage", "layer": "layer", "matrix": "matrix", "model": "checkpoint"}
NUMBERS = ("state_size", "mixer_parameters", "layer_parameters")
INTRODUCTION = """# Named models

Written by `lcsm show --all --format markdown`; do not edit it, renew it with `make docs`.

One row per `model=<name>`, with the options that it chooses. `lcsm show model=<name>` explains structure and
algorithm and gives the cost of every algorithm that fits; [stages.md](stages.md) has the equations of the EOS paper's
options, and every file in `conf` begins with what it is. `structure` names the axes along which decay, phase and gain
vary, with `*` and `+` as in stages.md: `LHN` is a value per token, head and row. `state` counts the real numbers that
one sequence carries through one layer, `mixer` the parameters of the token mixer, `layer` those of the layer with
channel mixer and norms.
Settings: `{settings}`, else those of the presets; position {length}; the second layer, and of hybrids the second that
is no attention. A model for classification is counted the same way, although it sees the next token and `task=lm`
refuses to train it.

`golden` says what of a model the tests compare with numbers that a public reference implementation gave, at the sizes
and with the activations and constants of the golden cases: `operator` is the recurrence with given factors, `stage` a
part of a layer, `layer` the token mixer with its projections, `matrix` a matrix at initialisation, `checkpoint` a whole
model. `none`: the model is compared with this project's own loop over time only. `tests/golden/cases` has the cases.
"""


def settings(words: Sequence[str]) -> list[str]:
    """The words of the command line after the defaults that they leave alone.

    Raises:
        UsageError: the words choose a model or a sweep.
    """
    keys = {word.partition("=")[0] for word in words}
    if "model" in keys or "-m" in keys or "--multirun" in keys:
        raise UsageError("lcsm show --all describes every model: leave out model=... and -m")
    return [*(word for word in DEFAULTS if word.partition("=")[0] not in keys), *words]


def names() -> dict[str, str]:
    """The named models and the first comments of their files, which name the papers."""
    return options(conf_directory())["model"]


def golden(name: str) -> str:
    """The levels at which golden cases replay a model, from parts to the whole, or "none"."""
    found = json.loads(GOLDEN.read_text(encoding="utf-8")).get(name, {})
    return ", ".join(text for level, text in LEVELS.items() if level in found) or "none"


def row(name: str, words: Sequence[str], length: int | None) -> dict[str, Any]:
    """The cells of one model, by the keys of `COLUMNS`.

    Args:
        name: option of the group `model`.
        words: further words of the command line, such as those of `settings`.
        length: position at which state and cost are given; None takes that of the data.
    """
    from lcsm.commands.assemble import sizes

    config = make_plan([f"model={name}", *words]).jobs[0].config
    pattern = config["model"]["pattern"]
    config["model"]["num_layers"] = 2 * len(pattern)
    vocab_size, of_data, labels = sizes(config)
    layers = describe(config, vocab_size, length or of_data, labels)["layers"]
    layer = layers[len(pattern) + (pattern.index("main") if "main" in pattern else 0)]
    chosen = {group: config["choices"].get(group, "none") for group in ("expand", "oscillation", "shrink")}
    others = [which for which in dict.fromkeys(pattern) if which != "main"]
    return {
        "model": name,
        **chosen,
        "structure": layer["structure"],
        "algorithm": layer["algorithm"],
        "state_size": layer["state_size"],
        "mixer_parameters": layer["mixer_parameters"],
        "layer_parameters": layer["parameters"],
        "golden": golden(name),
        "paper": names()[name] + "".join(f"; with {which} layers" for which in others),
    }


def document(words: Sequence[str], length: int, rows: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown, with what stands above it."""
    above = INTRODUCTION.format(settings=" ".join(words), length=length)
    return "\n".join([above, *header(), *map(line, rows), ""])


def header() -> Iterator[str]:
    """The first two lines of the table in Markdown."""
    yield f"| {' | '.join(COLUMNS.values())} |"
    yield f"| {' | '.join('---:' if key in NUMBERS else '---' for key in COLUMNS)} |"


def line(cells: dict[str, Any]) -> str:
    """A row in Markdown, with links to the papers."""
    texts = {key: f"{cells[key]:,}" if key in NUMBERS else str(cells[key]).replace("|", "/") for key in COLUMNS}
    texts["paper"] = re.sub(r"\b(\d{4}\.\d{5})\b", r"[\1](https://arxiv.org/abs/\1)", texts["paper"])
    return f"| {' | '.join(texts.values())} |"
