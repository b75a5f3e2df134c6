"""Expand and shrink: hand-crafted, learned and data-driven, and the shrink that reads the whole memory."""

import math

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.ops.reference import reference
from lcsm.ops.spec import RecurrenceSpec
from lcsm.stages.activation import ACTIVATIONS, ELEMENTWISE
from lcsm.stages.vectors.shrink import MemoryProjection
from lcsm.structures import Diagonal
from tests.stages.options import BATCH, LENGTH, build, call, example

FORMULAS = {
    "identity": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "one_plus_elu": lambda x: 1 + x if x > 0 else math.exp(x),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "relu_squared": lambda x: max(x, 0.0) ** 2,
    "square": lambda x: x * x,
    "exp": math.exp,
    "tanh": math.tanh,
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "linear_sigmoid": lambda x: x + 0.5 if x >= 0 else 1 / (1 + math.exp(-x)),
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activation_is_its_formula(name: str):
    # in double precision: 1 + erf cancels a digit and more
    points = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], dtype=torch.float64)
    assert ELEMENTWISE[name](points).tolist() == pytest.approx([FORMULAS[name](x) for x in points.tolist()])


@pytest.mark.parametrize("group", ["expand", "shrink"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_data_driven_is_an_activated_projection(group: str, activation: str):
    stage, x = build(group, "data_driven", activation=activation), example()
    logits = (x @ stage.projection.weight.T).unflatten(-1, (2, 4))
    expected = logits.softmax(-1) if activation == "softmax" else ACTIVATIONS[activation](logits)
    torch.testing.assert_close(call(stage, x)[0][..., 0], expected)


@pytest.mark.parametrize("option", ["learned", "learned_channels", "hand_crafted"])
def test_softmax_makes_the_rows_of_every_vector_sum_to_one(option: str):
    stage = build("expand", option, activation="softmax")
    value = call(stage, example())[0].expand(1, 1, 2, 4, 3)
    torch.testing.assert_close(value.sum(3), torch.ones(1, 1, 2, 3))


def test_learned_direction_starts_small_and_takes_no_weight_decay():
    direction = build("expand", "learned_channels", state_dim=400, value_dim=50).direction
    assert direction.std().item() == pytest.approx(0.1, rel=0.05) and direction._no_decay


def test_hand_crafted_directions_are_fixed_and_kept_in_checkpoints():
    expand, shrink = build("expand", "hand_crafted_legs"), build("shrink", "hand_crafted_normal")
    expected = torch.tensor([1.0, 3.0, 5.0, 7.0]).sqrt()
    torch.testing.assert_close(call(expand, example())[0].flatten(), expected)
    assert not [*expand.parameters(), *shrink.parameters()]
    other = build("shrink", "hand_crafted_normal")
    other.load_state_dict(shrink.state_dict())
    assert torch.equal(other.direction, shrink.direction)


@pytest.mark.parametrize("group", ["expand", "shrink"])
def test_unknown_activation_is_refused_by_name(group: str):
    with pytest.raises(UsageError, match=rf"{group}.activation='swish' is not an option: choose one of identity, relu"):
        build(group, "learned", activation="swish")


@pytest.mark.parametrize("option", ["memory", "memory_complex"])
def test_memory_shrink_projects_what_the_recurrence_returns(option: str):
    stage = build("shrink", option).double()
    phase = torch.rand(1, 1, 2, 4, 1).double() if stage.complex_memory else None
    declared = None if phase is None else "HN"
    spec = RecurrenceSpec(
        kind="diagonal",
        decay="",
        phase=declared,
        expand="LHN",
        shrink=stage.varies,
        num_heads=2,
        state_dim=4,
        value_dim=1,
        reads=stage.reads,
    )
    structure = Diagonal(log_decay=torch.full((1, 1, 1, 1, 1), -0.1).double(), phase=phase)
    expand, one = torch.randn(BATCH, LENGTH, 2, 4, 1).double(), torch.ones(1, 1, 1, 1).double()
    memory, _ = reference(spec, structure, one, expand, call(stage, example())[0])
    weight = stage.weight if phase is None else torch.complex(stage.weight[..., :4], -stage.weight[..., 4:])
    expected = torch.einsum("blhn,hqn->blhq", memory, weight.to(memory.dtype))
    torch.testing.assert_close(stage.read_out(memory), expected.real if phase is not None else expected)
    assert stage.output_dim == 3


def test_memory_shrink_refuses_heads_that_do_not_share_the_width():
    with pytest.raises(UsageError, match=r"mixer.num_heads=4 does not divide model.d_model=6"):
        MemoryProjection(d_model=6, num_heads=4, state_dim=2, complex_memory=False)
