"""Every YAML option of LCSM and its ablations is a stage that keeps its promises."""

import pytest
import torch
import yaml

from lcsm.errors import UsageError
from lcsm.ops.spec import RecurrenceSpec
from lcsm.stages.base import Oscillation
from lcsm.stages.decay.mixed import MixedDiagonal
from lcsm.structures import Decaying, Dense
from tests.stages.options import BATCH, CONF, GROUPS, LENGTH, build, call, example, names, parts, shape

ALL = [(group, option) for group in GROUPS for option in names(group)]
STAGES = [(group, option) for group, option in ALL if group != "normaliser"]
OSCILLATIONS = names("oscillation")


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_begins_with_one_line_about_itself(group: str):
    for path in (CONF / group).glob("*.yaml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# ") and len(first) <= 120, path.name


@pytest.mark.parametrize(("group", "option"), ALL)
def test_option_builds_without_memory(group: str, option: str):
    with torch.device("meta"):
        stage = build(group, option)
    assert all(parameter.is_meta for parameter in stage.parameters())


@pytest.mark.parametrize("group", GROUPS)
def test_none_option_is_an_empty_node(group: str):
    assert yaml.safe_load((CONF / group / "none.yaml").read_text()) is None


@pytest.mark.parametrize(("group", "option"), [pair for pair in STAGES if pair[0] in ("expand", "shrink")])
def test_expand_and_shrink_vary_along_the_declared_axes_alone(group: str, option: str):
    stage = build(group, option)
    assert stage(example())[0].shape == shape(stage.varies)


@pytest.mark.parametrize("option", names("input"))
def test_input_varies_along_the_declared_axes_alone(option: str):
    stage = build("input", option)
    value = stage(example())[0]
    assert value.shape == ((BATCH, LENGTH, 2, 3) if stage.varies == "LHP" else (1, 1, 1, 1))


@pytest.mark.parametrize("option", OSCILLATIONS)
def test_oscillation_varies_along_the_declared_axes_alone(option: str):
    stage = build("oscillation", option)
    structure = call(stage, example())[0]
    if isinstance(structure, Dense):
        assert stage.kind == "dense"
        assert structure.matrix.shape == (*shape(stage.decay)[:4], 4)
        return
    assert structure.log(0, LENGTH).shape == shape(stage.decay or "")
    assert (stage.decay is None) == (structure.log(0, LENGTH) == 0).all()
    for declared, value in ((stage.phase, structure.phase), (stage.gain, structure.gain)):
        assert (declared is None) == (value is None)
        assert value is None or value.shape == shape(declared)


@pytest.mark.parametrize("option", OSCILLATIONS)
def test_decay_is_held_as_the_declared_factors_and_summands(option: str):
    stage = build("oscillation", option)
    structure = call(stage, example())[0]
    terms = sorted(shape(term) for term in (stage.decay or "").replace("+", "*").split("*"))
    if isinstance(structure, Decaying):
        fields = [structure.log_decay, structure.step, structure.columns]
        if isinstance(structure, MixedDiagonal):
            fields = [structure.logits, structure.weights]
        assert sorted(tuple(field.shape) for field in fields if field is not None) == terms


@pytest.mark.parametrize("option", [option for option in OSCILLATIONS if not option.startswith("dense")])
def test_log_decay_is_float32_and_at_most_zero_under_autocast(option: str):
    stage, x = build("oscillation", option), 30 * example()
    with torch.autocast("cpu", torch.bfloat16):
        structure = call(stage, x)[0]
        tensors = {**structure.tensors(), "log": structure.log(0, LENGTH)}
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert all(value.isfinite().all() for value in tensors.values())
    assert (tensors["log"] <= 0).all() and (structure.log_decay <= 0).all()


@pytest.mark.parametrize(("group", "option"), STAGES)
def test_every_parameter_is_used_and_gets_a_finite_gradient(group: str, option: str):
    stage = build(group, option)
    value, _ = call(stage, example())
    loss = sum(part.float().square().sum() for part in parts(value).values())
    if group == "shrink" and stage.reads == "memory":
        kind = torch.complex64 if stage.complex_memory else torch.float32
        loss = stage.read_out(torch.randn(BATCH, LENGTH, 2, 4, dtype=kind)).square().sum()
    if list(stage.parameters()):
        loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stage.parameters())


@pytest.mark.parametrize("option", OSCILLATIONS)
def test_parameters_of_decays_take_no_weight_decay_and_have_a_group(option: str):
    stage = build("oscillation", option)
    own = [
        p for name, p in stage.named_parameters() if "project" not in name and not name.startswith(("reduce", "exp"))
    ]
    assert all(p._no_decay and p._lr_group == "oscillation" for p in own)


@pytest.mark.parametrize("option", [option for option in OSCILLATIONS if option.startswith(("mixed", "ssm"))])
def test_decays_of_every_entry_are_recognised_as_such_and_stay_small(option: str):
    stage = build("oscillation", option)
    sizes = {"num_heads": 2, "state_dim": 4, "value_dim": 3}
    spec = RecurrenceSpec(
        kind="diagonal", decay=stage.decay, phase=stage.phase, gain=stage.gain, expand="LHN", shrink="LHN", **sizes
    )
    assert spec.per_channel
    structure = call(stage, example())[0]
    assert max(value.numel() for value in structure.tensors().values()) <= BATCH * LENGTH * 2 * 4


def test_a_stage_of_an_earlier_version_is_refused_with_the_name_of_today():
    with pytest.raises(UsageError, match="remembers is called stateful now"):
        type("Mine", (Oscillation,), {"remembers": True})
