"""The algorithm of a memory is chosen for the device on which it runs."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.models.build import Builder, rehearse
from lcsm.ops import cost, dispatch
from lcsm.ops.dispatch import Algorithm, costs, fitting
from lcsm.ops.recurrence import Recurrence
from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.structures import Diagonal
from tests.compose import compose, small
from tests.ops.test_spec import spec

RAN: list[str] = []


def kernel(spec: RecurrenceSpec, structure: Any, inputs: torch.Tensor, *arguments: Any) -> tuple[Any, Any]:
    """An algorithm of other devices than the CPU."""
    RAN.append(inputs.device.type)
    return reference(spec, structure, inputs, *arguments)


@pytest.fixture(autouse=True)
def seam(monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    entry = Algorithm("kernel", kernel, dispatch.is_diagonal, "it is the fastest there", cost.chunk, ("cuda", "meta"))
    monkeypatch.setattr(dispatch, "ALGORITHMS", (entry, *dispatch.ALGORITHMS))


def run(recurrence: Recurrence, device: str, length: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(1, length, 2, 8, 1, generator=generator).to(device)
    structure = Diagonal(log_decay=-vector.abs())
    written = recurrence.write(structure, vector[..., 0], vector)
    return recurrence.run(written, vector)[0]


def test_an_algorithm_of_one_device_is_chosen_there_and_nowhere_else():
    recurrence = Recurrence(spec())
    names = [recurrence.choice(device).name for device in ("cpu", "meta", "cpu", "cuda")]
    assert names == ["chunk", "kernel", "chunk", "kernel"]
    assert recurrence.function("meta") is kernel
    assert recurrence.choice("meta").reason == "it is the fastest there"


def test_what_is_offered_and_what_it_costs_depend_on_the_device():
    assert fitting(spec()) == ("chunk", "elementwise", "scan", "reference")
    assert fitting(spec(), "meta") == ("kernel", *fitting(spec()))
    assert list(costs(spec(), 64, 0, "meta")) == list(fitting(spec(), "meta"))
    assert "kernel" not in costs(spec(), 64, 0)


def test_a_request_runs_on_its_devices_and_is_refused_on_others():
    recurrence = Recurrence(spec(), "kernel")
    assert recurrence.function("cuda") is kernel
    with pytest.raises(UsageError, match=r"mixer\.algorithm='kernel' does not run on cpu.*\n?.*chunk, elementwise"):
        run(recurrence, "cpu")
    assert not RAN


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_chooses_as_the_original(copied: Any):
    assert copied(Recurrence(spec())).choice("cpu").name == "chunk"
    assert copied(Recurrence(spec(), "kernel")).function("meta") is kernel


def test_a_mixer_made_on_one_device_says_what_it_runs_on_another():
    config = compose(*small("model=gla"))
    with torch.device("meta"):
        mixer = Builder(config).mixer(config, 0, "layer")
    assert "algorithm='kernel'" in mixer.extra_repr()
    assert "algorithm='chunk'" in mixer.to_empty(device="cpu").extra_repr()
    assert mixer.choice("cpu").available[0] == "chunk"


def test_a_rehearsal_on_the_cpu_lets_another_algorithm_take_the_place_of_a_request():
    rehearse(compose(*small("model=gla", "mixer.algorithm=kernel")))
    assert not RAN


def test_a_model_that_moves_runs_what_its_device_runs(monkeypatch: pytest.MonkeyPatch):
    # autocast knows no meta device
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
    config = compose(*small("model=gla", "mixer.reverse.shrink=tied"))
    mixer, x = Builder(config).mixer(config, 0, "layer"), torch.randn(1, 5, 8)
    for device in ("cpu", "meta"):
        mixer.to(device)(x.to(device))
    copied = copy.deepcopy(mixer).to_empty(device="cpu")
    copied(x)
    assert RAN == ["meta", "meta"]
