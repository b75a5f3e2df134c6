"""Stages that nobody put together before: each choice is refused in words, or learns from two tokens."""

import random

import pytest

from lcsm.commands.check_model import check_combination
from lcsm.config.schemas import MIXER_GROUPS
from lcsm.errors import UsageError
from lcsm.models.build import rehearse
from tests.compose import compose, options

SIZES = ("mixer.num_heads=2", "mixer.state_dim=4")


def drawn(seed: int, mixers: list[str] | None = None) -> list[str]:
    """One option of every group of a mixer, at the sizes of the option or at small ones."""
    draw = random.Random(seed)
    among = {group: options(group) for group in MIXER_GROUPS} | ({"mixer": mixers} if mixers else {})
    words = [f"{group}={draw.choice(names)}" for group, names in among.items()]
    return ["model.d_model=8", "model.num_layers=2", *words, *draw.choice([(), SIZES])]


def refusals(words: list[str]) -> list[str]:
    """What is said of a choice of stages, [] where it runs there and back."""
    try:
        config = compose(*words)
        check_combination(config)
        rehearse(config)
    except UsageError as error:
        return [str(error)]
    return []


def check(choices: list[list[str]]) -> int:
    """How many choices run; every other one is refused in at most three lines."""
    found = [refusals(words) for words in choices]
    assert all(len(text.splitlines()) <= 3 for texts in found for text in texts)
    return found.count([])


def test_random_stages_run_or_are_refused_in_words():
    # few mixers, as Hydra composes anew for each
    assert check([drawn(seed, ["heads", "channels", "wide_heads"]) for seed in range(40)]) >= 8


@pytest.mark.slow
def test_three_hundred_random_choices_of_stages_run():
    # mixers without stages refuse them all
    mixers = [name for name in options("mixer") if not name.startswith(("attention", "window"))]
    assert check([drawn(seed, mixers) for seed in range(1300)]) >= 300
