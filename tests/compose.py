"""Composes configurations for tests, in process."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lcsm.config.check import check_config
from lcsm.config.compose import Composer, make_plan, read_arguments
from lcsm.config.schemas import STAGES
from lcsm.config.shipped import load

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
    """The resolved configuration of one run.

    Hydra takes a fifth of a second, so that options of stages, and all settings, are set on what it makes of the other
    words; `tests/config/test_composition.py` compares the two.
    """
    algorithm = next((word for word in overrides if word.startswith("mixer.algorithm=")), None)
    if algorithm is not None:
        config = compose(*(word for word in overrides if word != algorithm))
        return config | {"mixer": config["mixer"] | {"algorithm": algorithm.partition("=")[2]}}
    quick = [word for word in overrides if is_quick(word)]
    if not quick or any(word.startswith(("+", "~", "-")) for word in overrides):
        return make_plan(overrides).jobs[0].config
    config = copy.deepcopy(composed(*(word for word in overrides if word not in quick)))
    with read_write(config), open_dict(config):
        # choices first, wherever they stand
        for word in sorted(quick, key=lambda word: "." in word.partition("=")[0]):
            override = OverridesParser.create().parse_override(word)
            path, value = override.key_or_group, override.value()
            if path in STAGES:
                config[path] = load(path, value)
                config.hydra.runtime.choices[path] = value
            else:
                OmegaConf.update(config, path, value)
    found = Composer(read_arguments(())).resolve(config, overrides)
    check_config(found)
    return found


@cache
def composed(*overrides: str) -> DictConfig:
    """What Hydra composes of some words, not resolved yet."""
    with Composer(read_arguments(overrides)) as composer:
        return composer.compose(overrides)


def is_quick(word: str) -> bool:
    """Whether a word chooses a stage, or sets a value."""
    path = word.partition("=")[0]
    return path in STAGES or not (CONF / path).is_dir()
