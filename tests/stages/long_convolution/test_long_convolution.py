"""Long convolutions: kernels at any length, streams, documents, both directions, and what the presets promise."""

import pytest
import torch
from torch import nn

from lcsm.errors import UsageError
from lcsm.mixers.eos import EosMixer
from lcsm.models.build import Builder, build_model, check_model
from lcsm.stages.long_convolution.base import KernelShrink
from lcsm.stages.long_convolution.explicit import ExplicitKernel
from lcsm.stages.long_convolution.hyena import HyenaKernel, SineFilter
from lcsm.stages.long_convolution.multiscale import MultiscaleKernel
from lcsm.structures import Context
from lcsm.training.parameter_groups import parameter_groups
from tests.compose import compose, small

N, D, V = 8, 6, 11
SIZES = ("model.d_model=6", f"mixer.state_dim={N}")
KERNELS = ["tnn", "sgconv", "longconv", "hyena"]
PRESETS = {name: (f"model={name}", *SIZES) for name in KERNELS}
PRESETS["sgconv"] = (*PRESETS["sgconv"], "shrink.taps=2")
PRESETS["longconv"] = (*PRESETS["longconv"], "shrink.dropout=0")
PRESETS["hyena4"] = (*PRESETS["hyena"], "source.order=4")
PRESETS["h3"] = ("model=h3", "model.d_model=6", "mixer.num_heads=6", "mixer.state_dim=4", "input.lags=5")
BOTH = [
    ("tnn", "mixer.reverse.shrink=tied"),
    ("tnn", "mixer.reverse.shrink=own"),
    ("sgconv", "mixer.reverse.shrink=own"),
    ("longconv", "mixer.reverse.shrink=own"),
    ("hyena", "mixer.reverse.shrink=own"),
]


def mixer_of(name: str, *overrides: str) -> EosMixer:
    config = compose(*small(*PRESETS[name], *overrides))
    found = Builder(config).mixer(config, 0, "layer").double()
    assert isinstance(found, EosMixer)
    return found


def kernel_of(name: str, *overrides: str) -> KernelShrink:
    found = mixer_of(name, *overrides).shrink
    assert isinstance(found, KernelShrink)
    return found


