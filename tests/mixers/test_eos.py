"""What every combination of stages promises: causality, streaming, documents, one result from every algorithm."""

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.mixers.base import Mixer
from lcsm.models.build import Builder
from lcsm.structures import Context
from tests.compose import compose, options, small

B, L, D = 2, 13, 8
# Oscillations that do not stand with the default stages, and what they need.
PARTNERS = {
    "delta_product": ("input=value", "expand=key"),
    "mlstm": ("normaliser=mlstm",),
    "rwkv4": ("normaliser=rwkv4", "expand.activation=exp", "shrink.activation=exp"),
}
# One combination per oscillation, then the other stages around a few of them.
COMBINATIONS = [
    *[(f"oscillation={name}", *PARTNERS.get(name, ())) for name in options("oscillation")],
    *[
        (f"oscillation={oscillation}", f"expand={expand}", f"shrink={shrink}")
        for number, oscillation in enumerate(("ones", "diag", "learned_full", "rotation"))
        for place, expand in enumerate(("hand_crafted_legs", "learned", "learned_channels"))
        # both shrinks with every oscillation and with every expand, but not all three by all
        for shrink in (("data_driven", "learned_channels")[(number + place) % 2],)
    ],
    ("input=ones", "expand=data_driven", "shrink=memory", "mixer.value_dim=1", "oscillation=learned_rows"),
    ("input=ones", "expand=data_driven", "shrink=memory_complex", "mixer.value_dim=1", "oscillation=complex_decay"),
    ("expand.activation=one_plus_elu", "shrink.activation=softmax", "normaliser=denominator", "oscillation=ones"),
    (
        "mixer.output.gate=silu",
        "mixer.skip.of=inputs",
        "mixer.output.form=half_glu1",
        "mixer.output.activation=gelu",
        "source=plain",
    ),
    ("model=attention", "mixer.num_heads=2"),
    *[
        (f"model={name}",)
        for name in ("fwp", "deltanet", "gated_deltanet", "kda", "gdn2", "comba", "deltaproduct", "rwkv7")
    ],
    *[
        (f"model={name}", f"mixer.state_dim={lags}", *others)
        for name, *others in (
            ("tnn",),
            ("tnn", "shrink.decay=learned", "shrink.positions=scaled", "shrink.divisor=12", "normaliser=rms_norm"),
            ("sgconv",),
            ("sgconv", "shrink.combine=sum", "shrink.interpolation=nearest", "shrink.decay=power_learned"),
            ("sgconv", "shrink.norm=current", "shrink.taps=2", "shrink.init=cosine"),
            ("longconv", "shrink.dropout=0", "shrink.smooth=frequency", "shrink.window=3", "shrink.std=1"),
            ("longconv", "shrink.dropout=0", "shrink.init=double_exp"),
            ("hyena",),
            ("hyena", "source.order=3", "shrink.normalised=true"),
            ("hyena", "source.order=4", "shrink.window=false"),
        )
        for lags in (4, 32)
    ],
    ("model=h3", "mixer.num_heads=8"),
    # complex inputs, and writes that a phase and a gain make complex, under stages of real models
    ("input=hgrn_complex", "expand=linear_attention", "oscillation=dss_exp", "shrink=query_corrected"),
    ("mixer=channels", "input=hgrn_complex", "expand=learned", "oscillation=s4d_lin", "shrink=rwkv5"),
    ("oscillation=s4d_lin", "expand=linear_attention", "shrink=metala"),
    # a complex gain of one row
    ("oscillation=s4d_lin", "expand=learned_channels", "shrink=hand_crafted", "mixer.state_dim=1"),
]
# Stages and settings that do not go together, and what the refusal says. The first oscillation needs partners which
# only its own models have.
REFUSED = {
    ("oscillation=dss_softmax",): r"needs a constant expand and shrink",
    ("mixer.output.gate_rank=4",): r"set mixer\.output\.gate_rank=null",
    ("mixer.output.norm=after",): r"set mixer\.output\.norm=before",
    ("mixer.skip.init=normal",): r"set mixer\.skip\.init=ones",
    ("expand=rotary", "oscillation=gated_delta_rule", "shrink=query_rolled"): r"expand=PairedExpand is complex.*phase",
    ("input=hgrn_complex",): r"input=ComplexProjection is complex.*phase",
    ("input=hgrn_complex", "oscillation=complex_decay", "mixer.skip.of=inputs"): r"set mixer\.skip\.of=none",
    ("shrink=receptance", "normaliser=denominator"): r"use normaliser=group_norm",
    ("source=hyena", "source.order=3", "input=hyena"): r"shrink=DataDrivenShrink, which has no kernel",
}
COMBINATIONS = [words for words in COMBINATIONS if words not in REFUSED]
BORDERS = [[(0, 4), (4, 5), (5, L)], [(0, 6), (6, 9), (9, L)]]
# of this scope, so that all tests of a combination follow each other and compose it once
every_combination = pytest.mark.parametrize("words", COMBINATIONS, ids=" ".join, scope="module")
# attention has one algorithm
MEMORIES = [words for words in COMBINATIONS if "model=attention" not in words]
every_memory = pytest.mark.parametrize("words", MEMORIES, ids=" ".join, scope="module")


