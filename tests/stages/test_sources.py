"""Sources, inputs and the short convolution."""

import pytest
import torch

from lcsm.errors import UsageError
from lcsm.stages.base import READERS
from lcsm.stages.short_convolution import ShortConvolution
from tests.stages.options import LENGTH, build, call, documents, example


def convolution(kernel_size: int = 4) -> ShortConvolution:
    return ShortConvolution(6, kernel_size, "silu").double()


def test_plain_source_hands_the_input_to_every_reader():
    stage, x = build("source", "plain"), example()
    value, past = stage(x)
    assert all(value[reader] is x for reader in READERS) and past is None
    assert stage.widths == dict.fromkeys(READERS, 6)


def test_convolved_source_leaves_gate_and_skip_alone():
    stage, x = build("source", "convolved"), example()
    value, past = stage(x)
    expected = stage.convolution(x)[0]
    assert all(value[reader] is x for reader in ("gate", "skip"))
    assert all(torch.equal(value[reader], expected) for reader in ("input", "expand", "oscillation", "shrink"))
    assert stage.state_size() == past[0].numel()


@pytest.mark.parametrize("segmented", [False, True])
def test_short_convolution_is_its_formula(segmented: bool):
    module, x = convolution(), example(dtype=torch.float64)
    context = documents([0] * LENGTH) if segmented else None
    expected = module.bias.expand_as(x).clone()
    for t in range(LENGTH):
        for lag in range(min(4, t + 1)):
            expected[:, t] += module.weight[lag] * x[:, t - lag]
    torch.testing.assert_close(module(x, None, context)[0], expected * expected.sigmoid())


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
@pytest.mark.parametrize("cut", [1, 2, 5])
def test_short_convolution_splits_anywhere_values_and_gradients(kernel_size: int, cut: int):
    module, x = convolution(kernel_size), example(dtype=torch.float64).requires_grad_()
    whole, _ = module(x)
    first, past = module(x[:, :cut])
    second, _ = module(x[:, cut:], past)
    split = torch.cat([first, second], 1)
    torch.testing.assert_close(split, whole)
    for ours, theirs in zip(
        torch.autograd.grad(split.square().sum(), [x, *module.parameters()]),
        torch.autograd.grad(whole.square().sum(), [x, *module.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("cut", [1, 3, 4, 6, 7])
def test_short_convolution_of_packed_documents_is_that_of_each_alone(cut: int):
    module, x = convolution(), example(dtype=torch.float64)
    # the first id comes back while its tokens are still within reach of the taps
    ids = [0, 0, 0, 1, 0, 0, 0]
    first, past = module(x[:, :cut], None, documents(ids, 0, cut))
    packed = [first]
    if cut < LENGTH:
        packed.append(module(x[:, cut:], past, documents(ids, cut))[0])
    alone = [module(x[:, a:b])[0] for a, b in ((0, 3), (3, 4), (4, 7))]
    torch.testing.assert_close(torch.cat(packed, 1), torch.cat(alone, 1))


def test_short_convolution_without_ids_continues_the_last_document():
    module, x = convolution(), example(dtype=torch.float64)
    first, past = module(x[:, :3], None, documents([0, 0, 1]))
    second = module(x[:, 3:], past)[0]
    torch.testing.assert_close(torch.cat([first[:, 2:], second], 1), module(x[:, 2:])[0])


def test_short_convolution_sees_no_future():
    module, x = convolution(), example(dtype=torch.float64).requires_grad_()
    gradient = torch.autograd.grad(module(x)[0][:, 3].sum(), x)[0]
    assert (gradient[:, 4:] == 0).all() and (gradient[:, :4] != 0).all()


def test_linear_input_is_an_activated_projection():
    stage, x = build("input", "linear", activation="silu"), example()
    expected = torch.nn.functional.silu(x @ stage.projection.weight.T).unflatten(-1, (2, 3))
    torch.testing.assert_close(call(stage, x)[0], expected)


def test_per_channel_input_is_what_the_stage_sees():
    x = example()
    stage = build("input", "per_channel", num_heads=6, value_dim=1)
    assert torch.equal(call(stage, x)[0][..., 0], x)


def test_inputs_refuse_sizes_that_do_not_fit():
    with pytest.raises(UsageError, match=r"set mixer.num_heads=6 mixer.value_dim=1"):
        build("input", "per_channel", num_heads=4, value_dim=1)
    with pytest.raises(UsageError, match=r"mixer.value_dim=3 must be 1"):
        build("input", "ones", value_dim=3)
    with pytest.raises(UsageError, match="kernel_size=0 must be greater than 0"):
        build("source", "convolved", kernel_size=0)
