"""What composes, and which of two values wins."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from lcsm.config.compose import make_plan
from lcsm.config.locate import conf_directory, options
from lcsm.config.resolvers import short
from lcsm.config.schemas import MIXER_GROUPS, STAGES
from tests.compose import compose as quickly
from tests.config.helpers import compose

GROUPS = options(conf_directory())
# models and experiments have their own tests; hydra's files are part of all of them
OWN_TESTS = ("hydra", "experiment", "sizes", "model", "data", "task", *MIXER_GROUPS)
OTHERS = [group for group in GROUPS if group not in OWN_TESTS]


def together(groups: Iterable[str], at: str) -> list[list[str]]:
    """Words that choose the first option of every group, the second, and so on, for Hydra takes its time each time."""
    rows = itertools.zip_longest(*(GROUPS[group] for group in groups))
    return [
        [at.format(group=group) + f"={option}" for group, option in zip(groups, row, strict=True) if option]
        for row in rows
    ]


# many named mixers in one model: those without stages alone, all stages beside one that has some
MIXERS = [[f"+mixer@mixers.m{{}}.mixer={option}"] for option in GROUPS["mixer"]]
MIXERS += [["+mixer@mixers.m{}.mixer=eos", *words] for words in together(STAGES, "+{group}@mixers.m{{}}.{group}")]
MIXERS = [[word.format(number) for word in words] for number, words in enumerate(MIXERS)]
ROWS = [
    [*itertools.chain(*MIXERS[start : start + 10]), f"model.pattern=[main,{','.join(f'm{n}' for n in numbers)}]"]
    for start in range(0, len(MIXERS), 10)
    for numbers in [range(start, min(start + 10, len(MIXERS)))]
]
ROWS += together(OTHERS, "{group}")
ROWS += [[f"task={name}"] for name in GROUPS["task"]]
# text data need their task
ROWS += [["task=lm", f"data={name}"] for name in GROUPS["data"] if name not in ("mqar", "hf")]
ROWS += [["task=lm", "data=hf", "data.dataset=some/text"]]


@pytest.mark.parametrize("words", ROWS)
def test_every_option_composes_and_passes_the_check(words: list[str]):
    choices = compose(*words)["choices"]
    chosen = [word.lstrip("+").split("=") for word in words if not word.startswith(("data.", "model."))]
    assert [choices[group] for group, _ in chosen] == [option for _, option in chosen]


# those of the Long Range Arena are composed in tests/tasks
@pytest.mark.parametrize("name", [name for name in GROUPS["experiment"] if "/" not in name])
def test_every_experiment_composes_and_passes_the_check(name: str):
    plan = make_plan([f"experiment={name}"])
    assert plan.complete and plan.jobs


@pytest.mark.parametrize("task", ["lm", "classification", "mqar"])
def test_the_base_of_the_eos_sweeps_takes_the_settings_of_another_task(task: str):
    own, other = compose(f"task={task}"), compose("experiment=eos_base", f"task={task}")
    for group in ("data", "optim", "schedule", "trainer", "callbacks"):
        assert other[group] == own[group], group
    assert (other["choices"]["oscillation"], other["choices"]["source"]) == ("diag_outer", "plain")


def test_a_model_has_its_own_sizes_in_an_experiment():
    # OpenNLPLab/fairseq-evo, tnn_v2_decay_99_pre: 7 layers, a network of 6 layers of 64 units, 512 tokens
    tnn = compose("experiment=wikitext103", "model=tnn")
    assert (tnn["model"]["num_layers"], tnn["model"]["d_model"], tnn["mixer"]["num_heads"]) == (7, 512, 1)
    assert (tnn["shrink"]["width"], tnn["shrink"]["depth"], tnn["shrink"]["gamma"]) == (64, 6, 0.99)
    assert (tnn["mixer"]["value_dim"], tnn["mixer"]["state_dim"]) == (3 * 512, 512)
    lcsm = compose("experiment=wikitext103")
    assert (lcsm["model"]["num_layers"], lcsm["mixer"]["num_heads"], lcsm["mixer"]["state_dim"]) == (6, 4, 128)
    assert "num_heads" in compose("experiment=wikitext103", "model=attention")["mixer"]
    assert compose("experiment=wikitext103", "model=tnn", "model.num_layers=2")["model"]["num_layers"] == 2


@pytest.mark.parametrize("path", sorted((conf_directory() / "sizes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_sizes_are_named_for_an_experiment_and_a_model(path: Path):
    experiment, _, model = path.relative_to(conf_directory() / "sizes").with_suffix("").as_posix().rpartition("/")
    assert experiment in GROUPS["experiment"] and model in GROUPS["model"]


@pytest.mark.parametrize("group", ["source", "input", "expand", "oscillation", "shrink", "normaliser", "channel"])
def test_none_leaves_an_optional_group_empty(group: str):
    assert compose(f"{group}=none")[group] is None


def test_every_option_has_a_description():
    missing = [f"{group}/{name}" for group, names in GROUPS.items() for name, text in names.items() if not text]
    assert missing == []


def test_the_command_line_wins_over_the_experiment_over_the_model_over_the_task(tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [override /model: attention, override /channel: mlp]\nseed: 7\nname: mine\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    flag = f"--config-dir={tmp_path}"
    chosen = compose(flag, "experiment=mine")
    assert (chosen["choices"]["model"], chosen["choices"]["channel"]) == ("attention", "mlp")
    assert (chosen["seed"], chosen["name"]) == (7, "mine")
    above = compose(flag, "experiment=mine", "model=lcsm", "seed=8", "name=other", "channel=glu")
    assert (above["choices"]["model"], above["seed"], above["name"]) == ("lcsm", 8, "other")
    assert above["choices"]["channel"] == "glu"


def test_a_model_wins_over_the_task(tmp_path: Path):
    (tmp_path / "model").mkdir()
    text = "# @package _global_\ndefaults: [override /channel: none]\nmodel: {name: mine}\n"
    (tmp_path / "model/mine.yaml").write_text(text)
    assert compose("task=lm")["choices"]["channel"] == "swiglu"
    assert compose(f"--config-dir={tmp_path}", "task=lm", "model=mine")["channel"] is None


def test_the_task_wins_over_the_options_and_over_train_yaml():
    assert compose("task=mqar")["optim"]["lr"] == 1e-2
    assert compose("task=lm")["model"]["d_model"] == 128
    assert compose("task=lm", "model.d_model=96")["model"]["d_model"] == 96


def test_words_may_come_in_any_order():
    first = compose("model=attention", "mixer=eos", "oscillation=dense", "source=plain")
    second = compose("source=plain", "oscillation=dense", "mixer=eos", "model=attention")
    assert first == second and first["choices"]["oscillation"] == "dense"


def test_a_hybrid_has_two_mixers_and_each_can_be_reached():
    config = compose("experiment=hybrid", "mixers.attention.mixer.num_heads=2", "oscillation=ones")
    assert config["model"]["pattern"] == ["main", "attention"]
    assert config["mixers"]["attention"]["mixer"]["num_heads"] == 2


def test_a_second_mixer_with_stages_is_made_on_the_command_line():
    stages = ("source=plain", "input=linear", "expand=learned", "oscillation=ones", "shrink=learned")
    words = [
        f"+{word.partition('=')[0]}@mixers.second.{word}" for word in (*stages, "normaliser=rms_norm", "mixer=eos")
    ]
    config = compose(*words, "model.pattern=[main,main,second]")
    assert config["mixers"]["second"]["oscillation"]["_target_"].endswith("Ones")


def test_a_users_directory_adds_options(tmp_path: Path):
    (tmp_path / "oscillation").mkdir()
    (tmp_path / "oscillation/slow.yaml").write_text("defaults: [diag, _self_]\ntau: 99.0\n")
    assert compose(f"--config-dir={tmp_path}", "oscillation=slow")["oscillation"]["tau"] == 99.0


def test_a_sweep_has_every_combination_once():
    plan = make_plan(["-m", "oscillation=ones,diag,dense", "seed=range(1,3)"])
    chosen = [(job.config["choices"]["oscillation"], job.config["seed"]) for job in plan.jobs]
    assert chosen == [(name, seed) for name in ("ones", "diag", "dense") for seed in (1, 2)]


def test_an_experiment_can_be_a_sweep_and_the_command_line_adds_to_it():
    plan = make_plan(["experiment=mqar_ablation", "seed=1,2", "oscillation=ones"])
    assert plan.sweep and len(plan.jobs) == 2 * 2
    assert {job.config["choices"]["oscillation"] for job in plan.jobs} == {"ones"}


def test_values_of_a_sweep_stay_apart():
    jobs = make_plan(["-m", "oscillation.tau=1,2", "optim.lr=0.1"]).jobs
    assert [job.config["oscillation"]["tau"] for job in jobs] == [1, 2]
    assert all(job.config["optim"]["lr"] == 0.1 for job in jobs)


def test_the_activation_sweep_changes_expand_and_shrink_together():
    jobs = make_plan(["experiment=eos_activation"]).jobs
    assert all(job.config["expand"]["activation"] == job.config["shrink"]["activation"] for job in jobs)
    assert len(jobs) == 8


def test_runs_go_below_the_folder_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LCSM_RUNS", "/elsewhere")
    assert compose()["paths"]["root"] == "/elsewhere"
    assert compose("paths.root=here")["paths"]["root"] == "here"


def test_a_long_list_of_overrides_makes_a_short_directory_name():
    name = short("data.train_files=/a/b/c," + ",".join(f"key{i}=value" for i in range(50)))
    assert "/" not in name and len(name) <= 120


@pytest.mark.parametrize(
    "words",
    [
        ["oscillation=rwkv6", "shrink=rwkv5"],
        ["shrink.activation=exp", "oscillation=diag_outer", "oscillation.tau=1e-3", "mixer.algorithm=scan"],
        ["model=s5", "shrink=s5_truncated", "oscillation.step_range=[0.1,0.2]", "normaliser=none", "seed=3"],
    ],
)
def test_the_short_way_of_the_tests_gives_what_hydra_gives(words: list[str]):
    assert quickly(*words) == compose(*words)
