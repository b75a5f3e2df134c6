"""Every named model takes other options of its stages, or refuses them because stages do not go together."""

import pytest

from lcsm.commands.assemble import check_groups
from lcsm.commands.check_model import check_combination
from lcsm.errors import UsageError
from tests.compose import compose, options

# a few of each family; all together take half a minute
QUICK = ("gilr", "gla", "hyena", "mlstm", "rwkv4", "rwkv6", "rwkv7", "s5")
MODELS = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in options("model")
    if name != "attention"
]
REPLACED = ("oscillation=ones", "expand=learned", "shrink=learned", "normaliser=identity")


@pytest.mark.parametrize("name", MODELS)
def test_a_stage_that_is_replaced_leaves_its_values_behind(name: str):
    for word in REPLACED:
        # no key and no value of the former stage is left, or this would refuse it
        config = compose(f"model={name}", "model.num_layers=1", word)
        try:
            check_combination(config)
        except UsageError as error:
            assert "setting of" not in str(error)
        else:
            check_groups(config)
