"""Converted models: built from their configuration, equal to the convolution, streamed in every way."""

import copy

import pytest
import torch

from lcsm.commands.check_model import check_combination
from lcsm.config.check import check_config
from lcsm.conversion.model import convert_model
from lcsm.conversion.streams import attach
from lcsm.errors import UsageError
from lcsm.models.build import build_model
from lcsm.models.generation import generate
from lcsm.models.language_model import LanguageModel
from lcsm.models.long_convolutions import find_sites
from tests.compose import compose

V, L = 11, 96
LAGS = "mixer.state_dim=64"
MODELS = {
    "tnn": ("model=tnn", LAGS),
    "sgconv": ("model=sgconv", LAGS),
    "hyena": ("model=hyena", "source.order=4", LAGS),
    "h3": ("model=h3",),
    "longconv": ("model=longconv", LAGS),
}


def build(*words: str, noise: float = 0.1) -> tuple[dict, LanguageModel]:
    config = compose("task=lm", *words, "model.d_model=8", "model.num_layers=2")
    model = build_model(config, V).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return config, model


def tokens(length: int = L) -> torch.Tensor:
    return torch.randint(V, (2, length))


def stepped(model: LanguageModel, x: torch.Tensor, cuts: tuple[int, ...] = (20, 1, 1, 7)) -> torch.Tensor:
    outputs, state, start = [], model.initial_state(), 0
    for length in (*cuts, *[1] * (x.shape[1] - sum(cuts))):
        logits, state = model(x[:, start : start + length], state)
        outputs.append(logits)
        start += length
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("name", MODELS)
def test_etsc_is_exact_for_the_lags_it_is_asked_for(name: str):
    config, model = build(*MODELS[name])
    converted = convert_model(config, model, "etsc", 1e-4, lags=L)
    x = tokens()
    torch.testing.assert_close(converted.model.double()(x)[0], model(x)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_steps_as_it_runs_at_once(name: str):
    config, model = build(*MODELS[name])
    converted = convert_model(config, model, "auto", 1e-2).model.double()
    x = tokens()
    torch.testing.assert_close(stepped(converted, x), converted(x)[0], rtol=1e-9, atol=1e-9)
    attach(converted, "auto")
    torch.testing.assert_close(stepped(converted, x), converted(x)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["etsc", "auto"])
def test_the_configuration_and_the_weights_alone_build_it(name: str, method: str):
    config, model = build(*MODELS[name])
    converted = convert_model(config, model, method, 1e-2)
    check_config(converted.config)
    check_combination(converted.config)
    again = build_model(converted.config, V).eval()
    again.load_state_dict(converted.model.state_dict())
    x = tokens()
    assert torch.equal(again(x)[0], converted.model(x)[0])
    assert not find_sites(again)


def test_layers_may_need_different_orders():
    config, model = build("model=tnn", LAGS)
    with torch.no_grad():
        model.backbone.layers[1].mixer.shrink.network.last.weight.add_(torch.randn(24, 32).double())
    converted = convert_model(config, model, "modal", 1e-3)
    assert converted.config["model"]["pattern"] == ["recurrent_0", "recurrent_1"]
    sizes = [groups["mixer"]["state_dim"] for groups in converted.config["mixers"].values()]
    assert sizes[0] != sizes[1]


def test_hybrid_layers_that_are_no_convolutions_stay_as_they_are():
    config, model = build(
        "model=tnn", LAGS, "model.pattern=[main,attention]", "+mixer@mixers.attention.mixer=attention"
    )
    converted = convert_model(config, model, "etsc", 1e-4)
    assert converted.config["model"]["pattern"] == ["recurrent_0", "attention"]
    x = tokens(64)
    torch.testing.assert_close(converted.model.double()(x)[0], model(x)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["modal", "hybrid", "etsc"])
def test_gradients_reach_every_parameter_of_a_converted_model(method: str):
    config, model = build("model=tnn", LAGS)
    converted = convert_model(config, model, method, 1e-2).model
    converted(tokens(), None)[0].square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in converted.named_parameters()}
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients.values())
    assert all(gradients[name].abs().sum() > 0 for name in gradients if "eigenvalues" in name or "weights" in name)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stream", ["ring", "tiles", "auto"])
def test_streams_equal_the_model_at_any_length(name: str, stream: str):
    _, model = build(*MODELS[name])
    x = tokens(200)
    expected = model(x)[0]
    attach(model, stream)
    torch.testing.assert_close(stepped(model, x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("words", [(), ("shrink.combine=sum", "shrink.interpolation=nearest", "shrink.norm=current")])
def test_boxes_equal_the_multiscale_kernel(words: tuple[str, ...]):
    _, model = build("model=sgconv", LAGS, *words)
    x = tokens(200)
    expected = model(x)[0]
    attach(model, "boxes")
    torch.testing.assert_close(stepped(model, x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stream", ["ring", "tiles", "etsc"])
def test_streams_write_the_same_greedy_text_for_four_times_the_length(stream: str):
    _, model = build("model=tnn", "mixer.state_dim=24")
    streamed, settings = copy.deepcopy(model), (96, 0.0, None, None)
    attach(streamed, stream, tokens=97)
    texts = [list(generate(each, [1], *settings, torch.Generator())) for each in (model, streamed)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("method", ["etsc", "modal", "hybrid"])
def test_a_converted_model_writes_the_same_greedy_text(method: str):
    config, model = build("model=tnn", LAGS, noise=0.0)
    converted = convert_model(config, model, method, 1e-4).model.double()
    texts = [list(generate(each, [1, 2], 60, 0.0, None, None, torch.Generator())) for each in (model, converted)]
    logits = [stepped(each, torch.tensor([[1, 2, *texts[0]]]), (2,)) for each in (model, converted)]
    first, second = logits[0][:, 1:-1].topk(2).values.unbind(-1)
    # the first token leads by more than a conversion moves logits, so that none of the choices is a near tie
    assert (first - second).min() > 10 * (logits[1] - logits[0]).abs().max()
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["s4d_lin", "gla", "attention"])
def test_models_without_a_long_convolution_need_no_conversion(name: str):
    config, model = build(f"model={name}")
    with pytest.raises(UsageError, match="no long convolution"):
        convert_model(config, model, "auto", 1e-4)
    with pytest.raises(UsageError, match="no long convolution"):
        attach(model, "ring")
    assert attach(model, "auto") == []


def test_models_that_read_the_future_are_refused():
    config, model = build("model=tnn", LAGS, "mixer.reverse.shrink=own")
    for act in (lambda: convert_model(config, model, "etsc", 1e-4), lambda: attach(model, "ring")):
        with pytest.raises(UsageError, match="bidirectional"):
            act()


def test_other_kernels_have_no_boxes():
    _, model = build("model=tnn", LAGS)
    with pytest.raises(UsageError, match="stream=tiles"):
        attach(model, "boxes")


def test_packed_documents_are_refused_by_streams():
    from lcsm.structures import Context

    _, model = build("model=tnn", LAGS)
    attach(model, "ring")
    with pytest.raises(UsageError, match="one document"):
        model(tokens(6), model.initial_state(), Context(segments=torch.tensor([[0, 0, 0, 1, 1, 1]] * 2)))
