"""Composes configurations for tests, in process."""

from functools import cache
from pathlib import Path
from typing import Any

from lcsm.config.compose import make_plan

CONF = Path(__file__).parent.parent / "conf"
SMALL = ("model.d_model=8", "mixer.num_heads=2", "mixer.state_dim=4", "model.num_layers=1")


def options(group: str) -> list[str]:
    """The names of a group's options, without `none`."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "none")


def small(*overrides: str) -> tuple[str, ...]:
    """The overrides on top of tiny sizes; attention takes no sizes of a memory."""
    sizes = [word for word in SMALL if "model=attention" not in overrides or not word.startswith("mixer.")]
    return (*sizes, *overrides)


@cache
def compose(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of one run."""
    return make_plan(overrides).jobs[0].config
