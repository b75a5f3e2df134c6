"""A run that is broken off and resumed gives the numbers of the unbroken run, to the bit."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.training.checkpoints import read_checkpoint, write_checkpoint
from lcsm.training.errors import Interrupted
from lcsm.training.lock import RunLock
from lcsm.training.resume import differences, find_checkpoint
from lcsm.training.run import fit
from lcsm.training.signals import StopSignals
from tests.training.toy_run import CONSTANT, ToyData, toy_config, toy_fit, toy_task

STEPS = 8
BASE = {"trainer__max_steps": STEPS, "schedule__max_steps": STEPS, "trainer__val_check_interval": 3}


class Killed(Exception):
    """Stands for SIGKILL: nothing of the run is done after it."""


def dying(hook: str, step: int) -> type[LanguageModelling]:
    """A task that dies in a hook once `step` steps are finished; hooks of tasks run after those of callbacks."""

    def die(self: LanguageModelling, *_: Any) -> None:
        if self.trainer.global_step == step:
            raise Killed
        getattr(LanguageModelling, hook)(self, *_)

    return type("Dying", (LanguageModelling,), {hook: die})


def rows(run_dir: Path) -> list[dict[str, str]]:
    """The metrics of a run without those of the clock and the memory."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    kept = ("step", "train", "val", "lr")
    return [{name: value for name, value in row.items() if name.split("/")[0] in kept} for row in table]


