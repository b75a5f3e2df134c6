"""`model.init=release`: weights that start as published, against the rules written out here once more."""

import copy
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from math import sqrt

import pytest
import torch
from torch import Tensor, nn

from lcsm.config.check import check_config
from lcsm.errors import UsageError
from lcsm.models.build import Builder, build_classifier, build_model, check_model
from lcsm.models.language_model import LanguageModel
from lcsm.stages.gated.channels import BlockLinear
from lcsm.stages.short_convolution import ShortConvolution
from tests.compose import CONF, compose

WIDTH, LAYERS, VOCABULARY = 64, 3, 100
SIZES = ("task=lm", f"model.d_model={WIDTH}", f"model.num_layers={LAYERS}")
OUTPUTS = ("mixer.output.project.*", "mixer.output.select.*", "mixer.output.weight", "channel.contract.*")

# The standard deviation of the matrices whose names fit, from the inputs of a matrix or the taps of a convolution; None
# for what is as torch.nn starts it. The first pattern counts.
Rule = dict[str, Callable[[int], float] | None]
DEEP = 0.02 / sqrt(2 * LAYERS)
FLASH: Rule = {"*": lambda fan_in: 0.02}
GPT2: Rule = {"*convolution.*": None, **dict.fromkeys(OUTPUTS, lambda fan_in: DEEP), "*": lambda fan_in: 0.02}
UNSCALED: Rule = {"mixer.output.*": lambda fan_in: 0.02, **GPT2}
XLSTM: Rule = {
    **dict.fromkeys(OUTPUTS, lambda fan_in: 2 / (LAYERS * sqrt(WIDTH))),
    "*": lambda fan_in: sqrt(2 / (5 * WIDTH)),
}
GRIFFIN: Rule = {
    "*convolution.*": lambda taps: sqrt(0.01 / taps),
    **dict.fromkeys(OUTPUTS, lambda fan_in: sqrt(2 / LAYERS / fan_in)),
    "*": lambda fan_in: fan_in**-0.5,
}
LECUN: Rule = {"*": lambda fan_in: fan_in**-0.5}
RULES: dict[str, Rule] = {
    **dict.fromkeys(("gla", "retnet", "gsa", "hgrn2", "lightnet"), FLASH),
    **dict.fromkeys(("deltanet", "gated_deltanet", "deltaproduct", "kda", "gdn2", "comba"), FLASH),
    **dict.fromkeys(("based", "hyena", "longconv"), GPT2),
    **dict.fromkeys(("h3", "lcsm"), UNSCALED),
    "mlstm": XLSTM,
    **dict.fromkeys(("griffin", "hawk"), GRIFFIN),
    **dict.fromkeys(("s5", "lru"), LECUN),
}
RWKV, MAMBA = ["rwkv4", "rwkv5", "rwkv6", "rwkv7"], ["mamba", "mamba2"]
ALL = [*RULES, *RWKV, *MAMBA]
# linear maps whose paper says how they start
OWN = ("*.oscillation.project_forget.*", "*.oscillation.project_input.*", "*_rate.weight", "*.share.*", "*.log_decay.*")
OWN = (*OWN, "*.oscillation.rate.*", "*.oscillation.expand_step.*")


@cache
def built(model: str, *words: str, init: str = "release") -> LanguageModel:
    return build_model(compose(f"model={model}", f"model.init={init}", *SIZES, *words), VOCABULARY)


def maps(model: LanguageModel) -> dict[str, tuple[nn.Module, str]]:
    """Linear maps and short convolutions of the layers that a release starts, with their names inside of a layer."""
    kinds = (nn.Linear, BlockLinear, ShortConvolution)
    named = {name: module for name, module in model.backbone.named_modules() if isinstance(module, kinds)}
    own = {name for name in named if any(fnmatchcase(f"{name}.weight", pattern) for pattern in OWN)}
    return {name: (module, name.split(".", 2)[2]) for name, module in named.items() if name not in own}


def root_mean_square(weight: Tensor) -> float:
    return float(weight.detach().double().square().mean().sqrt())


def test_every_preset_with_a_release_is_tested():
    files = {path.stem for path in (CONF / "model").glob("*.yaml") if "override /release" in path.read_text()}
    assert files == set(ALL)


@pytest.mark.parametrize("model", RULES)
def test_matrices_and_taps_start_with_the_published_deviation(model: str):
    before, after = built(model, init="torch"), built(model)
    drawn = {name: module.weight for name, (module, _) in maps(before).items()}
    for name, (module, place) in maps(after).items():
        rule = next(rule for pattern, rule in RULES[model].items() if fnmatchcase(f"{place}.weight", pattern))
        if rule is None:
            assert torch.equal(module.weight, drawn[name])
            continue
        fan_in = module.kernel_size if isinstance(module, ShortConvolution) else module.weight.shape[-1]
        # five deviations of the root mean square of so many normal numbers; others spread less
        tolerance = 5 / sqrt(2 * module.weight.numel())
        assert root_mean_square(module.weight) == pytest.approx(rule(fan_in), rel=tolerance), name


