"""What watches over a run: guards, averages, stops, tables and pictures."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import math
import multiprocessing
import socket
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from lightning import Trainer
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor
from torch.utils.data import default_collate

from lcsm.errors import UsageError
from lcsm.tasks.language_modelling import LanguageModelling
from lcsm.tasks.recall import Recall
from lcsm.training.callbacks import figures, memory
from lcsm.training.callbacks.samples import TextSamples
from lcsm.training.callbacks.seeding import step_seed
from lcsm.training.checkpoints import read_checkpoint
from lcsm.training.errors import NonFiniteError
from lcsm.training.lock import RunLock
from tests.training.toy_run import CONSTANT, ToyRows, toy_config, toy_fit, toy_task

NOTHING = {
    "checkpoint": None, "progress": False, "throughput": False, "learning_rates": False, "hyperparameters": False,
    "nonfinite_skips": None, "ema": None, "stop_at": None, "patience": None, "figures": None, "samples": None,
}  # fmt: skip


def table(run_dir: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(run_dir: Path) -> EventAccumulator:
    """The events of a run."""
    return EventAccumulator(str(run_dir / "tb"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def breaking(what: str, at: tuple[int, ...]) -> type[LanguageModelling]:
    """A task whose loss, gradient or weight is not finite in the steps `at`, counted from 1."""

    class Breaking(LanguageModelling):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * math.nan if what == "loss" and self.trainer.global_step + 1 in at else loss

        def on_after_backward(self) -> None:
            if what == "gradient" and self.trainer.global_step + 1 in at:
                self.model.head.weight.grad[0, 0] = math.inf

        def optimizer_step(self, *arguments: Any) -> None:
            super().optimizer_step(*arguments)
            if what == "weight" and self.trainer.global_step + 1 in at:
                self.model.head.weight.data[0, 0] = math.nan

    return Breaking


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("what,message", [("loss", "the loss is nan"), ("gradient", "gradient of head.weight is not")])
def test_a_number_that_is_not_finite_stops_before_the_update(
    tmp_path: Path, what: str, message: str, accumulate: int
) -> None:
    with pytest.raises(NonFiniteError, match=f"step 3: .*{message}") as stopped:
        toy_fit(tmp_path, toy_config(trainer__accumulate_grad_batches=accumulate), breaking(what, (3,)))
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint.step == 2 and all(value.isfinite().all() for value in checkpoint.weights.values())
    assert str(checkpoint.path) in str(stopped.value) and len(str(stopped.value).splitlines()) <= 3
    end = json.loads((tmp_path / "end.json").read_text())
    assert end["status"] == "failed" and message in end["error"]


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", "deepspeed_stage_2", "model_parallel"])
def test_strategies_that_split_parameters_are_refused(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(UsageError, match=f"trainer.strategy={strategy} .*\\n.*=ddp"):
        toy_fit(tmp_path, toy_config(trainer__strategy=strategy))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"weight head.weight is not finite"):
        toy_fit(tmp_path, toy_config(callbacks__nonfinite_skips=None), breaking("weight", (3,)))
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert checkpoint.step == 2 and all(value.isfinite().all() for value in checkpoint.weights.values())


def test_skipped_updates_change_nothing_and_are_limited(tmp_path: Path) -> None:
    config = toy_config(trainer__max_steps=4, callbacks__nonfinite_skips=2, trainer__val_check_interval=100)
    _, out = toy_fit(tmp_path / "two", config, breaking("gradient", (3, 4)))
    content = read_checkpoint(tmp_path / "two" / "checkpoints" / "last.ckpt").content
    updates = {float(state["step"]) for state in content["optimizer_states"][0]["state"].values()}
    assert out["step"] == 4 and updates == {2.0}
    config["trainer"]["max_steps"] = 9
    with pytest.raises(NonFiniteError, match="after 2 updates left out in a row"):
        toy_fit(tmp_path / "three", config, breaking("loss", (3, 4, 5)))


def test_an_average_is_validated_and_saved_where_weights_are_read(tmp_path: Path) -> None:
    class Watching(LanguageModelling):
        def on_train_batch_end(self, *_: Any) -> None:
            self.trail = [*getattr(self, "trail", []), self.model.head.weight.detach().clone()]

        def on_validation_batch_end(self, *_: Any) -> None:
            self.validated = self.model.head.weight.detach().clone()

    task, _ = toy_fit(tmp_path, toy_config(trainer__max_steps=5, callbacks__ema=0.8), Watching)
    average = task.trail[0]
    for weight in task.trail[1:]:
        average = 0.8 * average + 0.2 * weight
    checkpoint = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    torch.testing.assert_close(checkpoint.weights["head.weight"], average)
    torch.testing.assert_close(task.validated, average)
    assert torch.equal(checkpoint.content["current_model_state"]["model.head.weight"], task.trail[-1])
    with pytest.raises(UsageError, match=r"callbacks.ema=1.5"):
        toy_fit(tmp_path / "b", toy_config(callbacks__ema=1.5))


def test_hyperparameters_and_scores_stand_in_one_event_file(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=8, logger={"tensorboard": True, "csv": False}))
    assert len(list((tmp_path / "tb").glob("events*"))) == 1
    log = events(tmp_path)
    content = log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info.hparams
    assert start["model"].string_value == "toy" and start["lr"].number_value == 0.01
    assert start["mixer"].string_value == "Mixer" and start["oscillation"].string_value == "none"
    scores = log.Scalars("hp/loss")
    assert [score.step for score in scores] == [4, 8]
    assert scores[1].value == min(score.value for score in log.Scalars("val/loss"))


def test_what_the_command_line_gave_stands_first_among_the_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"hydra": {"overrides": {"task": ["oscillation=ones", "optim.lr=0.01", "+seed=3"]}}}
    monkeypatch.setattr(HydraConfig.instance(), "cfg", OmegaConf.create(words))
    toy_fit(tmp_path, toy_config(trainer__max_steps=1, logger={"tensorboard": True, "csv": False}))
    content = events(tmp_path).SummaryMetadata("_hparams_/experiment").plugin_data.content
    columns = HParamsPluginData.FromString(content).experiment.hparam_infos
    assert {column.name for column in columns if column.differs} == {"oscillation", "lr", "seed"}
    assert {"model", "expand", "d_model"} <= {column.name for column in columns}


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    changes = {"logger": {"tensorboard": True, "csv": True}, "schedule": CONSTANT}
    toy_fit(tmp_path, toy_config(trainer__max_steps=4) | changes)
    toy_fit(tmp_path, toy_config(trainer__max_steps=6, resume="auto") | changes)
    log = events(tmp_path)
    assert [event.step for event in log.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in table(tmp_path)] == ["1", "2", "3", "4", "5", "6"]
    assert [event.step for event in log.Scalars("hp/loss")] == [4, 6]


def test_a_run_that_goes_on_in_another_directory_has_whole_curves_and_a_row_of_its_own(tmp_path: Path) -> None:
    changes = {"logger": {"tensorboard": True, "csv": True}, "schedule": CONSTANT}
    toy_fit(tmp_path / "whole", toy_config(trainer__max_steps=9) | changes)
    toy_fit(tmp_path / "a", toy_config(trainer__max_steps=5) | changes)
    (tmp_path / "a" / "checkpoints" / "best.ckpt").unlink()
    further = {"resume": str(tmp_path / "a"), "name": "b"} | changes
    toy_fit(tmp_path / "b", toy_config(trainer__max_steps=9) | further)
    log = events(tmp_path / "b")
    assert [event.step for event in log.Scalars("train/loss")] == list(range(1, 10))
    losses = {row["step"]: row["train/loss"] for row in table(tmp_path / "whole")}
    assert {row["step"]: row["train/loss"] for row in table(tmp_path / "b")} == losses
    assert log.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    scores = [float(row["val/loss"]) for row in table(tmp_path / "b") if row["val/loss"]]
    assert log.Scalars("hp/loss")[-1].value == pytest.approx(min(scores))


def test_a_run_without_events_that_goes_on_with_them_gets_its_row(tmp_path: Path) -> None:
    constant = {"schedule": CONSTANT}
    toy_fit(tmp_path, toy_config(trainer__max_steps=4) | constant)
    changes = {"logger": {"tensorboard": True, "csv": True}, "resume": "auto"} | constant
    toy_fit(tmp_path, toy_config(trainer__max_steps=6) | changes)
    assert events(tmp_path).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert [event.step for event in events(tmp_path).Scalars("hp/loss")] == [4, 6]


def test_the_table_has_one_row_per_step_and_empty_cells_for_what_was_not_measured(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=5, trainer__log_every_n_steps=2, trainer__val_check_interval=3))
    rows = table(tmp_path)
    assert [row["step"] for row in rows] == ["2", "3", "4", "5"]
    assert [bool(row["train/loss"]) for row in rows] == [True, False, True, False]
    assert [bool(row["val/loss"]) for row in rows] == [False, True, False, True]
    assert float(rows[0]["speed/tokens_per_second"]) > 0 and float(rows[0]["memory/peak_mib"]) > 10


@pytest.mark.skipif(not memory.RESET.exists(), reason="the system does not set the largest memory back")
def test_the_peak_of_memory_is_that_of_the_run_and_not_of_an_earlier_one(tmp_path: Path) -> None:
    def allocate(self: LanguageModelling, *_: object) -> None:
        torch.ones(2**26)

    large = type("Large", (LanguageModelling,), {"on_train_batch_start": allocate})
    peaks = [toy_fit(tmp_path / kind.__name__, toy_config(trainer__max_steps=2), kind)[1]["peak_mib"]
             for kind in (large, LanguageModelling)]  # fmt: skip
    # 2^26 numbers of 4 bytes are 256 MiB
    assert peaks[0] - peaks[1] > 200 and float(table(tmp_path / "LanguageModelling")[1]["memory/peak_mib"]) > 10


def test_a_later_run_of_a_process_claims_no_memory_that_it_cannot_tell_from_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "RESET", tmp_path / "no" / "such" / "place")
    monkeypatch.setattr(memory, "RUNS", itertools.count())
    first, later = (toy_fit(tmp_path / name, toy_config(trainer__max_steps=1))[1] for name in "ab")
    assert first["peak_mib"] > 10 and later["peak_mib"] is None
    assert "memory/peak_mib" not in table(tmp_path / "b")[0]


def test_a_threshold_stops_and_a_resumed_run_stays_stopped(tmp_path: Path) -> None:
    config = toy_config(callbacks__stop_at=0.0, trainer__max_steps=12)
    _, out = toy_fit(tmp_path, config, Recall)
    assert out["step"] == 4 and out["status"] == "finished"
    _, again = toy_fit(tmp_path, config | {"resume": "auto"}, Recall)
    assert again["step"] == 4 and again["val/accuracy"] == out["val/accuracy"]
    further = toy_config(callbacks__stop_at=None, trainer__max_steps=12, resume="auto")
    assert toy_fit(tmp_path, further, Recall)[1]["step"] == 12


def test_auto_takes_the_threshold_of_the_task(tmp_path: Path) -> None:
    easy = type("Easy", (Recall,), {"stop_at": 0.0})
    assert toy_fit(tmp_path, toy_config(callbacks__stop_at="auto"), easy)[1]["step"] == 4


def test_patience_counts_validations_without_improvement(tmp_path: Path) -> None:
    changes = {"callbacks__patience": 2, "optim__lr": 0.0, "trainer__val_check_interval": 1}
    _, out = toy_fit(tmp_path, toy_config(**changes))
    assert out["step"] == 3 and out["best/step"] == 1


def test_best_is_the_best_and_last_the_last(tmp_path: Path) -> None:
    _, out = toy_fit(tmp_path, toy_config(optim__lr=0.3, trainer__val_check_interval=1))
    losses = {int(row["step"]): float(row["val/loss"]) for row in table(tmp_path)}
    best = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")
    assert best.step == min(losses, key=lambda step: losses[step]) == out["best/step"]
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == 12
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert best.metrics["val/loss"] == pytest.approx(out["best/val/loss"])


def test_damage_of_the_last_file_in_place_leaves_the_best_one_whole(tmp_path: Path) -> None:
    _, out = toy_fit(tmp_path, toy_config(trainer__max_steps=4))
    last, best = (tmp_path / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    with last.open("r+b") as file:
        file.truncate(100)
    assert read_checkpoint(best).step == out["best/step"] == 4


@pytest.mark.parametrize("logger", [{"tensorboard": False, "csv": False}, {"tensorboard": True, "csv": False}])
def test_a_run_without_callbacks_works(tmp_path: Path, logger: dict[str, bool]) -> None:
    _, out = toy_fit(tmp_path, toy_config(callbacks=NOTHING, logger=logger, trainer__max_steps=3))
    assert out["status"] == "finished" and out["checkpoint"] is None and "val/loss" in out
    assert not (tmp_path / "checkpoints").exists()


def test_every_callback_works_without_a_logger(tmp_path: Path, stand_ins: None) -> None:
    changes = {"callbacks__figures": {"every": 1, "layer": 0, "length": 6}, "callbacks__samples": SAMPLES}
    changes |= {"callbacks__progress": True, "trainer__enable_progress_bar": True, "callbacks__patience": 9}
    _, out = toy_fit(tmp_path, toy_config(logger={"tensorboard": False, "csv": False}, **changes))
    assert out["status"] == "finished" and (tmp_path / "figures" / "mixing_layer0.png").stat().st_size > 0


def test_validations_are_logged_where_no_bar_is_drawn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lcsm")
    toy_fit(tmp_path, toy_config(callbacks__progress=True, trainer__enable_progress_bar=False, trainer__max_steps=4))
    assert "step 4/4  loss " in caplog.text


SAMPLES = {"every": 1, "prompt_tokens": 3, "num_tokens": 5, "temperature": 0.0, "top_k": None, "top_p": None}


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspection and generation that fit the toy model."""
    inspection, generation = ModuleType("inspection"), ModuleType("generation")
    inspection.decay_spectrum = lambda model, tokens: [("layer0", np.linspace(0.0, 1.0, 20))]
    inspection.half_life = lambda decays: np.where(decays < 1, 10 * decays, np.inf)
    inspection.mixing_matrix = lambda model, layer, tokens: np.eye(tokens.shape[1])
    generation.generate = lambda model, prompt, num_tokens, **_: iter([0] * num_tokens)
    monkeypatch.setitem(sys.modules, "lcsm.inspection", inspection)
    monkeypatch.setitem(sys.modules, "lcsm.models.generation", generation)


