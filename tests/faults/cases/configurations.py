"""Configuration files of unknown origin: what they name is not run, and what they set is checked."""

from __future__ import annotations

from tests.faults.cases import EITHER, INVALID, TRAIN, VALID, Case

GLOBAL = "# @package _global_\n"
EVIL = "foreign_code.Evil"
# an experiment that somebody else wrote; each of them may look harmless at its top
HOSTILE = {
    "callback of Hydra": f"hydra:\n  callbacks:\n    x: {{_target_: {EVIL}}}\n",
    "log handler by factory": f"hydra:\n  job_logging:\n    handlers:\n      x: {{(): {EVIL}}}\n",
    "log handler by class": f"hydra:\n  job_logging:\n    handlers:\n      x: {{class: {EVIL}}}\n",
    "log formatter": f"hydra:\n  job_logging:\n    formatters:\n      x: {{(): {EVIL}}}\n",
    "log of Hydra itself": f"hydra:\n  hydra_logging:\n    handlers:\n      x: {{(): {EVIL}}}\n",
    "launcher": f"hydra:\n  launcher: {{_target_: {EVIL}}}\n",
    "sweeper": f"hydra:\n  sweeper: {{_target_: {EVIL}}}\n",
    "search path": "hydra:\n  searchpath: [pkg://foreign_package]\n",
    "directory of the run": "hydra:\n  run:\n    dir: ../elsewhere\n",
    "directory of the sweep": "hydra:\n  mode: MULTIRUN\n  sweep:\n    dir: ../elsewhere\n",
    "directory of the record": "hydra:\n  output_subdir: ../../../elsewhere\n",
    "variables of the process": "hydra:\n  job:\n    env_set: {PYTHONSTARTUP: x.py}\n",
    "name that leads out": "name: ../../../x\n",
    "allowed class": f"allow_targets: [{EVIL}]\noscillation:\n  _target_: {EVIL}\n",
    "class": f"oscillation:\n  _target_: {EVIL}\n",
    "class by interpolation": f"oscillation:\n  _target_: ${{x}}\nx: {EVIL}\n",
    "class inside a list": f"oscillation:\n  x: [{{_target_: {EVIL}}}]\n",
    "class by an alias": "optim:\n  _target_: lcsm.training.files.os.system\n",
    "class in callbacks": f"callbacks:\n  checkpoint:\n    _target_: {EVIL}\n",
    "class in the trainer": f"trainer:\n  plugins: [{{_target_: {EVIL}}}]\n",
    "object of Python": f"x: !!python/object/apply:{EVIL} []\n",
    "name of Python": f"x: !!python/name:{EVIL}\n",
}
BROKEN = {
    "open bracket": "model: {d_model: 8\n",
    "tab": "model:\n\td_model: 8\n",
    "list instead of settings": "- 1\n- 2\n",
    "text instead of settings": "hello\n",
    "number instead of a group": "model: 3\n",
    "unknown key": "modell:\n  d_model: 8\n",
    "unknown setting": "model:\n  width: 8\n",
    "wrong type": "model:\n  dropout: wide\n",
    "nan": "optim:\n  lr: .nan\n",
    "key twice": "seed: 1\nseed: 2\n",
    "itself as default": "defaults:\n  - mine\n",
    "default that is not there": "defaults:\n  - override /model: nothing\n",
    "interpolation of itself": "name: ${name}\n",
    "deep nesting": "x: " + "[" * 3000 + "]" * 3000 + "\n",
    "aliases that multiply": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
}
# added to what a run saved
SAVED = f"hydra:\n  callbacks:\n    x: {{_target_: {EVIL}}}\n"

OWN = "from lcsm.stages.gated.gate import Gate\n\nclass Mine(Gate):\n    pass\n"


def experiment(content: str | bytes, package: str = GLOBAL) -> dict[str, str | bytes]:
    """The files of a directory with one experiment."""
    text = package + content if isinstance(content, str) else content
    return {"mine/experiment/mine.yaml": text}


def cases() -> list[Case]:
    """All of them."""
    own = (*TRAIN, "--config-dir=mine", "experiment=mine")
    found = [Case(f"experiment: {name}", own, INVALID, experiment(text)) for name, text in HOSTILE.items()]
    found += [Case(f"experiment: {name}", own, INVALID, experiment(text)) for name, text in BROKEN.items()]
    found += [
        Case("experiment of bytes", own, INVALID, experiment(bytes(range(256)))),
        Case("experiment in latin-1", own, INVALID, experiment("# Größe\nseed: 2\n".encode("latin-1"))),
        Case("experiment that is a directory", own, INVALID, {"mine/experiment/mine.yaml/x": ""}),
        Case("empty experiment", own, VALID, experiment("")),
        Case("experiment of values", own, VALID, experiment("model:\n  d_model: 8\n")),
        Case("local settings of somebody else", (*TRAIN, "--config-dir=mine"), INVALID,
             {"mine/local/default.yaml": GLOBAL + HOSTILE["allowed class"]}),
        Case("local settings with a callback of Hydra", (*TRAIN, "--config-dir=mine"), INVALID,
             {"mine/local/default.yaml": GLOBAL + HOSTILE["callback of Hydra"]}),
        Case("another main configuration", (*TRAIN, "--config-dir=mine", "--config-name=other"), INVALID,
             {"mine/other.yaml": "defaults: [train, _self_]\n" + HOSTILE["callback of Hydra"]}),
        Case("settings of Hydra in a group of its own", (*TRAIN, "--config-dir=mine", "hydra/job_logging=mine"),
             INVALID, {"mine/hydra/job_logging/mine.yaml": f"version: 1\nhandlers:\n  x: {{(): {EVIL}}}\n"}),
        Case("shipped option replaced", (*TRAIN, "--config-dir=mine"), EITHER,
             {"mine/hydra/default.yaml": f"callbacks:\n  x: {{_target_: {EVIL}}}\n"}),
        Case("saved run", ("train", "--config-path=run", "--config-name=config", "trainer.max_steps=1"), VALID,
             asset="recall"),
        Case("saved run with a callback of Hydra", ("train", "--config-path=run", "--config-name=config"), INVALID,
             asset="recall", change=lambda work: (work / "run/config.yaml").open("a").write(SAVED)),
        Case("own class, allowed on the command line",
             (*TRAIN, "--config-dir=mine", "oscillation=mine", "allow_targets=[my_stages.Mine]"), VALID,
             {"my_stages.py": OWN, "mine/oscillation/mine.yaml": "defaults: [diag]\n_target_: my_stages.Mine\n"}),
        Case("own class that is no stage", (*TRAIN, "--config-dir=mine", "oscillation=mine",
             "allow_targets=[foreign_code.Evil]"), INVALID,
             {"mine/oscillation/mine.yaml": f"_target_: {EVIL}\n"}, foreign=True),
    ]  # fmt: skip
    return found
