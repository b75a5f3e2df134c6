import inspect

import pytest
from lightning import Trainer

from lcsm.config import schemas
from lcsm.config.shipped import load
from lcsm.training.run import OWN

# arguments that have no use where training is counted in steps of an endless loader, or that others set
LEFT_OUT = {
    *OWN,
    "barebones",
    "enable_autolog_hparams",
    "fast_dev_run",
    "limit_predict_batches",
    "limit_test_batches",
    "limit_train_batches",
    "min_epochs",
    "min_steps",
    "model_registry",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
}


def test_the_trainer_file_has_every_argument_of_the_trainer_that_is_not_left_out():
    arguments = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    assert set(load("trainer", "default")) == arguments - LEFT_OUT


@pytest.mark.parametrize("group", schemas.SCHEMAS)
def test_files_and_schemas_have_the_same_keys(group: str):
    fields = set(schemas.signature(schemas.SCHEMAS[group]).fields)
    named = {"trainer": "default", "paths": "default", "block": "pre_norm"}
    node = load(group, named[group]) if group in named else load("", "train")["model"]
    assert set(node) == fields