def test_figures_and_samples_reach_tensorboard(tmp_path: Path, stand_ins: None) -> None:
    changes = {"callbacks__figures": {"every": 2, "layer": 0, "length": 6}, "callbacks__samples": SAMPLES}
    toy_fit(tmp_path, toy_config(logger={"tensorboard": True, "csv": False}, **changes))
    log = events(tmp_path)
    for name in ("spectrum/decays", "spectrum/half_life", "mixing/layer0"):
        # every second validation, and the last
        assert [event.step for event in log.Images(name)] == [4, 12]
    texts = log.Tensors("samples/val/text_summary")
    assert [event.step for event in texts] == [4, 8, 12] and b"aaaaa" in texts[0].tensor_proto.string_val[0]


def test_a_model_that_cannot_stream_writes_no_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = toy_task(toy_config())
    task.model.streams = False
    callback, trainer = TextSamples(**SAMPLES), Mock(Trainer, sanity_checking=False, is_global_zero=True)
    with caplog.at_level(logging.WARNING):
        callback.on_fit_start(trainer, task)
    callback.on_validation_batch_start(trainer, task, default_collate([ToyRows(1)[0]]), 0)
    callback.on_validation_epoch_end(trainer, task)
    assert len(caplog.messages) == 1 and "cannot stream" in caplog.messages[0] and callback.validations == 0


