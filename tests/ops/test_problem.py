"""Which stages go together, and which algorithm serves them."""

import pytest

from lcsm.errors import UsageError
from lcsm.ops.dispatch import ALGORITHMS, choose_algorithm, fitting
from lcsm.ops.problem import Problem


def problem(**changes) -> Problem:
    settings = {
        "kind": "diagonal", "decay": "LHN", "phase": None, "gain": None, "expand": "LHN", "shrink": "LHN",
        "num_heads": 2, "state_dim": 8, "value_dim": 8, **changes,
    }  # fmt: skip
    return Problem(**settings)


REFUSED = {
    "unknown structure": ({"kind": "triangular"}, "diagonal, low_rank"),
    "memory read-out with columns": ({"reads": "memory"}, "value_dim=1"),
    "denominator under a decay along P": ({"denominator": True, "decay": "LHP"}, "layer_norm"),
    "denominator of a memory read-out": (
        {"denominator": True, "reads": "memory", "value_dim": 1, "shrink": ""},
        "normaliser=layer_norm",
    ),
    "gain along N and P": ({"gain": "HNP"}, "one of them"),
    "gain along N on a per-channel expand": ({"gain": "LHN", "expand": "HNP"}, "expand=data_driven"),
    "pairs without phase": ({"pairs": True}, "oscillation.pairs=false"),
    "dense with a per-channel shrink": ({"kind": "dense", "decay": None, "shrink": "HNP"}, "oscillation=diag"),
    "complex inputs of modes that may grow": (
        {"growing": True, "decay": "HN", "expand": "", "shrink": "HN", "complex_inputs": True},
        "oscillation.real=exp",
    ),
    "running maximum over rows": ({"stabilised": True}, "along L and H only"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_illegal_pair_is_refused_with_a_way_out(name: str):
    changes, way_out = REFUSED[name]
    with pytest.raises(UsageError, match=way_out) as caught:
        problem(**changes)
    assert len(str(caught.value).splitlines()) <= 3


CHOSEN = {
    "ones": ({"decay": None}, "chunk"),
    "scalar": ({"decay": "LH"}, "chunk"),
    "rows": ({}, "chunk"),
    "separable": ({"decay": "LHN+LHP"}, "chunk"),
    "learned N x P expand": ({"decay": "H", "expand": "HNP"}, "elementwise"),
    "all constant per channel": ({"decay": "HNP", "expand": "HNP", "shrink": "HNP"}, "convolution"),
    "Mamba": ({"decay": "HN*LH", "value_dim": 1}, "elementwise"),
    "S5": ({"decay": "HN", "phase": "HN", "value_dim": 1, "reads": "memory", "shrink": ""}, "lockstep"),
    "LRPE": ({"decay": None, "phase": "HN"}, "rotate"),
    "complex inputs that turn": ({"decay": None, "phase": "HN", "complex_inputs": True}, "elementwise"),
    "complex inputs, all constant": (
        {"decay": "HN", "phase": "HN", "expand": "HN", "shrink": "HN", "value_dim": 1, "complex_inputs": True},
        "elementwise",
    ),
    "constant matrix": ({"kind": "dense", "decay": None}, "powers"),
    "data-driven matrix": ({"kind": "dense", "decay": "LHN"}, "loop"),
    "running maximum": ({"decay": "H", "stabilised": True, "value_dim": 1}, "elementwise"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_table_chooses_by_all_declarations_together(name: str):
    changes, algorithm = CHOSEN[name]
    assert choose_algorithm(problem(**changes)).name == algorithm


def test_every_problem_can_run_the_reference():
    assert all(fitting(problem(**changes))[-1] == "reference" for changes, _ in CHOSEN.values())


@pytest.mark.parametrize("request_", ["lockstep", "fastest"])
def test_unfit_request_names_the_fit_ones(request_: str):
    with pytest.raises(UsageError, match="chunk, elementwise, scan, reference"):
        choose_algorithm(problem(), request_)


def test_algorithms_are_named_after_their_functions():
    assert all(function.__name__ == name for name, function in ALGORITHMS.items())
