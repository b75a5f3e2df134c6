"""Every mistake on the command line names its key and the way out, in at most three lines."""

import itertools
from pathlib import Path

import pytest

from tests.config.helpers import compose, fault

MISTAKES = [
    # what does not exist
    (["oscillation=dig"], ["oscillation=dig", "diag"]),
    (["osc=diag"], ["osc", "oscillation"]),
    (["oscillation.tua=3"], ["oscillation.tua", "tau"]),
    (["model=griffin", "oscillation.speed=8"], ["oscillation.speed=8", "it is 'c' now"]),
    (["mixer=gla"], ["mixer=gla", "model=gla now"]),
    (["optim.learning_rate=1"], ["optim.learning_rate", "lr"]),
    (["trainer.foo=1"], ["trainer.foo"]),
    (["trainer.max_step=1"], ["trainer.max_step", "max_steps"]),
    (["mixers.second.mixer=attention"], ["mixers"]),
    (["oscillation@second=diag"], ["oscillation@second"]),
    (["~oscillation.tua"], ["oscillation.tua", "tau"]),
    (["oscillation=ones", "oscillation.tau=3"], ["oscillation.tau=3", "no settings"]),
    (["hydra/launcher=submitit_slurm"], ["pip install -c constraints.txt -e '.[slurm]'"]),
    # what + adds
    (["+unknown=1"], ["unknown", "settings"]),
    (["+oscillation.tua=3"], ["oscillation.tua", "tau"]),
    (["+trainer.logger=true"], ["trainer.logger"]),
    (["+optim.momentum=0.1"], ["optim.momentum"]),
    (["+schedule.beta=1"], ["schedule.beta"]),
    (["+data.vocabulary=3"], ["data.vocabulary", "vocab_size"]),
    (["+task.weight=3"], ["task.weight"]),
    (["+callbacks.figures.evry=3"], ["callbacks.figures.evry", "every"]),
    (["+seed=3"], ["seed"]),
    (["+mixers.second.oscillation=diag"], ["mixers.second"]),
    # wrong types
    (["oscillation.tau=abc"], ["oscillation.tau", "number"]),
    (["oscillation.tau=null"], ["oscillation.tau", "number"]),
    (["seed=1.5"], ["seed", "integer"]),
    (["optim.betas=0.9"], ["optim.betas", "list"]),
    (["model.pattern=main"], ["model.pattern", "list"]),
    (["callbacks.progress=3"], ["callbacks.progress", "true or false"]),
    (["trainer.precision=8"], ["trainer.precision", "bf16-mixed"]),
    (["oscillation.axes=full"], ["oscillation.axes='full'", "outer"]),
    (["oscillation=learned", "oscillation.axes=outer"], ["oscillation.axes='outer'", "full"]),
    (["oscillation=hgrn2", "oscillation.lower_bound=leraned"], ["oscillation.lower_bound='leraned'", "learned"]),
    (["data=mqar", "data.num_pairs='4'"], ["data.num_pairs='4'", "an integer or a list"]),
    (["data=mqar", "data.val_lengths=[1.5]"], ["data.val_lengths=[1.5]", "integer"]),
    (["task=lm", "data=stdlib", "data.tokenizer=words"], ["data.tokenizer='words'", "bytes, bpe"]),
    (["task=lm", "data=stdlib", "data.packing=none"], ["data.packing='none'", "stream, documents"]),
    (["task=lm", "data=text", "data.rows=words"], ["data.rows='words'", "documents, lines"]),
    (["task=lm", "data=hf", "data.dataset=x", "data.rows=words"], ["data.rows='words'", "documents, lines"]),
    (["block.norm=group"], ["block.norm", "layer"]),
    (["model.init=kaiming"], ["model.init='kaiming'", "torch, release"]),
    (["model.init=release", "model=tnn"], ["model.init=release", "tnn", "release=normal", "griffin"]),
    (["release.linear=0.02", "release=normal"], ["release.linear=0.02", "a mapping or null"]),
    # out of range
    (["optim.lr=nan"], ["optim.lr", "finite"]),
    (["optim.lr=1e400"], ["optim.lr", "finite"]),
    (["optim.lr=0"], ["optim.lr", "> 0"]),
    (["seed=-1"], ["seed=-1"]),
    (["seed=4294967296"], ["seed=4294967296"]),
    (["trainer.max_steps=0"], ["trainer.max_steps=0", ">= 1"]),
    (["data.batch_size=0"], ["data.batch_size=0", ">= 1"]),
    (["data.vocab_size=1"], ["data.vocab_size=1", ">= 2"]),
    (["model.d_model=0"], ["model.d_model=0", ">= 1"]),
    (["model.dropout=1.5"], ["model.dropout=1.5", "<= 1"]),
    (["mixer.state_dim=0"], ["mixer.state_dim=0", ">= 1"]),
    (["mixer.num_heads=3"], ["mixer.num_heads=3", "d_model=64", "2 or 4"]),
    (["mixer.num_heads=3", "model.d_model=1000000000000000000"], ["mixer.num_heads=3", "2 or 4"]),
    (["model.pattern=[main,attention]"], ["model.pattern", "attention", "+mixer@mixers.attention.mixer=attention"]),
    (["model=gla", "mixer=attention"], ["Attention", "no stages", "mixer.output", "model=attention"]),
    (["model=attention", "oscillation=diag"], ["Attention", "no stages", "oscillation", "model=attention"]),
    (["model.num_layers=1000000"], ["model.num_layers=1000000", "<= 10000"]),
    (["data.vocab_size=100000000000"], ["data.vocab_size=100000000000", "<= 16777216"]),
    (["threads=0"], ["threads=0", ">= 1"]),
    (["threads=100000"], ["threads=100000", "cores", "null"]),
    (["trainer.limit_val_batches=0"], ["trainer.limit_val_batches=0", "> 0"]),
    (["trainer.limit_val_batches=0.0"], ["trainer.limit_val_batches=0.0", "> 0"]),
    (["callbacks.nonfinite_skips=-1"], ["callbacks.nonfinite_skips=-1", ">= 0"]),
    (["callbacks.ema=abc"], ["callbacks.ema='abc'", "number"]),
    (["callbacks.ema=0"], ["callbacks.ema=0", "> 0"]),
    (["callbacks.stop_at=[1]"], ["callbacks.stop_at=[1]", "auto"]),
    (["callbacks.stop_at=soon"], ["callbacks.stop_at='soon'", "auto"]),
    (["callbacks.patience=1.5"], ["callbacks.patience=1.5", "integer"]),
    (["callbacks.figures.every=null"], ["callbacks.figures.every=null", "integer"]),
    (["callbacks.samples.temperature=-1"], ["callbacks.samples.temperature=-1", ">= 0"]),
    (["callbacks.samples.prompt_tokens=0"], ["callbacks.samples.prompt_tokens=0", ">= 1"]),
    (["callbacks.samples.num_tokens=0"], ["callbacks.samples.num_tokens=0", ">= 1"]),
    (["callbacks.samples.num_tokens=null"], ["callbacks.samples.num_tokens=null", "integer"]),
    (["callbacks.samples.top_k=0"], ["callbacks.samples.top_k=0", ">= 1"]),
    (["callbacks.samples.top_p=2"], ["callbacks.samples.top_p=2", "<= 1"]),
    (["optim.betas=[0.9]"], ["optim.betas=[0.9]", "two numbers"]),
    (["optim.betas=[0.9,1.0]"], ["optim.betas=[0.9, 1.0]", "< 1"]),
    (["task=lm", "data=stdlib", "data.val_fraction=0.9"], ["data.val_fraction=0.9", "<= 0.5"]),
    # a group or a mapping set to something else
    (["data=5"], ["data=5", "mqar"]),
    (["optim=[1]"], ["optim=[1]", "adamw"]),
    (["+model=3"], ["+model=3", "lcsm"]),
    (["data={a:1}"], ["data={a:1}", "data.NAME="]),
    (["mixers=[1]"], ["mixers.NAME="]),
    (["model.pattern={a:1}"], ["model.pattern=["]),
    (["+mixer@mixers.second.mixer=attention"], ["mixers.second", "model.pattern=[main,second]"]),
    (["callbacks.figures.layer=2"], ["callbacks.figures.layer=2", "model.num_layers=2"]),
    (["callbacks.figures.layer=-1"], ["callbacks.figures.layer=-1"]),
    (["callbacks.figures=true"], ["callbacks.figures=true", "a mapping, false or null"]),
    # words of an earlier version
    (["mixer.skip=inputs"], ["mixer.skip='inputs'", "mixer.skip.of now"]),
    (["+mixer.gate=silu"], ["mixer.gate='silu'", "mixer.output.gate now"]),
    (["mixer.gate=silu"], ["mixer.gate=silu", "mixer.output.gate now"]),
    (["mixer.gate_first=true"], ["mixer.gate_first=true", "mixer.output.norm now"]),
    (["model=attention", "mixer.bias=true"], ["mixer.bias=true", "num_heads"]),
    (["optim.name=adam"], ["optim.name=adam", "optim._target_", "adamw"]),
    (["+optim.name=sgd"], ["optim.name='sgd'", "optim._target_", "sgd"]),
    (["schedule.name=cosine"], ["schedule.name=cosine", "schedule._target_", "inverse_sqrt"]),
    (["experiment=lra/listops/s6"], ["experiment=lra/listops/s6", "lra/listops/s5"]),
    (
        ["experiment=lra/listops/s5", "model=attention"],
        ["mixer.reverse", "experiment=lra/listops/s5", "task=classification data=listops model=attention"],
    ),
    (
        ["experiment=lra/cifar10_grey/sgconv", "model=attention"],
        ["shrink.length", "task=classification", "sgconv sets"],
    ),
    # not readable, not meant
    (["diag"], ["'diag'", "key=value"]),
    (["seed=[1,"], ["seed=[1,"]),
    (["seed=1,2"], ["seed=1,2", "-m", "seed=[1,2]"]),
    (["oscillation=[ones,diag]"], ["oscillation=[ones,diag]", "-m oscillation=ones,diag"]),
    (["model=[s4,gla]"], ["model=[s4,gla]", "-m model=s4,gla"]),
    (["-m", "oscillation=[ones,diag],dense"], ["job 0 of 2", "oscillation=[ones,diag]"]),
    (["model="], ["model=", "attention"]),
    (["experiment="], ["experiment=none"]),
    (["--resolve"], ["--cfg job"]),
    (["--package=paths"], ["--cfg job"]),
    (["callbacks=null"], ["callbacks=null", "callbacks=none"]),
    (["experiment=null"], ["experiment=null", "experiment=none"]),
    (["model=null"], ["model=null", "attention"]),
    (["data=none"], ["data=none"]),
    (["--mulitrun"], ["--mulitrun"]),
    (["--config-dir=/not/there"], ["--config-dir=/not/there"]),
    (["-m", "--cfg", "job"], ["--multirun", "--cfg"]),
    (["--config-dir"], ["--config-dir"]),
    (["--config-name=other"], ["--config-name=other"]),
    (["--experimental-rerun=x.pickle"], ["--experimental-rerun"]),
    (["name=${missing}"], ["name", "missing"]),
    (["name=???"], ["name"]),
    (["name=${oc.env:NOT_SET_ANYWHERE}"], ["NOT_SET_ANYWHERE"]),
    # components that are not ours
    (["oscillation._target_=os.system"], ["oscillation._target_=os.system", "allow_targets"]),
    (["data._target_=torch.load"], ["data._target_=torch.load", "allow_targets"]),
    (["optim._target_=torch.optim.NAdam"], ["optim._target_=torch.optim.NAdam", "allow_targets"]),
    (["optim._target_=[torch.optim.SGD]"], ["optim._target_=['torch.optim.SGD']", "allow_targets"]),
    (["schedule._target_=lcsm.training.schedules.Cosin"], ["schedule._target_", "'Cosine'"]),
    (["+oscillation.inner={_target_:os.system}"], ["oscillation.inner"]),
    (["oscillation._target_=lcsm.stages.gated.gate.Gates"], ["oscillation._target_", "Gate"]),
    (["oscillation._target_=lcsm.stages.oscillation.gate.Gate"], ["it is lcsm.stages.gated.gate.Gate now"]),
    # sweeps
    (["-m", "oscillation=ones,dig"], ["job 1 of 2", "oscillation=dig", "diag"]),
    (["-m", "optim.lr=1e-3,-1"], ["job 1 of 2", "optim.lr=-1"]),
    (["-m", "seed=1,2", "trainer.devices=2"], ["trainer.devices=2", "launcher"]),
    (["-m", "seed=interval(0,1)"], ["sweeper"]),
]