def test_half_lives_of_endless_and_of_no_memory_are_drawn(tmp_path: Path, stand_ins: None) -> None:
    drawn = figures.draw_half_lives([("ones", np.ones(3)), ("zero", np.zeros(3))])
    drawn.savefig(tmp_path / "a.png")
    low, high = drawn.axes[0].get_ylim()
    assert 0 < low < high < 1e12


def test_a_run_directory_is_used_by_one_process(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(UsageError, match=f"pid .* on {socket.gethostname()}"):
        toy_fit(tmp_path, toy_config())
    assert toy_fit(tmp_path, toy_config(trainer__max_steps=1))[1]["step"] == 1


def test_a_worker_that_outlives_its_run_does_not_keep_the_directory_locked(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    with RunLock(tmp_path):
        worker = context.Process(target=lambda: (started.set(), time.sleep(60)))
        worker.start()
        started.wait()
    try:
        with RunLock(tmp_path):
            assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()


def test_a_run_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        toy_fit(tmp_path / "file" / "run", toy_config())


def test_the_whole_configuration_is_kept_beside_the_results(tmp_path: Path) -> None:
    toy_fit(tmp_path, toy_config(trainer__max_steps=1))
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml")) == toy_config(trainer__max_steps=1)


def test_facts_stand_beside_the_scores(tmp_path: Path) -> None:
    config = toy_config(trainer__max_steps=1, logger={"tensorboard": True, "csv": False})
    _, out = toy_fit(tmp_path, config, facts={"state_size": 64.0})
    assert out["state_size"] == 64.0 and json.loads((tmp_path / "end.json").read_text())["state_size"] == 64.0
    assert [event.value for event in events(tmp_path).Scalars("hp/state_size")] == [64.0]


def test_step_seeds_differ_by_seed_batch_and_rank() -> None:
    seeds = {step_seed(seed, batch, rank) for seed in range(5) for batch in range(20) for rank in range(3)}
    assert len(seeds) == 300 and all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(1, 2, 0) == step_seed(1, 2, 0)


@pytest.mark.parametrize(
    "change,message",
    [({"callbacks": NOTHING | {"emma": 1}}, "callbacks.emma is not known"), ({"logger": {"wandb": True}},
    "logger.wandb"),
     ({"trainer__max_steps": -1}, "at least 1"), ({"trainer__val_check_interval": 0.5}, "whole number"),
     ({"trainer": toy_config()["trainer"] | {"precison": 16}}, "trainer: .*precison"),
     ({"trainer": toy_config()["trainer"] | {"logger": True}}, "trainer.logger is set by the run")],
)  # fmt: skip
def test_wrong_settings_are_refused_before_training(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        toy_fit(tmp_path, toy_config(**change))


def test_a_model_that_cannot_be_drawn_is_trained_without_figures(
    tmp_path: Path, stand_ins: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*arguments: object) -> None:
        raise UsageError("layer 0 is a Novelty, whose mixing matrix is not known")

    monkeypatch.setattr(sys.modules["lcsm.inspection"], "mixing_matrix", unknown)
    _, out = toy_fit(tmp_path, toy_config(callbacks__figures={"every": 1, "layer": 0, "length": 6}))
    assert out["status"] == "finished" and caplog.text.count("no figures: layer 0 is a Novelty") == 1
