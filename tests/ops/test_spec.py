"""Which stages go together, and which algorithm serves them."""

import pytest

from lcsm.errors import UsageError
from lcsm.ops.dispatch import ALGORITHMS, choose_algorithm, fitting
from lcsm.ops.spec import RecurrenceSpec


def spec(**changes) -> RecurrenceSpec:
    settings = {
        "kind": "diagonal", "decay": "LHN", "phase": None, "gain": None, "expand": "LHN", "shrink": "LHN",
        "num_heads": 2, "state_dim": 8, "value_dim": 8, **changes,
    }  # fmt: skip
    return RecurrenceSpec(**settings)


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
    "running maximum over writes": ({"stabilised": True, "decay": "LH", "substeps": 2}, "one write per token"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_illegal_pair_is_refused_with_a_way_out(name: str):
    changes, way_out = REFUSED[name]
    with pytest.raises(UsageError, match=way_out) as caught:
        spec(**changes)
    assert len(str(caught.value).splitlines()) <= 3


CHOSEN = {
    "ones": ({"decay": None}, "chunk elementwise scan reference"),
    "scalar": ({"decay": "LH"}, "chunk elementwise scan reference"),
    "rows": ({}, "chunk elementwise scan reference"),
    "separable": ({"decay": "LHN+LHP"}, "chunk elementwise scan reference"),
    "learned N x P expand": ({"decay": "H", "expand": "HNP"}, "elementwise scan reference"),
    "all constant per channel": (
        {"decay": "HNP", "expand": "HNP", "shrink": "HNP"},
        "convolution elementwise scan reference",
    ),
    "Mamba": ({"decay": "HN*LH", "value_dim": 1}, "elementwise scan reference"),
    "S5": (
        {"decay": "HN", "phase": "HN", "value_dim": 1, "reads": "memory", "shrink": ""},
        "lockstep elementwise convolution scan reference",
    ),
    "LRPE": ({"decay": None, "phase": "HN"}, "rotate elementwise scan reference"),
    "complex inputs that turn": ({"decay": None, "phase": "HN", "complex_inputs": True}, "elementwise scan reference"),
    "complex inputs, all constant": (
        {"decay": "HN", "phase": "HN", "expand": "HN", "shrink": "HN", "value_dim": 1, "complex_inputs": True},
        "elementwise scan reference",
    ),
    "constant matrix": ({"kind": "dense", "decay": None}, "powers loop diagonalise reference"),
    "data-driven matrix": ({"kind": "dense", "decay": "LHN"}, "loop reference"),
    "modes that may grow": (
        {"growing": True, "decay": "HN", "expand": "", "shrink": "HN", "value_dim": 1},
        "convolution",
    ),
    "window": ({"kind": "shift", "decay": None, "expand": "N", "shrink": "HNP"}, "convolution reference"),
    "window that follows the tokens": ({"kind": "shift", "decay": None, "expand": "N", "shrink": "LHN"}, "reference"),
    "erasing": ({"kind": "low_rank"}, "delta reference"),
    "erasing by constants": (
        {"kind": "low_rank", "decay": "HN", "expand": "HN", "shrink": "HN"},
        "convolution reference",
    ),
    "erasing in pairs": ({"kind": "low_rank", "phase": "LHN"}, "reference"),
    "several writes": ({"substeps": 2}, "chunk elementwise scan reference"),
    "several writes that turn": ({"substeps": 2, "phase": "LHN"}, "rotate elementwise scan reference"),
    "several writes of constants": (
        {"decay": "HN", "expand": "HN", "shrink": "HN", "value_dim": 1, "substeps": 2},
        "lockstep elementwise convolution scan reference",
    ),
    "several writes that erase": ({"kind": "low_rank", "substeps": 2}, "delta reference"),
    "several writes into a window": ({"kind": "shift", "decay": None, "expand": "N", "substeps": 2}, "reference"),
    "several writes between matrices": ({"kind": "dense", "substeps": 2}, "loop reference"),
    "columns that turn differently": ({"phase": "HP"}, "elementwise scan reference"),
    "running maximum": ({"decay": "H", "stabilised": True, "value_dim": 1}, "elementwise scan reference"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_list_is_searched_by_all_declarations_together(name: str):
    changes, algorithms = CHOSEN[name]
    choice = choose_algorithm(spec(**changes))
    assert choice.available == tuple(algorithms.split()) and choice.name == choice.available[0]


def test_every_memory_that_advances_can_run_the_reference():
    found = {name: fitting(spec(**changes))[-1] for name, (changes, _) in CHOSEN.items()}
    assert {name for name, last in found.items() if last != "reference"} == {"modes that may grow"}


@pytest.mark.parametrize("request_", ["lockstep", "fastest"])
def test_unfit_request_names_the_fit_ones(request_: str):
    with pytest.raises(UsageError, match="chunk, elementwise, scan, reference"):
        choose_algorithm(spec(), request_)


def test_algorithms_are_named_after_their_functions():
    assert all(entry.function.__name__ == entry.name for entry in ALGORITHMS)
