"""Every option of the mixer and its stages in one table: its class, the models that choose it and what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import OmegaConf

from lcsm.config.locate import conf_directory, options
from lcsm.config.schemas import MIXER_GROUPS
from lcsm.config.shipped import load

COLUMNS = ("option", "class", "models", "what it is")
INTRODUCTION = """# Options of the mixer and its stages

Written by `lcsm show --options --format markdown`; do not edit it, renew it with `make docs`.

Which class an option sets, and which named models choose it; [models.md](models.md) has the stages of every model, and
[stages.md](stages.md) the equations of the EOS paper's options and the variants that no model chooses.
"""


def rows() -> list[dict[str, Any]]:
    """A row per option that names a class: its group, name, class, file, models and first comment."""
    described, users = options(conf_directory()), choosers()
    found = []
    for group in MIXER_GROUPS:
        for option, text in described[group].items():
            node = load(group, option)
            if node:
                module, _, component = node["_target_"].rpartition(".")
                file, models = module.replace(".", "/") + ".py", users.get((group, option), [])
                row = {"group": group, "option": option, "class": component, "file": file}
                found.append(row | {"models": models, "what it is": text})
    return found


def choosers() -> dict[tuple[str, str], list[str]]:
    """The named models by what their files choose: group and option, of the layers of a second mixer too."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((conf_directory() / "model").glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(node, dict)
        for word, option in (pair for entry in node["defaults"] for pair in entry.items()):
            group = word.removeprefix("override ").removeprefix("/").partition("@")[0]
            found.setdefault((group, option), []).append(path.stem)
    return found


def document(rows: Sequence[dict[str, Any]]) -> str:
    """The tables in Markdown, one per group, with what stands above them."""
    return "\n".join([INTRODUCTION, *lines(rows)])


def lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines of the tables."""
    for group in MIXER_GROUPS:
        yield from (f"## {group}", "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}")
        for row in rows:
            if row["group"] == group:
                option = f"[{row['option']}](../conf/{group}/{row['option']}.yaml)"
                text = row["what it is"].replace("|", "/")
                yield f"| {option} | [{row['class']}](../{row['file']}) | {', '.join(row['models'])} | {text} |"
        yield ""
