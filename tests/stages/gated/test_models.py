"""Presets of gated and linear-attention models: causality, streaming, documents, algorithms, stability, size."""

import itertools

import pytest
import torch

from lcsm.inspection import mixing_matrix
from lcsm.mixers.eos import EosMixer
from lcsm.structures import Context
from tests.stages.gated.presets import LENGTH, MODELS, model_of, tokens


def assert_near(ours: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(ours, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_output_depends_on_no_later_token(name: str):
    model = model_of(name)
    first, second = tokens(), tokens()
    second[:, 6:] = tokens(seed=1)[:, 6:]
    with torch.no_grad():
        ours, other = (model(text)[0] for text in (first, second))
    torch.testing.assert_close(ours[:, :6], other[:, :6], rtol=0, atol=1e-12)
    assert (ours[:, 6:] - other[:, 6:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_split_and_step_with_carried_state_change_nothing(name: str):
    model, text = model_of(name), tokens()
    state, parts = model.initial_state(), []
    with torch.no_grad():
        for start, stop in ((0, 1), (1, 2), (2, 7), (7, 8), (8, LENGTH)):
            logits, state = model(text[:, start:stop], state)
            parts.append(logits)
        assert_near(torch.cat(parts, 1), model(text)[0])


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_gradients_of_a_split_text_are_those_of_the_whole(name: str):
    model, text, found = model_of(name), tokens(), []
    for borders in ((0, LENGTH), (0, 5, LENGTH)):
        state, parts = model.initial_state(), []
        for start, stop in itertools.pairwise(borders):
            logits, state = model(text[:, start:stop], state)
            parts.append(logits)
        loss = torch.cat(parts, 1).square().sum()
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for whole, split in zip(*found, strict=True):
        assert_near(split, whole)


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_packed_documents_give_what_they_give_alone(name: str):
    model, text = model_of(name), tokens()
    # the id of the first document comes back
    segments = torch.tensor([0] * 4 + [1] * 1 + [0] * 8).expand(2, LENGTH)
    with torch.no_grad():
        alone = torch.cat([model(text[:, start:stop])[0] for start, stop in ((0, 4), (4, 5), (5, LENGTH))], 1)
        assert_near(model(text, None, Context(segments=segments))[0], alone)
        state, parts = model.initial_state(), []
        for start, stop in ((0, 2), (2, 3), (3, 6), (6, LENGTH)):
            logits, state = model(text[:, start:stop], state, Context(segments=segments[:, start:stop]))
            parts.append(logits)
    assert_near(torch.cat(parts, 1), alone)


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_every_fitting_algorithm_gives_the_same_numbers(name: str):
    found = {}
    for algorithm in model_of(name).backbone.mixers()[0].choice("cpu").available:
        model = model_of(name, f"mixer.algorithm={algorithm}")
        logits, _ = model(tokens(70))
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        found[algorithm] = (logits, *gradients)
    for values in found.values():
        torch.testing.assert_close(values, found["reference"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_long_loud_text_stays_finite_in_float32(name: str):
    model = model_of(name).float()
    with torch.no_grad():
        for block in model.backbone.layers:
            block.mixer_norm.weight *= 30
    logits, _ = model(tokens(300))
    logits.square().mean().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_memory_stays_float32_under_autocast(name: str):
    model = model_of(name).float()
    with torch.autocast("cpu", torch.bfloat16):
        logits, state = model(tokens(), model.initial_state())
    memory = getattr(getattr(state[0], "mixer", state[0]), "memory", None)
    assert logits.isfinite().all()
    assert memory is not None and memory.dtype in (torch.float32, torch.complex64)


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_state_is_as_large_as_the_model_says(name: str):
    model = model_of(name)
    with torch.no_grad():
        _, state = model(tokens(40), model.initial_state())
    leaves = torch.utils._pytree.tree_leaves(state)
    floating = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dtype.is_floating_point]
    numbers = sum(leaf[0].numel() for leaf in floating)
    numbers += sum(2 * leaf[0].numel() for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_complex())
    assert numbers == model.backbone.state_size(40)


@pytest.mark.parametrize("name", MODELS, scope="module")
def test_mixing_matrix_is_lower_triangular(name: str):
    matrix = mixing_matrix(model_of(name).float(), 0, tokens()[:1])
    above = torch.tensor(matrix).triu(1)
    assert above.abs().max() == 0 and abs(matrix).max() > 0


@pytest.mark.parametrize("name", ["gla", "mamba2", "rwkv4", "hgrn_complex"])
def test_summary_names_the_structure(name: str):
    mixer = model_of(name).backbone.mixers()[0]
    assert isinstance(mixer, EosMixer)
    assert mixer.structure.startswith("diagonal")
