"""Language models, classifiers, sampling and what inspection says about them."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from lcsm.errors import UsageError
from lcsm.inspection import card, decay_spectrum, half_life, mixing_matrix
from lcsm.models.build import Builder, build_model
from lcsm.models.classifier import SequenceClassifier
from lcsm.models.generation import generate, sample
from lcsm.ops.recurrence import Read
from tests.compose import SMALL, compose, small

V = 11


def model(*overrides: str):
    return build_model(compose(*small(*overrides)), V).double().eval()


def tokens(batch: int = 1, length: int = 9) -> torch.Tensor:
    return torch.randint(V, (batch, length))


class First(torch.nn.Module):
    """The mean of what was read, with its scale, in every channel."""

    def forward(self, read: Read, _, gate: torch.Tensor):
        outputs = read.outputs if read.log_scale is None else read.outputs * read.log_scale.exp()
        return outputs.flatten(2).mean(2, keepdim=True).expand_as(gate)


class Given(torch.nn.Module):
    """A stage whose value is given."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.value = value

    def forward(self, *_):
        return self.value, None


@pytest.mark.parametrize("words", ["oscillation=diag", "oscillation=rotation", "model=mlstm", "model=rwkv4"])
def test_mixing_matrix_is_what_the_mixer_reads_of_impulses(words: str):
    language_model, text = model(words), tokens()
    matrix, block = mixing_matrix(language_model, 0, text), language_model.backbone.layers[0]
    mixer, spec = block.mixer, block.mixer.recurrence.spec
    impulses = torch.eye(9, dtype=torch.float64)[..., None, None].expand(-1, -1, spec.num_heads, spec.value_dim)
    mixer.input, mixer.output = Given(impulses), First()
    mixer.recurrence.spec = dataclasses.replace(spec, denominator=False)
    x = block.mixer_norm(language_model.embedding(text)).expand(9, -1, -1)
    np.testing.assert_allclose(matrix, mixer(x)[0][..., 0].T.detach(), rtol=1e-5, atol=1e-7)


def test_greedy_generation_follows_the_parallel_form():
    language_model, prompt = model("model.num_layers=2"), [1, 2, 3]
    new = list(generate(language_model, prompt, 6, 0.0, None, None, torch.Generator()))
    sequence = prompt + new
    logits, _ = language_model(torch.tensor([sequence]))
    assert new == logits[0, len(prompt) - 1 : -1].argmax(-1).tolist()


def test_sampling_repeats_with_the_same_seed():
    language_model = model()
    runs = [list(generate(language_model, [1], 8, 1.0, 5, 0.9, torch.Generator().manual_seed(3))) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(("top_k", "top_p", "kept"), [(2, None, {0, 1}), (None, 0.5, {0}), (None, 0.7, {0, 1})])
def test_top_k_and_top_p_keep_the_likely_tokens(top_k, top_p, kept):
    logits = torch.tensor([[0.6, 0.25, 0.1, 0.05]]).log().expand(500, -1)
    drawn = sample(logits, 1.0, top_k, top_p, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == kept


@pytest.mark.parametrize(
    "settings",
    [([], 1, 1.0, None, None), ([1], 0, 1.0, None, None), ([1], 1, -1.0, None, None), ([1], 1, 1.0, 0, None)],
)
def test_impossible_sampling_is_refused(settings):
    with pytest.raises(UsageError):
        next(generate(model(), *settings, torch.Generator()))


def test_changing_one_stage_leaves_the_other_initial_values_alone():
    first, second = model("oscillation=diag"), model("oscillation=learned_rows")
    theirs = dict(second.named_parameters())
    shared = {name: value for name, value in first.named_parameters() if name in theirs and "oscillation" not in name}
    assert len(shared) > 5
    assert all(torch.equal(value, theirs[name]) for name, value in shared.items())


def test_pattern_repeats_over_the_layers():
    config = compose("model.num_layers=3", "model.pattern=[main,other]", "+mixer@mixers.other.mixer=attention")
    kinds = [type(layer.mixer).__name__ for layer in build_model(config, V).backbone.layers]
    assert kinds == ["EosMixer", "Attention", "EosMixer"]


def test_classifier_ignores_what_the_mask_hides():
    config = compose(*SMALL)
    classifier = SequenceClassifier(Builder(config).backbone(), 3, V, None, 1.0, 0.0, None).double()
    inputs, mask = tokens(2), torch.arange(9).expand(2, 9) < 5
    other = inputs.clone()
    other[:, 5:] = 0
    torch.testing.assert_close(classifier(inputs, mask), classifier(other, mask))


def test_card_counts_parameters_and_state():
    language_model = model("mixer.num_heads=1", "source=plain", "model.num_layers=2")
    found = card(language_model, length=64)
    assert found["parameters"] == sum(parameter.numel() for parameter in language_model.parameters())
    assert found["state_size"] == 2 * 4 * 8
    assert found["layers"][0]["stages"]["expand"]["axes"] == "[B L H N 1]"


def test_attention_state_grows_and_eos_state_does_not():
    attention, eos = model("model=attention"), model()
    assert card(attention, 100)["state_size"] == 10 * card(attention, 10)["state_size"]
    assert card(eos, 100)["state_size"] == card(eos, 10)["state_size"]


@pytest.mark.parametrize("words", [("oscillation=diag",), ("oscillation=rotation",), ("model=attention",)])
def test_mixing_matrix_is_lower_triangular(words):
    matrix = mixing_matrix(model(*words), 0, tokens())
    assert matrix.shape == (9, 9)
    assert np.abs(np.triu(matrix, 1)).max() == 0
    assert np.abs(np.diag(matrix)).min() > 0


def test_decay_spectrum_lies_in_the_unit_interval():
    spectra = decay_spectrum(model("model.num_layers=2", "oscillation=diag"), tokens())
    assert [name for name, _ in spectra] == ["layer0", "layer1"]
    assert all(((values >= 0) & (values <= 1)).all() for _, values in spectra)


def test_half_life_of_one_half_is_one_token():
    np.testing.assert_allclose(half_life(np.array([0.5, 0.25, 1.0])), [1.0, 0.5, np.inf])


@pytest.mark.parametrize(
    ("words", "streams"),
    [
        ((), True),
        (("mixer.reverse.shrink=tied",), False),
        (("model=dss_softmax", "mixer.num_heads=8"), False),
        (("model=attention", "mixer.causal=false"), False),
    ],
)
def test_a_model_knows_whether_it_can_write_text(words: tuple[str, ...], streams: bool):
    language_model = model(*words)
    assert language_model.streams == streams
    with nullcontext() if streams else pytest.raises(UsageError):
        language_model(tokens(), language_model.initial_state())