def final_state(run_dir: Path) -> dict[str, Any]:
    """Everything in the last checkpoint that a run computes."""
    content = read_checkpoint(run_dir / "checkpoints" / "last.ckpt").content
    state = {key: content[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}
    return state | {"current": content.get("current_model_state"), "averaging": content.get("averaging_state")}


def equal(left: Any, right: Any) -> bool:
    """Equality to the bit of nested containers of tensors."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


@pytest.mark.parametrize(
    "hook,step,accumulate,ema",
    [("on_train_batch_end", 2, 1, None), ("on_train_batch_end", 2, 2, 0.9), ("on_train_batch_end", 3, 2, None),
     ("on_validation_start", 3, 1, None), ("on_validation_start", 3, 2, 0.9), ("on_train_batch_start", 3, 1, None),
     ("on_train_batch_start", 5, 2, 0.9), ("on_validation_epoch_start", STEPS, 2, None)],
)  # fmt: skip
def test_a_killed_run_resumes_to_the_bit(tmp_path: Path, hook: str, step: int, accumulate: int, ema: Any) -> None:
    changes = BASE | {"trainer__accumulate_grad_batches": accumulate, "callbacks__ema": ema}
    toy_fit(tmp_path / "whole", toy_config(**changes))
    with pytest.raises(Killed):
        toy_fit(tmp_path / "broken", toy_config(**changes), dying(hook, step))
    toy_fit(tmp_path / "broken", toy_config(**changes, resume="auto"))
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def dying_in_validation(step: int, batch: int, loader: int) -> type[LanguageModelling]:
    """A task that dies after a batch of the validation at `step`."""

    def die(self: LanguageModelling, outputs: Any, data: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if (self.trainer.global_step, batch_idx, dataloader_idx) == (step, batch, loader):
            raise Killed

    return type("Dying", (LanguageModelling,), {"on_validation_batch_end": die})


def loop_counters(run_dir: Path) -> dict[str, Any]:
    """Where the loops of the trainer stand in the last checkpoint."""
    return read_checkpoint(run_dir / "checkpoints" / "last.ckpt").content["loops"]["fit_loop"]


def assert_same_run(whole: Path, broken: Path) -> None:
    """Everything that two runs computed and wrote is equal to the bit, the best file and the counters too."""
    assert rows(whole) == rows(broken)
    assert equal(final_state(whole), final_state(broken))
    best, other = (read_checkpoint(path / "checkpoints" / "best.ckpt") for path in (whole, broken))
    assert best.step == other.step and best.metrics == other.metrics and equal(best.weights, other.weights)
    assert loop_counters(whole) == loop_counters(broken)
    assert sorted(path.name for path in (broken / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("first", [dying_in_validation(3, 0, 0), dying_in_validation(3, 0, 1)], ids=["1x", "2x"])
@pytest.mark.parametrize("second", [dying("on_train_batch_start", 3), dying("on_train_batch_start", 6),
    dying_in_validation(6, 0, 1)], ids=["after it", "after the next", "in the next"])  # fmt: skip
def test_a_run_killed_in_a_validation_and_again_later_reports_the_same_scores(
    tmp_path: Path, first: type[LanguageModelling], second: type[LanguageModelling], accumulate: int
) -> None:
    changes = BASE | {"trainer__accumulate_grad_batches": accumulate}
    toy_fit(tmp_path / "whole", toy_config(**changes))
    for task in (first, second):
        with pytest.raises(Killed):
            toy_fit(tmp_path / "broken", toy_config(**changes, resume="auto"), task)
    toy_fit(tmp_path / "broken", toy_config(**changes, resume="auto"))
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_file_of_an_earlier_version_whose_counters_are_uneven_resumes_with_the_right_scores(tmp_path: Path) -> None:
    toy_fit(tmp_path / "whole", toy_config(**BASE))
    with pytest.raises(Killed):
        toy_fit(tmp_path / "broken", toy_config(**BASE), dying("on_train_batch_start", 3))
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    content = read_checkpoint(last).content
    total = content["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["total"]
    total |= {"ready": total["ready"] + 1, "started": total["started"] + 1}
    write_checkpoint(content, last)
    toy_fit(tmp_path / "broken", toy_config(**BASE, resume="auto"))
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.parametrize("step,accumulate", [(1, 2), (3, 2), (3, 1), (5, 1)])
def test_a_signalled_run_saves_stops_and_resumes_to_the_bit(tmp_path: Path, step: int, accumulate: int) -> None:
    changes = BASE | {"trainer__accumulate_grad_batches": accumulate, "callbacks__checkpoint": {"every": None}}
    signals = StopSignals()

    def note(self: LanguageModelling, *_: Any) -> None:
        signals.number = signal.SIGTERM if self.trainer.global_step == step - 1 else signals.number

    task = type("Signalled", (LanguageModelling,), {"on_before_zero_grad": note})
    toy_fit(tmp_path / "whole", toy_config(**changes))
    with pytest.raises(Interrupted) as stopped:
        toy_fit(tmp_path / "broken", toy_config(**changes), task, signals=signals)
    assert stopped.value.exit_code == 143 and stopped.value.step == step
    toy_fit(tmp_path / "broken", toy_config(**changes, resume="auto"))
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_loader_workers_change_nothing(tmp_path: Path) -> None:
    config = toy_config(trainer__max_steps=3)
    fit(toy_task(config), ToyData(), config, tmp_path / "none")
    fit(toy_task(config), ToyData(workers=1), config, tmp_path / "one")
    assert equal(final_state(tmp_path / "none"), final_state(tmp_path / "one"))


def test_a_finished_run_says_so_and_trains_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, first = toy_fit(tmp_path, toy_config(trainer__max_steps=4))
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    with caplog.at_level("INFO"):
        _, again = toy_fit(tmp_path, toy_config(trainer__max_steps=4, resume="auto"))
    assert "already at step 4" in caplog.text
    assert again["already_finished"]
    for key in ("val/loss", "best/val/loss", "best/step", "checkpoint"):
        assert again[key] == first[key], key
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_second_run_does_not_write_over_the_first(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=1))
    with pytest.raises(UsageError, match="resume=auto"):
        toy_fit(tmp_path, toy_config(trainer__max_steps=1))


def test_auto_resume_skips_a_damaged_file_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=4) | constant())
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    _, out = toy_fit(tmp_path, toy_config(trainer__max_steps=6, resume="auto") | constant())
    assert "skipped" in caplog.text and "last.ckpt" in caplog.text and out["step"] == 6


def constant() -> dict[str, Any]:
    """A schedule that does not depend on the number of steps."""
    return {"schedule": CONSTANT}


def test_a_changed_setting_is_refused_unless_forced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lcsm")
    toy_fit(tmp_path, toy_config(trainer__max_steps=4))
    changes = {"trainer__max_steps": 6, "optim__lr": 0.5, "resume": "auto"}
    with pytest.raises(UsageError, match=r"optim.lr: 0.01 -> 0.5") as refused:
        toy_fit(tmp_path, toy_config(**changes))
    assert len(str(refused.value).splitlines()) <= 3 and "wins" not in caplog.text
    toy_fit(tmp_path, toy_config(**changes, resume_force=True))
    assert "optim.lr was 0.01 in the checkpoint and is 0.5 now; the configuration wins" in caplog.text
    rates = [float(row["lr/base"]) for row in rows(tmp_path)]
    # the schedule goes on from step 4 with the rate of the configuration
    assert rates[4] == pytest.approx(50 * 0.009728616793536588, rel=1e-6) and len(rates) == 6


def test_a_forced_resume_takes_the_schedule_of_the_configuration(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=4))
    toy_fit(tmp_path, toy_config(trainer__max_steps=6, schedule__final_fraction=1.0, resume="auto", resume_force=True))
    assert [float(row["lr/base"]) for row in rows(tmp_path)][4:] == [0.01, 0.01]


def test_what_changes_rounding_is_named_in_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=2, threads=1, name="a") | constant())
    changes = {"trainer__max_steps": 3, "threads": 2, "trainer__deterministic": True, "name": "b", "resume": "auto"}
    _, out = toy_fit(tmp_path, toy_config(**changes) | constant())
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    lines = [line for line in lines if line.startswith("resume: ")]
    assert out["step"] == 3 and len(lines) == 1
    assert "threads: 1 -> 2, trainer.deterministic: None -> True" in lines[0] and "name" not in lines[0]


def test_other_seeds_models_and_tokenisers_are_refused(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=2))
    config = toy_config(trainer__max_steps=4, resume="auto", resume_force=True)
    with pytest.raises(UsageError, match="seed: 1 -> 2"):
        toy_fit(tmp_path, toy_config(trainer__max_steps=4, resume="auto", seed=2))
    with pytest.raises(UsageError, match="another model"):
        fit(toy_task(config, width=12), ToyData(), config, tmp_path)
    data = ToyData()
    data.tokenizer_state = lambda: {"kind": "bpe", "json": "{}"}  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="another tokeniser"):
        fit(toy_task(config), data, config, tmp_path)


def test_another_optimiser_is_refused_even_if_forced(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=2))
    config = toy_config(trainer__max_steps=4, resume="auto", resume_force=True)
    config["optim"] = {
        "_target_": "torch.optim.SGD",
        "lr": 0.1,
        "weight_decay": 0.0,
        "embedding_decay": False,
        "momentum": 0.9,
    }
    with pytest.raises(UsageError, match="optimiser or its parameter groups differ"):
        toy_fit(tmp_path, config)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for name, message in (("nothing.ckpt", "does not exist"), ("a" * 5000, "File name too long")):
        with pytest.raises(UsageError, match=message):
            toy_fit(tmp_path, toy_config(resume=str(tmp_path / name)))


def without(*names: str) -> Any:
    return lambda content: [content.pop(name) for name in names]


@pytest.mark.parametrize(
    "damage,named",
    [
        # as lcsm convert writes it
        (
            without("loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step"),
            "its epoch is None",
        ),
        (without("loops"), "its loops/fit_loop/epoch_loop.batch_progress is None"),
        (without("optimizer_states"), "its optimizer_states is None"),
        (without("lr_schedulers"), "its lr_schedulers is None"),
        (without("callbacks"), "its callbacks is None"),
        (lambda content: content.update(optimizer_states=[]), r"its optimizer_states is \[\]"),
        (lambda content: content.update(lr_schedulers=[3]), r"its lr_schedulers is \[3\]"),
        (lambda content: content.update(callbacks={"Best": 3}), "its callbacks is {'Best': 3}"),
        (lambda content: content.update(global_step="x"), "its global_step is x"),
        (lambda content: content.update(global_step=7), "its step is 2, that of its run 7"),
        (lambda content: content.update(loops={"fit_loop": []}), "its loops/fit_loop/epoch_loop.batch_progress"),
        (lambda content: content["lcsm"].update(step="x"), "its step is x"),
    ],
)
@pytest.mark.parametrize("max_steps", [2, 4])
def test_a_file_without_the_state_of_a_run_is_not_continued(
    tmp_path: Path, damage: Any, named: str, max_steps: int, first_run: Path
) -> None:
    content = torch.load(first_run / "checkpoints/last.ckpt", weights_only=True)
    damage(content)
    torch.save(content, tmp_path / "a.ckpt")
    config = toy_config(trainer__max_steps=max_steps, resume=str(tmp_path / "a.ckpt"))
    with pytest.raises(UsageError, match=named) as refused:
        toy_fit(tmp_path / "run", config)
    assert len(str(refused.value).splitlines()) <= 3


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps."""
    run_dir = tmp_path_factory.mktemp("first")
    toy_fit(run_dir, toy_config(trainer__max_steps=2))
    return run_dir


def test_auto_in_a_new_directory_finds_the_newest_run_with_the_configuration(tmp_path: Path):
    changes = {"trainer__max_steps": 4, "name": "toy", "paths": {"root": str(tmp_path)}}
    for seed in (1, 2, 1):
        toy_fit(tmp_path / f"toy/{seed}", toy_config(**changes, seed=seed, resume="auto"))
    for seed in (1, 2):
        found = find_checkpoint("auto", tmp_path / "toy/new", toy_config(**changes, seed=seed))
        assert found is not None and Path(found.path).is_relative_to(tmp_path / f"toy/{seed}")
    assert find_checkpoint("auto", tmp_path / "toy/new", toy_config(**changes, seed=3)) is None
    assert find_checkpoint("auto", tmp_path / "toy/new", toy_config(**(changes | {"name": "b"}))) is None


def test_auto_takes_the_run_with_the_most_steps_whatever_the_clock_said(tmp_path: Path) -> None:
    changes = {"name": "toy", "paths": {"root": str(tmp_path)}, "schedule": CONSTANT}
    for steps, clock in ((3, 2_000_000_000), (5, 1_000_000_000)):
        toy_fit(tmp_path / f"toy/{steps}", toy_config(trainer__max_steps=steps) | changes)
        os.utime(tmp_path / f"toy/{steps}/checkpoints/last.ckpt", (clock, clock))
    found = find_checkpoint("auto", tmp_path / "toy/new", toy_config(trainer__max_steps=9) | changes)
    assert found is not None and found.step == 5


def test_auto_does_not_continue_a_run_that_is_under_way_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = toy_config(trainer__max_steps=2, name="toy", paths={"root": str(tmp_path)})
    toy_fit(tmp_path / "toy/old", config)
    with RunLock(tmp_path / "toy/old"):
        assert find_checkpoint("auto", tmp_path / "toy/new", config) is None
    assert f"{tmp_path / 'toy/old'}, which is under way: in use by pid {os.getpid()}" in caplog.text


def test_a_run_that_goes_on_in_another_directory_takes_its_best_file_along(tmp_path: Path):
    # the loss falls, so that its largest value is an early one
    task = type("Reversed", (LanguageModelling,), {"mode": "max"})
    _, first = toy_fit(tmp_path / "a", toy_config(**BASE), task)
    assert first["best/step"] < STEPS
    further = {"trainer__max_steps": STEPS + 1, "resume": str(tmp_path / "a"), "resume_force": True}
    _, second = toy_fit(tmp_path / "b", toy_config(**BASE | further), task)
    assert (second["best/step"], second["best/val/loss"]) == (first["best/step"], first["best/val/loss"])
    assert read_checkpoint(tmp_path / "b/checkpoints/best.ckpt").step == first["best/step"]


def test_a_damaged_best_file_of_another_directory_is_left_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy_fit(tmp_path / "a", toy_config(trainer__max_steps=4) | constant())
    (tmp_path / "a/checkpoints/best.ckpt").write_bytes(b"damaged")
    _, out = toy_fit(tmp_path / "b", toy_config(trainer__max_steps=6, resume=str(tmp_path / "a")) | constant())
    assert out["step"] == out["best/step"] == 6 and "not taken along" in caplog.text


def test_a_run_of_a_version_that_did_not_know_a_switch_can_be_continued() -> None:
    old = {"model": {"d_model": 8}, "compile": True}
    assert differences(old, {"model": {"d_model": 8}, "compile": True, "block": {"inner_dropout": False}}) == []
    started = {"model": {"d_model": 8, "init": "torch"}, "compile": True, "release": {"linear": {"size": 0.02}}}
    assert differences(old, started) == []
    started["model"]["init"] = "release"
    assert differences(old, started) == [("model.init", "torch", "release")]
    new = {"model": {"d_model": 8, "dropout": 0.1}, "compile": False}
    assert differences(old, new) == [("compile", True, False), ("model.dropout", None, 0.1)]
