import pytest

from lcsm.commands.combination import check_plan
from lcsm.config.compose import make_plan
from lcsm.config.locate import conf_directory, options
from lcsm.errors import UsageError

MODELS = [name for name in options(conf_directory())["model"]]


@pytest.mark.parametrize("task", ["mqar", "lm"])
@pytest.mark.parametrize("model", MODELS)
def test_every_named_model_can_be_built(model: str, task: str):
    check_plan(make_plan([f"model={model}", f"task={task}"]))


@pytest.mark.slow
def test_every_job_of_every_experiment_can_be_built():
    for name in options(conf_directory())["experiment"]:
        check_plan(make_plan([f"experiment={name}"]))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=lcsm", "mixer=attention"], ["Attention", "source=none"]),
        (["oscillation=none"], ["oscillation"]),
        (["normaliser=denominator", "oscillation=diag_outer"], ["denominator"]),
        (["oscillation._target_=lcsm.stages.expand.Learned", "~oscillation.tau", "+oscillation.std=1"], ["Learned"]),
        (["mixer.algorithm=fastest"], ["mixer.algorithm", "fastest"]),
        (["mixer.gate=silo"], ["mixer.gate"]),
        (["trainer.strategy=fsdp"], ["trainer.strategy", "ddp"]),
    ],
)
def test_stages_that_do_not_go_together_are_named(words: list[str], named: list[str]):
    with pytest.raises(UsageError) as caught:
        check_plan(make_plan(words))
    message = str(caught.value)
    assert all(name in message for name in named), message
    assert len(message.splitlines()) <= 3


def test_the_job_of_a_sweep_is_named_by_what_varies():
    plan = make_plan(["-m", "seed=1,2", "normaliser=layer_norm,denominator", "oscillation=diag_outer"])
    with pytest.raises(UsageError, match=r"job 1 of 4 \(seed=1 normaliser=denominator\)"):
        check_plan(plan)
