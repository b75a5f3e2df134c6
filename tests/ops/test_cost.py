"""Costs of algorithms: their letters, and counts that follow the published ones."""

import pytest

from lcsm.ops.cost import recurrent_flops
from lcsm.ops.dispatch import costs
from tests.ops.test_spec import CHOSEN, spec

MIMO = {"decay": "HN", "phase": "HN", "value_dim": 1, "reads": "memory", "shrink": "", "num_heads": 1}


@pytest.mark.parametrize("name", CHOSEN)
def test_costs_are_positive_and_listed_best_first(name: str):
    found = costs(spec(**CHOSEN[name][0]), 128, 0)
    assert list(found) == CHOSEN[name][1].split()
    assert all(cost.flops > 0 and cost.depth > 0 and cost.order.startswith("O(") for cost in found.values())


def test_a_system_of_many_inputs_costs_what_ldnn_publishes():
    found = costs(spec(**MIMO), 4096, 0)
    assert found["convolution"].order == "O(L N max(D, log L))"
    assert found["lockstep"].order == found["reference"].order == "O(L N D)"
    heads = costs(spec(**{**MIMO, "num_heads": 4}), 4096, 0)
    assert heads["convolution"].order == "O(L H N max(D/H, log L))"


def test_projections_are_added_to_every_way():
    bare, whole = (costs(spec(**MIMO), 256, projections) for projections in (0, 1000))
    assert all(whole[name].flops == cost.flops + 1000 for name, cost in bare.items())


@pytest.mark.parametrize("name", ["convolution", "chunk", "reference"])
def test_work_per_token_grows_by_a_logarithm_at_most(name: str):
    constant = {"decay": "HN", "expand": "HN", "shrink": "HN", "value_dim": 1 if name == "convolution" else 8}
    short, long = (costs(spec(**constant), length, 0)[name].flops for length in (1 << 10, 1 << 14))
    assert long <= 1.5 * short


def test_chunks_cost_what_the_literature_counts():
    # 2 C (N + P) + 4 N P per token and head in gated linear attention; a decay per head adds nothing
    sizes = {"decay": "LH", "state_dim": 32, "value_dim": 64, "num_heads": 3}
    assert costs(spec(**sizes), 1024, 0)["chunk"].flops == 3 * (2 * 64 * (32 + 64) + 4 * 32 * 64)


def test_a_scan_and_chunks_wait_less_than_a_recurrence():
    found = costs(spec(), 1024, 0)
    assert (found["scan"].depth, found["chunk"].depth, found["reference"].depth) == (20, 16, 1024)
    assert recurrent_flops(spec()) == 2 * 8 * 8 * 5


@pytest.mark.parametrize("phase", [None, "LHN"], ids=["chunk", "rotate"])
def test_two_writes_per_token_cost_twice_as_much(phase: str | None):
    once, twice = (costs(spec(phase=phase, substeps=substeps), 1024, 0) for substeps in (1, 2))
    for name in set(once) - {"reference", "elementwise"}:
        assert twice[name].flops == 2 * once[name].flops and twice[name].depth > once[name].depth
