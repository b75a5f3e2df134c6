"""Changes to the checkpoints of finished runs, for cases to be made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Change = Callable[[Path], Any]
BEST, LAST = "run/checkpoints/best.ckpt", "run/checkpoints/last.ckpt"


def rewritten(change: Callable[[dict[str, Any]], Any], name: str = BEST) -> Change:
    """Changes the content of a checkpoint in place; what is returned, if anything, takes its place."""

    def apply(work: Path) -> None:
        content = torch.load(work / name, weights_only=True)
        new = change(content)
        torch.save(content if new is None else new, work / name)

    return apply


def with_header(**values: Any) -> Change:
    """Sets entries of the header."""
    return rewritten(lambda content: content["lcsm"].update(values))


def with_config(**values: Any) -> Change:
    """Sets values of the configuration in the header, `data__length` for `data.length`."""

    def change(content: dict[str, Any]) -> None:
        config = json.loads(content["lcsm"]["config"])
        for key, value in values.items():
            *path, last = key.split("__")
            node = config
            for part in path:
                node = node[part]
            node[last] = value
        content["lcsm"]["config"] = json.dumps(config)

    return rewritten(change)


def with_weights(change: Callable[[torch.Tensor], Any]) -> Change:
    """Changes every weight of the model."""

    def apply(content: dict[str, Any]) -> None:
        for name, value in content["state_dict"].items():
            content["state_dict"][name] = change(value)

    return rewritten(apply)


def with_tokenizer(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Changes the definition of a trained tokeniser; what is returned, if anything, takes its place."""

    def apply(content: dict[str, Any]) -> None:
        state = json.loads(content["lcsm"]["tokenizer"])
        definition = json.loads(state["json"])
        new = change(definition)
        state["json"] = json.dumps(definition if new is None else new)
        content["lcsm"]["tokenizer"] = json.dumps(state)

    return rewritten(apply)


def with_bytes(change: Callable[[bytes], bytes], name: str = BEST) -> Change:
    """Changes a file byte by byte; the names of a file with several become files of their own."""

    def apply(work: Path) -> None:
        content = (work / name).read_bytes()
        (work / name).unlink()
        (work / name).write_bytes(change(content))

    return apply


def flipped(content: bytes, position: int, bit: int) -> bytes:
    """One bit turned over."""
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def flipped_name(content: bytes) -> bytes:
    """The highest bit of a letter turned over in a file name of the archive's directory: no UTF-8 any more."""
    entry = content.rindex(b"PK\x01\x02")
    return flipped(content, entry + 46 + 3, 7)
