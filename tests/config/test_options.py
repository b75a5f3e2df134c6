"""The options of mixers and their stages: where their values stand, and that each of them is of use."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lcsm.config.messages import RENAMED
from lcsm.config.schemas import MIXER_GROUPS, STAGES
from lcsm.config.shipped import load
from tests.compose import CONF, options
from tests.config.helpers import fault
from tests.house.figures import bases

OPTIONS = [(group, option) for group in MIXER_GROUPS for option in options(group)]
MODELS = options("model")


HEIRS = [(group, option, bases(group, option)) for group, option in OPTIONS if bases(group, option)]


def test_options_inherit_from_one_base_option_of_their_class():
    found: dict[tuple[str, str], set[str]] = {}
    for group, option, inherited in HEIRS:
        found.setdefault((group, load(group, option)["_target_"]), set()).update(inherited)
    several = {of: names for of, names in found.items() if len(names) > 1}
    foreign = [(of, name) for of, names in found.items() for name in names if load(of[0], name)["_target_"] != of[1]]
    assert not several, "all heirs of a class inherit from one option; let the others say all values themselves"
    assert not foreign


def test_a_stage_of_one_paper_passes_nothing_on_to_that_of_another():
    """Stages that are named after a model are those of its paper; s4d_lin and s4d_inv have one."""
    named = [(option, name) for group, option, inherited in HEIRS if group in STAGES for name in inherited]
    found = [pair for pair in named if pair[1] in MODELS and pair[0][:2] != pair[1][:2]]
    assert not found, "let the option of another paper say all values itself"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_sets_no_value_of_a_stage(name: str):
    assert not set(OmegaConf.load(CONF / "model" / f"{name}.yaml")).intersection(STAGES)


@pytest.mark.parametrize(("former", "now"), RENAMED.items())
def test_an_option_that_is_gone_names_the_one_that_stands_for_it(former: str, now: str):
    group, option = former.split("/")
    assert option not in options(group) and now in options(group)
    assert f"{group}={now}" in fault(f"{group}={option}")


def test_every_option_is_chosen_by_a_model_or_an_experiment_or_is_listed():
    chosen = {word for path in CONF.glob("*/**/*.yaml") for word in choices(path)}
    listed = set(re.findall(r"`(?:\w+=)?(\w+)`", (CONF.parent / "docs" / "stages.md").read_text(encoding="utf-8")))
    assert [option for option in OPTIONS if option not in chosen and option[1] not in listed] == []


def choices(path: Path) -> set[tuple[str, str]]:
    """The options of mixers and stages that a file chooses or sweeps over."""
    found = re.findall(rf"\b({'|'.join(MIXER_GROUPS)})(?:@[\w.]+)?: ([\w,]+)", path.read_text(encoding="utf-8"))
    return {(group, option) for group, names in found for option in names.split(",")}
