"""The card of a model that a configuration makes."""

from __future__ import annotations

from typing import Any

from lcsm.errors import UsageError


def check_length(length: int) -> None:
    """Refuse a position before the first token."""
    if length < 1:
        raise UsageError(f"length={length} must be at least 1")


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