@pytest.mark.parametrize("model", ["gla", "hyena", "mlstm", "griffin", "s5"])
def test_biases_of_linear_maps_start_at_zero(model: str):
    biases = [module.bias for module, _ in maps(built(model, "channel=mlp")).values() if isinstance(module, nn.Linear)]
    found = [bias for bias in biases if bias is not None]
    assert found and not any(bias.any() for bias in found)


@pytest.mark.parametrize("model", ["griffin", "deltanet", "hyena"])
def test_biases_of_short_convolutions_are_zero_where_the_release_starts_them(model: str):
    convolutions = [module for module, _ in maps(built(model)).values() if isinstance(module, ShortConvolution)]
    zero = [module.bias is None or not module.bias.any() for module in convolutions]
    assert zero and set(zero) == {model != "hyena"}


@pytest.mark.parametrize("model", MAMBA)
def test_mamba_divides_its_outputs_by_the_root_of_the_layers_and_nothing_else(model: str):
    before, after = built(model, init="torch").state_dict(), built(model).state_dict()
    for name, value in before.items():
        expected = value / sqrt(LAYERS) if name.endswith("output.project.weight") else value
        torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=0)


def layers_of(model: str) -> list[nn.Module]:
    return list(built(model).backbone.layers)


def gain(weight: Tensor) -> float:
    """The gain of a matrix whose singular values are all the same."""
    values = torch.linalg.svdvals(weight.detach())
    torch.testing.assert_close(values, values[:1].expand_as(values))
    return float(values[0])


@pytest.mark.parametrize("model", RWKV)
def test_branches_of_rwkv_start_at_zero(model: str):
    for layer in layers_of(model):
        assert not layer.mixer.output.project.weight.any() and not layer.channel.contract.weight.any()
        assert layer.channel.gate is None or not layer.channel.gate.weight.any()


def test_rwkv4_starts_key_and_receptance_at_zero_and_the_rest_orthogonal():
    for layer in layers_of("rwkv4"):
        mixer = layer.mixer
        assert not mixer.oscillation.projection.weight.any() and not mixer.output.gate.weight.any()
        assert gain(mixer.input.projection.weight) == pytest.approx(1.0)
        assert gain(layer.channel.expand.weight) == pytest.approx(2.0)  # four times as wide


@pytest.mark.parametrize("model", ["rwkv5", "rwkv6"])
def test_rwkv5_and_6_start_orthogonal_key_and_gate_with_a_tenth(model: str):
    for number, layer in enumerate(layers_of(model)):
        mixer = layer.mixer
        ones = [mixer.input.projection, mixer.shrink.projection, layer.channel.expand]
        tenths = [mixer.expand.projection, mixer.output.gate]
        assert [gain(module.weight) for module in ones] == pytest.approx([1.0] * 3)
        assert [gain(module.weight) for module in tenths] == pytest.approx([0.1] * 2)
        torch.testing.assert_close(
            mixer.output.normaliser.weight,
            torch.full_like(mixer.output.normaliser.weight, ((number + 1) / LAYERS) ** 0.7),
        )


def test_rwkv7_starts_uniform_key_with_a_tenth_and_its_gate_at_zero():
    for layer in layers_of("rwkv7"):
        mixer, bound = layer.mixer, 0.5 / sqrt(WIDTH)
        wide = [mixer.input.projection, mixer.shrink.projection, layer.channel.expand]
        for modules, limit in ((wide, bound), ([mixer.expand.projection], bound / 10)):
            for module in modules:
                assert 0.99 * limit < module.weight.abs().max() <= limit
                assert root_mean_square(module.weight) == pytest.approx(limit / sqrt(3), rel=0.03)
        assert not mixer.source.reduce.weight.any()
        assert gain(mixer.output.gate.weight) == pytest.approx(0.1)


@pytest.mark.parametrize("model", ["mlstm", "rwkv5"])
def test_a_head_of_its_own_starts_as_published(model: str):
    head = built(model, "model.tie_embeddings=false").head.weight
    if model == "mlstm":
        assert root_mean_square(head) == pytest.approx(sqrt(2 / (5 * WIDTH)), rel=5 / sqrt(2 * head.numel()))
    else:
        assert gain(head) == pytest.approx(0.5 * sqrt(VOCABULARY / WIDTH))


@pytest.mark.parametrize("model", ["griffin", "hawk"])
def test_tokens_of_griffin_enter_with_variance_one_in_every_call(model: str):
    found, seen, tokens = copy.deepcopy(built(model)), [], torch.randint(VOCABULARY, (2, 50))
    found.backbone.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    logits = found.eval()(tokens)[0]
    state = found.initial_state()
    for position in range(3):
        step, state = found.step(tokens[:, position], state)
        torch.testing.assert_close(step, logits[:, position], rtol=1e-4, atol=1e-4)
    # no more than a hundred tokens of the vocabulary
    assert root_mean_square(seen[0]) == pytest.approx(1.0, rel=5 / sqrt(2 * 60 * WIDTH))
    assert torch.equal(seen[1], seen[0][:, :1])