def build(*overrides: str) -> Mixer:
    """A float64 mixer."""
    config = compose(*small(*overrides))
    return Builder(config).mixer(config, 0, "layer").double()


def stream(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_near(ours: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(ours, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("words", "text"), REFUSED.items())
def test_stages_that_do_not_go_together_are_refused(words: tuple[str, ...], text: str):
    with pytest.raises(UsageError, match=text):
        build(*words)


@every_combination
def test_output_depends_on_no_later_input(words: tuple[str, ...]):
    layer, x = build(*words), stream().requires_grad_()
    outputs, state = layer(x)
    gradient = torch.autograd.grad((outputs[:, 5] * stream(1)[:, 5]).sum(), x)[0]
    assert state is None
    assert gradient[:, :6].abs().sum() > 0
    # transforms over the whole length leave rounding errors of the future in the past
    assert gradient[:, 6:].abs().max() <= 1e-12


@every_combination
def test_step_folds_to_forward(words: tuple[str, ...]):
    layer, x = build(*words), stream()
    state, steps = layer.initial_state(), []
    for t in range(L):
        outputs, state = layer.step(x[:, t], state)
        steps.append(outputs)
    assert_near(torch.stack(steps, 1), layer(x)[0])


@every_combination
def test_split_with_carried_state_changes_nothing(words: tuple[str, ...]):
    layer, cotangent = build(*words), stream(1)
    whole, split = stream().requires_grad_(), stream().requires_grad_()
    expected = layer(whole)[0]
    (expected * cotangent).sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad(set_to_none=True)
    state, parts = layer.initial_state(), []
    for start, stop in ((0, 1), (1, 3), (3, 8), (8, L)):
        outputs, state = layer(split[:, start:stop], state)
        parts.append(outputs)
    (torch.cat(parts, 1) * cotangent).sum().backward()
    assert_near(torch.cat(parts, 1), expected)
    assert_near(split.grad, whole.grad)
    for gradient, ours in zip(gradients, (parameter.grad for parameter in layer.parameters()), strict=True):
        if gradient is not None:
            assert_near(ours, gradient)


@every_combination
def test_packed_documents_give_what_they_give_alone(words: tuple[str, ...]):
    layer, x = build(*words), stream()
    # every row has borders of its own, and an id that comes back is another document
    segments = torch.tensor([[0] * 4 + [1] + [0] * 8, [3] * 6 + [2] * 3 + [5] * 4])
    alone = [[layer(x[row : row + 1, start:stop])[0] for start, stop in BORDERS[row]] for row in range(B)]
    expected = torch.cat([torch.cat(parts, 1) for parts in alone])
    assert_near(layer(x, None, Context(segments=segments))[0], expected)
    state, parts = layer.initial_state(), []
    for start, stop in ((0, 2), (2, 3), (3, 6), (6, L)):
        # ids may come first with a later call, and the first document goes on
        context = None if stop == 2 else Context(segments=segments[:, start:stop])
        outputs, state = layer(x[:, start:stop], state, context)
        parts.append(outputs)
    assert_near(torch.cat(parts, 1), expected)


@every_memory
def test_every_fitting_algorithm_gives_the_same_numbers(words: tuple[str, ...]):
    layer, x, cotangent = build(*words), stream(), stream(1)
    found = {}
    for name in layer.choice("cpu").available:
        other = build(*words, f"mixer.algorithm={name}")
        other.load_state_dict(layer.state_dict())
        outputs = other(x)[0]
        gradients = torch.autograd.grad((outputs * cotangent).sum(), list(other.parameters()), allow_unused=True)
        found[name] = [outputs, *(gradient for gradient in gradients if gradient is not None)]
    for name, values in found.items():
        for ours, expected in zip(values, found["reference"], strict=True):
            torch.testing.assert_close(
                ours, expected, rtol=1e-6, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
            )


@every_combination
def test_autocast_keeps_the_memory_in_float32_and_the_outputs_near(words: tuple[str, ...]):
    layer, x = build(*words), stream()
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = layer.float()(x.float(), layer.initial_state())
    memory = getattr(state, "memory", None)
    assert memory is None or memory.dtype in (torch.float32, torch.complex64)
    error = (outputs.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.1


@pytest.mark.parametrize("reverse", ["tied", "own"])
def test_autocast_leaves_a_second_direction_near(reverse: str):
    layer, x = build("oscillation=diag", f"mixer.reverse.shrink={reverse}"), stream()
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer.float()(x.float())[0]
    assert (outputs.double() - expected).square().mean().sqrt() < 0.1 * expected.square().mean().sqrt()


def test_tied_second_direction_completes_the_sum_over_all_tokens():
    words = ("oscillation=ones", "source=plain", "normaliser=identity", "mixer.reverse.shrink=tied")
    layer, x = build(*words), stream()
    inputs, expand, shrink = (getattr(layer, name)(x)[0] for name in ("input", "expand", "shrink"))
    weights = torch.einsum("bthn,bshn->bhts", shrink[..., 0], expand[..., 0])
    expected = torch.einsum("bhts,bshp->bthp", weights, inputs).flatten(2)
    assert_near(layer(x)[0], layer.output.project(expected))


def test_mixer_that_writes_nothing_of_the_text_is_refused():
    config = compose(*small("input=ones", "expand=learned", "mixer.value_dim=1"))
    with pytest.raises(UsageError, match="expand=data_driven"):
        Builder(config).mixer(config, 0, "layer")


@pytest.mark.parametrize("reverse", ["tied", "own"])
def test_bidirectional_mixer_refuses_to_stream(reverse: str):
    layer = build(f"mixer.reverse.shrink={reverse}")
    with pytest.raises(UsageError, match=r"mixer\.reverse\.shrink=none"):
        layer(stream(), layer.initial_state())


@pytest.mark.parametrize("oscillation", ["ones", "diag", "dense", "rwkv6"])
def test_step_lengths_are_refused_where_they_would_be_ignored(oscillation: str):
    layer = build(f"oscillation={oscillation}")
    with pytest.raises(UsageError, match=r"one length only: use s5"):
        layer(stream(), None, Context(dt=torch.ones(B, L, dtype=torch.float64)))


def test_bidirectional_packed_documents_give_what_they_give_alone():
    layer, x = build("oscillation=diag", "mixer.reverse.shrink=own", "source=plain"), stream()
    segments = torch.tensor([0] * 4 + [1] * 9).expand(B, L)
    alone = torch.cat([layer(x[:, :4])[0], layer(x[:, 4:])[0]], 1)
    assert_near(layer(x, None, Context(segments=segments))[0], alone)


@pytest.mark.parametrize(
    "words", [("oscillation=dense",), ("model=sgconv",), ("model=tnn",), ("model=hyena",), ("model=h3",)]
)
def test_what_a_stream_keeps_of_its_parameters_gives_way_to_gradients(words: tuple[str, ...]):
    layer, x = build(*words), stream()
    with torch.no_grad():
        _, state = layer(x[:, :3], layer.initial_state())
    parameters = list(layer.parameters())
    layer(x[:, 3:], state)[0].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in parameters)


def test_gates_that_know_the_first_token_have_no_second_direction():
    with pytest.raises(UsageError, match=r"RgLru depends on the tokens before:\nset mixer\.reverse\.shrink=none"):
        build("model=hawk", "mixer.num_heads=8", "mixer.state_dim=1", "mixer.reverse.shrink=tied")
