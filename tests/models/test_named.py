"""Every named model keeps what all models promise: no look ahead, streams in any split, documents that do not mix."""

import pytest
import torch

from lcsm.models.build import build_model
from lcsm.models.language_model import LanguageModel
from lcsm.structures import Context
from tests.compose import compose, options

LENGTH, VOCABULARY = 11, 13
# the model that is trained without a mask sees later tokens, and the modes of the other may grow
SEEING, KERNELS = ("ldnn_bidirectional",), ("dss_softmax",)
MODELS = [name for name in options("model") if name not in SEEING]
STREAMS = [name for name in MODELS if name not in KERNELS]


def model_of(name: str) -> LanguageModel:
    """A small model in double precision, of as many layers as its pattern needs."""
    config = compose(f"model={name}", "model.d_model=32")
    config["model"]["num_layers"] = len(config["model"]["pattern"])
    return build_model(config, VOCABULARY).double().eval()


def tokens(seed: int = 0) -> torch.Tensor:
    """Token ids, [2 L]."""
    return torch.randint(VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
def test_no_output_depends_on_later_tokens(name: str):
    model, first, other = model_of(name), tokens(), tokens(1)
    other[:, :6] = first[:, :6]
    torch.testing.assert_close(model(other)[0][:, :6], model(first)[0][:, :6], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_pieces_gives_what_the_whole_gives(name: str):
    model, row = model_of(name), tokens()
    state, pieces = model.initial_state(), []
    with torch.no_grad():
        whole = model(row)[0]
        for start, stop in ((0, 4), (4, 5), (5, 6), (6, LENGTH)):
            outputs, state = model(row[:, start:stop], state)
            pieces.append(outputs)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", STREAMS)
def test_documents_of_a_row_do_not_see_each_other(name: str):
    model, row = model_of(name), tokens()
    segments = torch.tensor([[0] * 4 + [1] * 7] * 2)
    packed = model(row, context=Context(segments=segments))[0]
    alone = torch.cat([model(row[:, :4])[0], model(row[:, 4:])[0]], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-8, atol=1e-10)