@pytest.mark.parametrize(("words", "named"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_names_its_key_in_at_most_three_lines(words: list[str], named: list[str]):
    message = fault(*words)
    assert len(message.splitlines()) <= 3
    assert not [name for name in named if name not in message], message
    assert "Traceback" not in message and "object_type" not in message


def user_file(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return f"--config-dir={directory}"


def test_a_typing_error_in_a_users_file_is_found(tmp_path: Path):
    flag = user_file(tmp_path, "oscillation/mine.yaml", "defaults: [diag, _self_]\ntua: 3\n")
    assert "oscillation.tua=3" in fault(flag, "oscillation=mine")


def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path: Path):
    flag = user_file(tmp_path, "oscillation/mine.yaml", "a: 1\nb: [1,\n")
    message = fault(flag, "oscillation=mine")
    assert "mine.yaml" in message and "line" in message and len(message.splitlines()) <= 3


def test_an_experiment_that_names_no_option_is_named(tmp_path: Path):
    text = "# @package _global_\ndefaults:\n  - override /oscillation: dig\n"
    message = fault(user_file(tmp_path, "experiment/mine.yaml", text), "experiment=mine")
    assert "oscillation=dig" in message and "diag" in message


def test_several_options_of_one_group_are_refused_in_a_file_too(tmp_path: Path):
    text = "# @package _global_\ndefaults:\n  - override /oscillation: [ones, diag]\n"
    assert "oscillation=[" in fault(user_file(tmp_path, "experiment/mine.yaml", text), "experiment=mine")


def test_a_list_of_options_is_not_recommended():
    assert "[" not in fault("oscillation=ones,diag")


def test_an_experiment_that_overrides_no_group_is_named(tmp_path: Path):
    text = "# @package _global_\ndefaults:\n  - override /osc: diag\n"
    message = fault(user_file(tmp_path, "experiment/mine.yaml", text), "experiment=mine")
    assert "experiment/mine" in message and "osc" in message


def test_an_unknown_key_of_an_experiment_is_found(tmp_path: Path):
    flag = user_file(tmp_path, "experiment/mine.yaml", "# @package _global_\ndata:\n  batch_szie: 3\n")
    assert "data.batch_szie" in fault(flag, "experiment=mine")


def test_an_optimiser_named_as_in_earlier_versions_is_refused_in_a_file(tmp_path: Path):
    flag = user_file(tmp_path, "optim/mine.yaml", "name: adamw\nlr: 1\nweight_decay: 0\nembedding_decay: false\n")
    message = fault(flag, "optim=mine")
    assert "optim.name='adamw'" in message and "optim._target_" in message and len(message.splitlines()) <= 3


def test_an_optimiser_that_does_not_say_who_decays_is_refused(tmp_path: Path):
    flag = user_file(tmp_path, "optim/mine.yaml", "_target_: torch.optim.SGD\nlr: 1\nweight_decay: 0\n")
    assert "optim.embedding_decay is missing" in fault(flag, "optim=mine")


def test_a_missing_setting_is_named(tmp_path: Path):
    flag = user_file(tmp_path, "oscillation/mine.yaml", "_target_: lcsm.stages.gated.gate.Gate\ntau: 3\n")
    assert "oscillation.axes is missing" in fault(flag, "oscillation=mine")


def test_a_listed_target_of_the_user_passes_the_first_check():
    config = compose("oscillation._target_=mine.Oscillation", "allow_targets=[mine.Oscillation]")
    assert config["oscillation"]["_target_"] == "mine.Oscillation"


@pytest.mark.parametrize("content", ["defaults:\n  - mine\n", f"x: {'[' * 3000}{']' * 3000}\n"])
def test_a_file_without_an_end_is_one_message(content: str, tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{content}")
    assert "own defaults" in fault(f"--config-dir={tmp_path}", "experiment=mine")


def test_aliases_that_multiply_are_refused_before_they_are_written_out(tmp_path: Path):
    (tmp_path / "experiment").mkdir()
    lists = [f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]" for last, name in itertools.pairwise("abcdefgh")]
    text = "\n".join(["# @package _global_", "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", *lists])
    (tmp_path / "experiment/mine.yaml").write_text(text)
    assert "stand for 123,456,797 values" in fault(f"--config-dir={tmp_path}", "experiment=mine")
