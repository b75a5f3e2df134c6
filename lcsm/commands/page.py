"""A model on one page: every part with its option, class, file and settings, and what the literature calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lcsm.config.schemas import STAGES

Node = dict[str, Any]

# What the literature calls the stages, and the gain that an oscillation puts on what is written.
SYMBOLS = {"input": "v, x", "expand": "k, B", "oscillation": "A, decay", "shrink": "q, C"}
GAIN = "dt, beta"
EQUATIONS = (
    "memory_t = oscillation_t(memory_{t-1}) + gain_t expand_t input_t^T; output_t = memory_t^T shrink_t\n"
    "The memory is the state of the literature, the gain a step size (dt), beta or an input gate."
)
COLUMNS = ("part", "symbol", "option", "class", "file", "shape", "parameters", "settings")


def parts(config: Node, layer: int, stages: dict[str, Node]) -> list[Node]:
    """The parts of one layer, the stages first.

    Args:
        config: the resolved configuration.
        layer: its index.
        stages: what the card of the layer says of its stages: class, axes and parameters.
    Returns:
        Per part its name, symbols, option ("" where it is not known), class, file, settings as words of the command
        line, and of a stage its shape and parameters.
    """
    pattern = config["model"]["pattern"]
    which = pattern[layer % len(pattern)]
    groups = config if which == "main" else config["mixers"][which]
    place = "{}" if which == "main" else f"{{}}@mixers.{which}.{{}}"
    choices = config.get("choices") or {}
    found = []
    for name, node in nodes(groups, config.get("channel")):
        stage, target = stages.get(name, {}), node["_target_"]
        module, _, component = target.rpartition(".")
        key = name if name == "channel" else place.format(name, name)
        found.append(
            {
                "part": name,
                "symbol": [SYMBOLS.get(name, ""), *([GAIN] if "gain" in stage.get("axes", "") else [])],
                "option": choices.get(key, ""),
                "class": component,
                "file": module.replace(".", "/") + ".py",
                "shape": stage.get("axes", ""),
                "parameters": stage.get("parameters"),
                "settings": list(settings(node)),
            }
        )
    return found


def nodes(groups: Node, channel: Node | None) -> Iterator[tuple[str, Node]]:
    """Every part of a layer that has a class, with its settings."""
    yield from ((name, groups[name]) for name in STAGES if groups.get(name))
    inner = {name: value for name, value in groups["mixer"].items() if isinstance(value, dict) and "_target_" in value}
    yield "mixer", {key: value for key, value in groups["mixer"].items() if key not in inner}
    yield from ((f"mixer.{name}", value) for name, value in inner.items())
    if channel:
        yield "channel", channel


def settings(node: Node, prefix: str = "") -> Iterator[str]:
    """The settings of a node as words of the command line, without its class and its name."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from settings(value, f"{prefix}{key}.")
        elif prefix or key != "_target_":
            yield f"{prefix}{key}={written(value)}"


def written(value: Any) -> str:
    """A value as the command line takes it."""
    return json.dumps(value, separators=(",", ":")).replace('"', "")


def cells(part: Node) -> tuple[str, str, str]:
    """Name, symbols and description of a part, in lines."""
    named = f"{part['option']}: " if part["option"] else ""
    lines = [f"{named}{part['class']} in {part['file']}"]
    if part["parameters"] is not None:
        shape = f"{part['shape']}, " if part["shape"] else ""
        lines.append(f"{shape}{part['parameters']:,} parameters")
    if part["settings"]:
        lines.append(" ".join(part["settings"]))
    return part["part"], "\n".join(part["symbol"]), "\n".join(lines)


def row(part: Node) -> str:
    """A part as a row of a table in Markdown."""
    texts = [
        part["part"],
        "; ".join(filter(None, part["symbol"])),
        part["option"],
        part["class"],
        f"`{part['file']}`",
        part["shape"],
        "" if part["parameters"] is None else f"{part['parameters']:,}",
        " ".join(f"`{word}`" for word in part["settings"]),
    ]
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
