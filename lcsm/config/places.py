"""Places that a run may write to: names are plain, and what a file says stays below `paths.root`."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from lcsm.errors import UsageError

# File systems take this many bytes for one name.
LONGEST = 255
# Characters of a value that a message shows.
SHOWN = 60


def check_places(config: DictConfig, own: Container[str]) -> None:
    """Whether the names and folders of a composed configuration can be used, and may be.

    Args:
        config: with Hydra's own node, which has to be the current one of `HydraConfig`.
        own: keys that the command line sets; it may write anywhere.
    Raises:
        UsageError: a name is no plain one, a folder is empty, or a file writes outside `paths.root`.
    """
    # alone, so that a fault is found under its own key; it is part of the directory's name
    check_name("name", OmegaConf.select(config, "name", throw_on_missing=True))
    if config.hydra.output_subdir is not None:
        check_name("hydra.output_subdir", config.hydra.output_subdir)
    root = folder(config, "paths.root")
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        place = folder(config, key)
        if key not in own and not place.is_relative_to(root):
            raise UsageError(
                f"{key}={place} stands in a file and lies outside paths.root={root}:\n"
                f"write it on the command line, or set paths.root"
            )


def check_name(key: str, value: Any) -> None:
    """Refuse what is more, or less, than the name of one folder."""
    text = str(value)
    plain = text.isprintable() and not any(part in text for part in ("/", "..", "${")) and text != "."
    if not (plain and 0 < len(text.encode(errors="replace")) <= LONGEST):
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        raise UsageError(
            f"{key}={shown!r} must name one folder: without / and .., of 1 to {LONGEST} bytes, no control characters"
        )


def folder(config: DictConfig, key: str) -> Path:
    """The absolute path that a key holds."""
    value = OmegaConf.select(config, key, throw_on_missing=True)
    text = "" if value is None else str(value)
    if not text.strip() or not text.isprintable() or "${" in text:
        raise UsageError(f"{key}={text!r} names no folder: e.g. {key}=runs")
    return Path(os.path.abspath(text))


def word(key: str, place: Path) -> str:
    """The word that sets a folder to the place that was checked, whatever it is made of."""
    return f"{key}={QuotedString(str(place), Quote.single).with_quotes()}"