@pytest.mark.parametrize("model", ALL)
def test_what_stages_start_by_themselves_stays(model: str):
    before, after = built(model, init="torch"), built(model)
    started = {f"backbone.{name}.{part}" for name in maps(after) for part in ("weight", "bias")}
    started |= {"embedding.weight"} if RULES.get(model) in (XLSTM, GRIFFIN) else set()
    values = after.state_dict()
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, values[name])}
    assert changed and {name for name in changed if not name.endswith("normaliser.weight")} <= started


def test_the_rule_of_another_release_leaves_the_steps_of_mamba_alone():
    before, after = (built("mamba", "release=normal", init=init).state_dict() for init in ("torch", "release"))
    own = [name for name in before if ".expand_step." in name or name.endswith(("log_rate", "oscillation.bias"))]
    assert len(own) == 3 * LAYERS and all(torch.equal(before[name], after[name]) for name in own)
    assert root_mean_square(after["backbone.layers.0.mixer.source.projection.weight"]) == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize("model", ALL)
def test_torch_is_the_default_and_leaves_every_weight_as_its_component_draws_it(model: str):
    config = compose(f"model={model}", *SIZES)
    assert config["model"]["init"] == "torch"
    alone, whole = Builder(config).backbone().state_dict(), build_model(config, VOCABULARY).backbone.state_dict()
    assert alone.keys() == whole.keys() and all(torch.equal(alone[name], whole[name]) for name in alone)


def test_weights_of_a_release_are_drawn_from_the_seed_and_their_own_name():
    first, second = (built("gla", *words).state_dict() for words in ((), ("oscillation=diag_scalar",)))
    shared = [name for name in first if name in second and "oscillation" not in name]
    assert len(shared) > 20 and all(torch.equal(first[name], second[name]) for name in shared)
    other, name = built("gla", "seed=2").state_dict(), "backbone.layers.0.mixer.expand.projection.weight"
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first[name.replace("layers.0", "layers.1")])


def test_classifiers_start_their_layers_so_and_their_embedding_as_the_task_says():
    config = compose("model=griffin", "task=classification", "model.init=release", f"model.d_model={WIDTH}")
    model = build_classifier(config, 3, VOCABULARY, None, "sequence")
    assert root_mean_square(model.encoder.weight) == pytest.approx(1.0, rel=5 / sqrt(2 * VOCABULARY * WIDTH))
    assert root_mean_square(model.backbone.layers[0].mixer.output.gate.weight) == pytest.approx(WIDTH**-0.5, rel=0.06)


@pytest.mark.parametrize("model", ALL)
def test_a_release_is_checked_without_memory(model: str):
    config = compose(f"model={model}", "model.init=release", *SIZES)
    assert check_model(config)
    with torch.device("meta"):
        assert build_model(config, VOCABULARY).embedding.weight.is_meta


NORMAL = {"draw": "normal", "size": 0.02, "times": {}}


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (NORMAL | {"draw": "gaussian"}, r"release\.bias\.draw='gaussian' is not an option: choose one of normal"),
        (NORMAL | {"times": {"fan": -0.5}}, r"release\.bias\.times='fan' is not an option: choose one of fan_in"),
        (NORMAL | {"size": "wide"}, r"release\.bias=.* must be null, or like \{draw: normal"),
        (NORMAL | {"size": -1.0}, r"release\.bias=.* size >= 0"),
        ({"size": 0.1}, r"release\.bias=.* must be null, or like \{draw: normal"),
    ],
)
def test_a_malformed_start_is_refused_before_any_work(start: dict, text: str):
    config = compose("model=gla", "model.init=release", *SIZES)
    with pytest.raises(UsageError, match=text):
        check_model(config | {"release": config["release"] | {"bias": start}})


def test_a_quantity_that_a_weight_does_not_have_is_refused():
    config = compose("model=gla", "model.init=release", *SIZES)
    release = config["release"] | {"embedding": NORMAL | {"times": {"fan_in": -0.5}}}
    with pytest.raises(UsageError, match=r"release\.embedding\.times: what it starts has no fan_in"):
        build_model(config | {"release": release}, VOCABULARY)


def test_a_configuration_that_was_stored_before_still_builds_the_same_model():
    config = compose("model=gla", *SIZES)
    stored = {key: value for key, value in config.items() if key != "release"}
    stored["model"] = {key: value for key, value in config["model"].items() if key not in ("init", "logit_cap")}
    check_config(stored)
    now, then = build_model(config, VOCABULARY).state_dict(), build_model(stored, VOCABULARY).state_dict()
    assert all(torch.equal(now[name], then[name]) for name in now)