def stream(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, length, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_near(ours: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-11)


def dense(kernel: torch.Tensor, values: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Sums over the lags `first`, `first` + 1, ... of values [B L H P] with a kernel [H T P], one by one."""
    found = torch.zeros_like(values)
    for index in range(kernel.shape[1]):
        lag = index + first
        if lag < values.shape[1]:
            found[:, lag:] += kernel[:, index] * values[:, : values.shape[1] - lag]
    return found


def convolved(mixer: EosMixer, values: torch.Tensor) -> torch.Tensor:
    """What the mixer's memory gives for inputs [B L H P], before skip, gate and output."""
    expand, shrink = (stage(values.flatten(2))[0] for stage in (mixer.expand, mixer.shrink))
    structure, _ = mixer.oscillation(values.flatten(2), expand)
    written = mixer.recurrence.write(structure, values, expand)
    read = mixer.shrink.read(mixer.recurrence.run(written, shrink)[0], written, shrink)
    read = mixer.second_pass(read, written, mixer.shrink, shrink, values.flatten(2), None)
    return read.outputs


def inputs_of(mixer: EosMixer, length: int) -> torch.Tensor:
    sizes = (2, length, mixer.recurrence.spec.num_heads, mixer.recurrence.spec.value_dim)
    return torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("length", [1, 3, N, 21])
@pytest.mark.parametrize("name", KERNELS)
def test_convolution_is_the_sum_over_the_lags_that_the_memory_holds(name: str, length: int):
    mixer = mixer_of(name)
    values = inputs_of(mixer, length)
    assert_near(convolved(mixer, values), dense(mixer.shrink.kernel(N), values))


@pytest.mark.parametrize("length", [1, 3, N, 21])
@pytest.mark.parametrize(("name", "direction"), BOTH)
def test_second_direction_is_the_sum_over_later_tokens_from_the_next_one_on(name: str, direction: str, length: int):
    mixer = mixer_of(name, direction)
    values = inputs_of(mixer, length)
    own = mixer.shrink.kernel(N)
    # a token's own input is not in its memory yet, so that there is room for one lag more
    other = (
        mixer.shrink.at(-torch.arange(1, N + 1)) if direction.endswith("tied") else mixer.second_pass.shrink.kernel(N)
    )
    expected = dense(own, values) + dense(other, values.flip(1), 1).flip(1)
    assert_near(convolved(mixer, values), expected)


@pytest.mark.parametrize("length", [3, N, 21])
@pytest.mark.parametrize("name", PRESETS)
def test_output_depends_on_no_later_input(name: str, length: int):
    mixer, x = mixer_of(name), stream(length).requires_grad_()
    for t in (0, length // 2, length - 1):
        gradient = torch.autograd.grad(mixer(x)[0][:, t].square().sum(), x)[0]
        assert gradient[:, t].abs().sum() > 0
        assert gradient[:, t + 1 :].abs().sum() <= 1e-12 * gradient.abs().sum()


@pytest.mark.parametrize("first", [1, 3, N, 13])
@pytest.mark.parametrize("name", PRESETS)
def test_stream_that_begins_with_any_number_of_tokens_gives_the_whole(name: str, first: int):
    mixer, x = mixer_of(name), stream(21)
    outputs, state = mixer(x[:, :first], mixer.initial_state())
    parts = [outputs]
    for t in range(first, 21):
        outputs, state = mixer.step(x[:, t], state)
        parts.append(outputs[:, None])
    assert_near(torch.cat(parts, 1), mixer(x)[0])


@pytest.mark.parametrize(("name", "direction"), BOTH)
def test_packed_documents_give_what_they_give_alone_in_both_directions(name: str, direction: str):
    mixer, x = mixer_of(name, direction), stream(21)
    borders = ((0, 3), (3, 4), (4, 21))
    segments = torch.cat([torch.full((stop - start,), start) for start, stop in borders]).expand(2, -1)
    alone = torch.cat([mixer(x[:, start:stop])[0] for start, stop in borders], 1)
    assert_near(mixer(x, None, Context(segments=segments))[0], alone)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_of_fewer_lags_is_the_beginning_of_a_longer_one(name: str):
    shrink = kernel_of(name)
    longest = shrink.kernel(40)
    assert longest.shape == (shrink.sizes[0], 40, shrink.sizes[2])
    assert shrink.span is None or not longest[:, shrink.span :].any()
    for length in range(1, 40):
        assert_near(shrink.kernel(length), longest[:, :length])


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_is_float32_under_autocast(name: str):
    shrink = kernel_of(name).float()
    expected = shrink.kernel(N)
    with torch.autocast("cpu", torch.bfloat16):
        kernel = shrink.kernel(N)
    assert kernel.dtype == torch.float32
    assert torch.equal(kernel, expected)


@pytest.mark.parametrize("name", ["tnn", "hyena4"])
def test_stream_forms_its_kernels_twice_and_never_more_lags_than_needed(name: str, monkeypatch: pytest.MonkeyPatch):
    mixer, formed = mixer_of(name), []
    for module in mixer.modules():
        if isinstance(module, KernelShrink):
            once = module.coefficients
            monkeypatch.setattr(module, "coefficients", lambda length, once=once: formed.append(length) or once(length))
    count = len([module for module in mixer.modules() if isinstance(module, KernelShrink)])
    state, x = mixer.initial_state(), stream(21)
    with torch.no_grad():
        for t in range(21):
            _, state = mixer.step(x[:, t], state)
    assert sorted(formed) == [1] * count + [N] * count
    mixer(x[:, :5])
    assert formed[2 * count :] == [5] * count


def test_toeplitz_kernel_has_values_beyond_the_trained_length_and_uses_them_in_a_longer_memory():
    short, long = mixer_of("tnn"), mixer_of("tnn", "mixer.state_dim=21")
    long.load_state_dict(short.state_dict())
    assert_near(long.shrink.kernel(21)[:, :N], short.shrink.kernel(N))
    assert long.shrink.kernel(21)[:, N:].abs().min() > 0


def test_multiscale_norm_is_that_of_the_whole_kernel_whatever_is_called_first():
    first, second = kernel_of("sgconv"), kernel_of("sgconv")
    torch.testing.assert_close(first.kernel(first.span).norm(dim=1), torch.ones(2, 3).double(), rtol=1e-6, atol=0)
    second.kernel(2)
    nn.init.normal_(second.pieces, generator=torch.Generator().manual_seed(1))
    assert torch.equal(second.norm, first.norm)


def test_multiscale_norm_survives_a_checkpoint():
    trained, fresh = kernel_of("sgconv"), kernel_of("sgconv", "seed=2")
    with torch.no_grad():
        trained.pieces.mul_(3)
    expected = trained.kernel(N)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.kernel(N), expected)
    torch.testing.assert_close(expected.norm(dim=1), torch.full((2, 3), 3.0).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("combine", ["cat", "sum"])
def test_nearest_pieces_are_repeated_taps_that_double(combine: str):
    stage = MultiscaleKernel(
        1, 16, 2, 16, 2, None, 0, combine, "nearest", "normal", "scale", [2.0, 2.0], "none"
    ).double()  # fmt: skip
    pieces = [stage.pieces[index, 0].T for index in range(4)]
    factors = [1, 1, 2, 4] if combine == "cat" else [1, 2, 4, 8]
    weighed = [
        piece.repeat_interleave(factor, 0) * 2.0 ** (3 - index)
        for index, (piece, factor) in enumerate(zip(pieces, factors, strict=True))
    ]
    expected = torch.zeros(16, 2, dtype=torch.float64)
    if combine == "cat":
        expected = torch.cat(weighed)
    else:
        for piece in weighed:
            expected[: len(piece)] += piece
    assert_near(stage.kernel(16)[0], expected)


def test_kernel_dropout_is_in_training_alone_and_never_in_the_kernel():
    stage = ExplicitKernel(1, N, 500, N, "normal", 1.0, "none", None, 0.0, 0.5)
    x = torch.randn(1, N, 500)
    assert torch.equal(stage.kernel(N), stage.taps)
    assert (stage(x)[0] == 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(stage.eval()(x)[0][0, 0], stage.taps)


def test_filters_of_a_hyena_layer_share_one_network_and_a_second_direction_has_its_own():
    mixer = mixer_of("hyena4", "mixer.reverse.shrink=own")
    kernels = [module for module in mixer.modules() if isinstance(module, HyenaKernel)]
    assert [kernel.index for kernel in kernels] == [0, 1, 2, 0]
    assert len({id(module) for module in mixer.modules() if isinstance(module, SineFilter)}) == 2
    assert kernels[0].filter is kernels[2].filter is not kernels[3].filter


def test_h3_is_a_query_times_a_system_of_a_value_times_a_shifted_key():
    mixer, x = mixer_of("h3"), stream(13)
    block = mixer.input.block
    key, value = mixer.input.project_key(x)[..., None], mixer.input.project_value(x)[..., None]
    product = (dense(block.shrink.kernel(5), key) + block.skip * key) * value
    impulse = torch.zeros(1, 13, D, 1, dtype=torch.float64)
    impulse[:, 0] = 1
    expand, shrink = (getattr(mixer, name)(x)[0] for name in ("expand", "shrink"))
    structure, _ = mixer.oscillation(x, expand)
    system, _ = mixer.recurrence.run(mixer.recurrence.write(structure, impulse, expand), shrink)
    outputs = dense(system[0].transpose(0, 1), product)[..., 0] + mixer.skip.weight * product[..., 0]
    assert_near(mixer(x)[0], mixer.output.project(outputs * mixer.output.gate(x)))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_trains_every_parameter(name: str):
    config = compose(*small(*PRESETS[name]))
    model = build_model(config, V)
    tokens = torch.randint(V, (4, 21), generator=torch.Generator().manual_seed(0))
    loss = nn.functional.cross_entropy(model(tokens)[0].flatten(0, 1), tokens.flatten())
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert all(value is not None and value.isfinite().all() and value.any() for value in gradients.values())
    groups = {group["name"] for group in parameter_groups(model, config["optim"])}
    assert any(group.startswith("kernel") for group in groups)
    assert ("positions_no_decay" in groups) == name.startswith("hyena")


@pytest.mark.parametrize("task", ["listops", "imdb", "aan", "cifar10_grey", "pathfinder", "pathx"])
def test_sgconv_covers_the_sequences_of_the_long_range_arena(task: str):
    config = compose(f"experiment=lra/{task}/sgconv")
    check_model(config)
    length = config["data"].get("length", 16384 if task == "pathx" else 1024)
    assert config["mixer"]["state_dim"] == length == config["shrink"]["length"]


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("tnn", ("oscillation=ones",), "oscillation=shift with expand=newest"),
        ("tnn", ("expand=learned",), "oscillation=shift with expand=newest"),
        ("tnn", ("mixer.reverse.shrink=tied", "mixer.reverse.exclusive=false"), "reverse.exclusive=true"),
        ("tnn", ("shrink.positions=scaled",), "shrink.divisor"),
        ("tnn", ("shrink.gamma=1.5",), "0 < gamma <= 1"),
        ("sgconv", ("shrink.first_scale=9",), "shrink.first_scale"),
        ("longconv", ("shrink.squash=0.1",), "never learn"),
        ("longconv", ("shrink.smooth=time", "shrink.window=4"), "odd"),
        ("hyena", ("source=plain", "mixer.output.gate_rank=null"), "source=hyena"),
        ("hyena", ("mixer.value_dim=4", "source.order=1"), "at least 2"),
        ("hyena", ("shrink.embedding_dim=4",), "odd"),
        ("tnn", ("mixer.output.gate_rank=0",), "gate_rank=null"),
    ],
)
def test_impossible_settings_are_refused(name: str, words: tuple[str, ...], message: str):
    with pytest.raises(UsageError, match=message):
        mixer_of(name, *words)


def test_exponential_positions_have_no_tied_second_direction():
    words = ("shrink.positions=exponential", "shrink.divisor=20")
    assert mixer_of("tnn", *words)(stream(9))[0].isfinite().all()
    with pytest.raises(UsageError, match=r"mixer\.reverse\.shrink=own"):
        mixer_of("tnn", *words, "mixer.reverse.shrink=tied")(stream(9))
