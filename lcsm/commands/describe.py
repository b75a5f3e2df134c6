"""The card of a model that a configuration makes, and the sizes that it takes from the data."""

from __future__ import annotations

from typing import Any

from lcsm.errors import UsageError

BYTES = 257
# data that have a label for each sequence
LABELLED = "lcsm.data.labelled."


def sizes(config: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Vocabulary, length and kind of labels that the data have, as far as that is known before they are read."""
    data = config["data"]
    if not data["_target_"].startswith(LABELLED):
        return data.get("vocab_size") or default_vocabulary(data), data.get("length") or 1024, {}
    from lcsm.commands.assemble import build_datamodule

    datamodule = build_datamodule(config)
    return datamodule.vocab_size, datamodule.length, datamodule.kind()


def check_length(length: int) -> None:
    """Refuse a position before the first token."""
    if length < 1:
        raise UsageError(f"length={length} must be at least 1")


def default_vocabulary(data: dict[str, Any]) -> int:
    """Token ids of a text whose vocabulary has the size of its tokenizer."""
    if data.get("tokenizer") != "bpe":
        return BYTES
    from lcsm.data.text import TextData

    return TextData.BPE_SIZE


def describe(config: dict[str, Any], vocab_size: int, length: int, labels: dict[str, Any]) -> dict[str, Any]:
    """The card of a model that is built without memory for its parameters."""
    import torch

    from lcsm.inspection import card
    from lcsm.models.build import build_for

    check_length(length)
    if vocab_size < 2 and not labels:
        raise UsageError(f"vocab_size={vocab_size} must be at least 2")
    with torch.device("meta"):
        return card(build_for(config, vocab_size, labels), length)
