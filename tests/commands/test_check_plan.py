import pytest

from lcsm.commands.check_plan import check_models, check_plan
from lcsm.commands.train import without_algorithm
from lcsm.config.compose import make_plan
from lcsm.config.locate import conf_directory, options
from lcsm.errors import UsageError
from lcsm.models.build import build_model, count_parameters

MODELS = [name for name in options(conf_directory())["model"]]


# with task=lm they are built in test_models_table
@pytest.mark.parametrize("model", MODELS)
def test_every_named_model_can_be_built(model: str):
    check_models(make_plan([f"model={model}", "task=mqar"]))


@pytest.mark.slow
def test_every_job_of_every_experiment_can_be_built():
    for name in options(conf_directory())["experiment"]:
        check_plan(make_plan([f"experiment={name}"]))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=ldnn_bidirectional"], ["Recall", "set mixer.reverse.shrink=none"]),
        (["model=ldnn_bidirectional", "task=lm"], ["LanguageModelling", "set mixer.reverse.shrink=none"]),
        (["model=tnn", "task=lm_compressible", "mixer.reverse.shrink=own"], ["set mixer.reverse.shrink=none"]),
        (["model=attention", "mixer.causal=false"], ["set mixer.causal=true", "task=classification"]),
        (["block=pre_batch_norm", "mixer.reverse.shrink=tied"], ["set mixer.reverse.shrink=none and block.norm=layer"]),
        (["experiment=hybrid", "mixers.attention.mixer.causal=false"], ["set mixers.attention.mixer.causal=true"]),
        (["-m", "mixer.reverse.shrink=none,tied"], ["job 1 of 2", "set mixer.reverse.shrink=none"]),
    ],
)
def test_a_model_that_sees_the_token_to_predict_is_refused(words: list[str], named: list[str]):
    with pytest.raises(UsageError) as caught:
        check_plan(make_plan(words))
    message = str(caught.value)
    assert all(name in message for name in named) and len(message.splitlines()) <= 3, message


def test_labels_are_learnt_in_both_directions():
    check_plan(make_plan(["model=ldnn_bidirectional", "task=classification", "data=listops", "block=pre_batch_norm"]))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=lcsm", "mixer=attention"], ["Attention", "source=none"]),
        (["oscillation=none"], ["oscillation"]),
        (["normaliser=denominator", "oscillation=diag_outer"], ["denominator"]),
        (
            ["oscillation._target_=lcsm.stages.vectors.expand.LearnedExpand", "~oscillation.tau", "+oscillation.std=1"],
            ["Learned"],
        ),
        (["mixer.algorithm=fastest"], ["mixer.algorithm", "fastest"]),
        (["mixer.output.gate=silo"], ["mixer.output.gate"]),
        (["trainer.strategy=fsdp"], ["trainer.strategy", "ddp"]),
        (["trainer.strategy=ddp_spawn"], ["trainer.strategy=ddp_spawn", "trainer.strategy=ddp,"]),
        (["trainer.devices=1000"], ["trainer.devices=1000", "CPU cores"]),
        (["trainer.accelerator=gpx"], ["gpx"]),
        (["oscillation=dss_softmax"], ["expand=hand_crafted", "model=dss_softmax"]),
        (["model=s5", "oscillation.irregular=true"], ["oscillation.irregular=true", "Mqar"]),
        (["data.length=3"], ["data.num_pairs=4", "data.length=16"]),
        (["-m", "data.num_pairs=4,40"], ["job 1 of 2", "data.num_pairs=16"]),
        (["-m", "task=lm", "data=text", "data.train_files=a,b"], ["job 0 of 2", "a"]),
        (["optim.groups.oscillation=3"], ["optim.groups.oscillation=3"]),
        (["+optim.groups.x.match=['*nothing*']"], ["optim.groups.x.match='*nothing*'", "backbone.layers.1"]),
        (
            ["-m", "oscillation=diag,ones", "+optim.groups.x.match=['*.oscillation.*']"],
            ["job 1 of 2", "optim.groups.x"],
        ),
        (
            ["task=classification", "data=listops", "+optim.groups.x.match=['*.embeding.*']"],
            ["optim.groups.x.match='*.embeding.*'", "SequenceClassifier"],
        ),
        (["model.d_model=1000000"], ["4e+12 parameters", "GiB", "model.d_model=1000000"]),
        (["mixer.state_dim=1000000000"], ["parameters", "mixer.state_dim=1000000000"]),
        (["-m", "model.num_layers=2,10000", "model.d_model=4096"], ["job 1 of 2", "model.num_layers=10000"]),
        (["shrink=gsa"], ["use oscillation=gsa", "oscillation=diag shrink=gsa"]),
        (["model=gsa", "oscillation=s4_fourier"], ["use oscillation=gsa", "oscillation=s4_fourier"]),
    ],
)
def test_stages_that_do_not_go_together_are_named(words: list[str], named: list[str]):
    with pytest.raises(UsageError) as caught:
        check_plan(make_plan(words))
    message = str(caught.value)
    assert all(name in message for name in named), message
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize("words", [[], ["task=classification", "data=listops"]])
def test_a_pattern_that_fits_a_parameter_is_accepted(words: list[str]):
    check_plan(make_plan([*words, "+optim.groups.x.match=['*.oscillation.*','backbone.norm.*']"]))


@pytest.mark.parametrize("words", [[], ["model=hgrn"], ["experiment=hybrid", "model.num_layers=3"]])
def test_parameters_are_counted_before_they_are_made(words: list[str]):
    config = make_plan(words).jobs[0].config
    layers = build_model(config, 8).backbone.layers
    assert count_parameters(config) == sum(weight.numel() for weight in layers.parameters())


def test_an_oscillation_that_only_the_loop_runs_names_the_model_with_its_partners():
    (job,) = make_plan(["oscillation=s4"]).jobs
    warning = without_algorithm(build_model(job.config, 32), job.config, "cpu")
    assert "layers 0, 1 run the loop over time" in warning and "model=s4 chooses all stages" in warning
    (job,) = make_plan(["model=s4"]).jobs
    assert without_algorithm(build_model(job.config, 32), job.config, "cpu") == ""


def test_the_job_of_a_sweep_is_named_by_what_varies():
    plan = make_plan(["-m", "seed=1,2", "normaliser=layer_norm,denominator", "oscillation=diag_outer"])
    with pytest.raises(UsageError, match=r"job 1 of 4 \(seed=1 normaliser=denominator\)"):
        check_plan(plan)
