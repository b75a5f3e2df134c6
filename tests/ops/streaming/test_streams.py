"""Streams of a fixed kernel equal the convolution, wherever the sequence is cut, and cost the same at every token."""

import pytest
import torch

from lcsm.conversion.system import ModalSystem
from lcsm.errors import UsageError
from lcsm.ops.streaming.base import Convolver, convolve
from lcsm.ops.streaming.boxes import Boxes, Piece, assembled
from lcsm.ops.streaming.ring import BLOCK, Ring
from lcsm.ops.streaming.tiles import Tiles

B, C = 2, 3
LENGTHS = (1, 2, 3, 31, 32, 33, 34, 64, 65, 129)
STREAMS = {"ring": Ring, "tiles": Tiles, "small tiles": lambda kernel: Tiles(kernel, 4)}


def direct(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """The sum over lags as it is written."""
    outputs = torch.zeros_like(x)
    for lag in range(min(len(kernel), x.shape[1])):
        outputs[:, lag:] += kernel[lag] * x[:, : x.shape[1] - lag]
    return outputs


def streamed(convolver: Convolver, x: torch.Tensor, cuts: tuple[int, ...] = ()) -> torch.Tensor:
    """Pieces of the given lengths, then token by token."""
    outputs, place, start = [], None, 0
    for length in (*cuts, *[1] * (x.shape[1] - sum(cuts))):
        output, place = convolver(x[:, start : start + length], place)
        outputs.append(output)
        start += length
    return torch.cat(outputs, 1)


def pieces(taps: int, first_scale: int, joined: bool, scales: int = 4) -> list[Piece]:
    found, offset = [], 0
    for index in range(scales):
        factor = 2 ** ((max(0, index - 1) if joined else index) + first_scale)
        found.append(Piece(torch.randn(taps, C, dtype=torch.float64), factor, offset if joined else 0))
        offset += taps * factor
    return found


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("cuts", [(), (5, 1, 60, 1, 1, 70)])
def test_streams_equal_the_convolution(stream: str, length: int, cuts: tuple[int, ...]):
    kernel, x = torch.randn(length, C, dtype=torch.float64), torch.randn(B, 300, C, dtype=torch.float64)
    found = streamed(STREAMS[stream](kernel), x, cuts)
    torch.testing.assert_close(found, direct(x, kernel), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found, convolve(x, kernel), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("taps", [0, 1, 5])
def test_streamed_modes_equal_their_kernel(taps: int):
    values, weights = (torch.rand(2, C, 4, dtype=torch.complex128) * 0.7).unbind(0)
    system = ModalSystem(torch.randn(C, taps, dtype=torch.float64), values, weights)
    x = torch.randn(B, 150, C, dtype=torch.float64)
    found = streamed(system.stream(torch.float64), x, (3, 1, 1, 40, 1, 2))
    torch.testing.assert_close(found, direct(x, system.kernel(150).t()), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("first_scale", [0, 2])
def test_boxes_equal_their_enlarged_pieces(mode: str, joined: bool, taps: int, first_scale: int):
    parts, x = pieces(taps, first_scale, joined), torch.randn(B, 250, C, dtype=torch.float64)
    found = streamed(Boxes(parts, mode), x, (3, 1, 70, 1, 30))
    torch.testing.assert_close(found, direct(x, assembled(parts, mode)), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_boxes_that_enlarge_nothing_equal_their_taps(mode: str):
    parts, x = pieces(3, 0, True, 2), torch.randn(B, 40, C, dtype=torch.float64)
    found = streamed(Boxes(parts, mode), x, (3,))
    torch.testing.assert_close(found, direct(x, assembled(parts, mode)), rtol=1e-11, atol=1e-11)


def long_stream(name: str) -> tuple[Convolver, torch.Tensor]:
    """A stream of 64 channels that remembers at least 300 tokens, and its kernel."""
    kernel = torch.randn(300, 64, dtype=torch.float64)
    if "boxes" in name:
        scales = zip((4, 8, 16, 32), (0, 20, 60, 140), strict=True)
        parts = [Piece(torch.randn(5, 64, dtype=torch.float64), *scale) for scale in scales]
        return Boxes(parts, name.split()[0]), assembled(parts, name.split()[0])
    if "modes" in name:
        # half of a mode is left after 70 tokens or more
        values = torch.polar(1 - 0.01 * torch.rand(64, 4), 3 * torch.rand(64, 4)).to(torch.complex128)
        taps = kernel.T if "taps" in name else kernel.T[:, :0]
        system = ModalSystem(taps, values, torch.randn(64, 4, dtype=torch.complex128))
        return system.stream(torch.float64), system.kernel(1101).T
    return STREAMS[name](kernel), kernel


@pytest.mark.parametrize("cuts", [(), (5, 1, 400, 1, 1, 40)], ids=["tokens", "pieces"])
@pytest.mark.parametrize("stream", ["ring", "tiles", "nearest boxes", "linear boxes", "modes", "modes behind taps"])
def test_streams_equal_the_convolution_beyond_their_blocks(stream: str, cuts: tuple[int, ...]):
    convolver, kernel = long_stream(stream)
    x = torch.randn(B, 1101, 64, dtype=torch.float64)
    # every tape is written over more than once, and the ring sums more than one block
    assert 2 * convolver.capacity < x.shape[1] and BLOCK // x[:, 0].numel() < 300
    # a power of a mode is off by an epsilon for every step, a sum by one for every term
    bound = x.shape[1] * torch.finfo(x.dtype).eps * direct(x.abs(), kernel.abs())
    assert ((streamed(convolver, x, cuts) - direct(x, kernel)).abs() <= bound).all()


def test_sums_of_boxes_do_not_drift_in_single_precision():
    parts = [Piece(piece.weights.float(), piece.factor, piece.offset) for piece in pieces(4, 0, True, 6)]
    x = 100 + torch.randn(1, 6000, C)
    found = streamed(Boxes(parts, "linear"), x)[:, -500:]
    exact = direct(x.double(), assembled(parts, "linear").double())[:, -500:]
    assert (found - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize("stream", [*STREAMS, "boxes"])
def test_no_output_changes_when_later_inputs_do(stream: str):
    parts, x = pieces(4, 0, True), torch.randn(B, 90, C, dtype=torch.float64)
    convolver = Boxes(parts, "linear") if stream == "boxes" else STREAMS[stream](assembled(parts, "linear"))
    other = x.clone()
    other[:, 50:] = torch.randn(B, 40, C, dtype=torch.float64)
    same, found = streamed(convolver, x)[:, :50], streamed(convolver, other)[:, :50]
    assert torch.equal(same, found)


def test_a_place_is_continued_once():
    convolver = Ring(torch.randn(8, C))
    _, place = convolver(torch.randn(B, 5, C), None)
    convolver(torch.randn(B, 1, C), place)
    with pytest.raises(UsageError, match="used once"):
        convolver(torch.randn(B, 1, C), place)


def test_two_streams_of_one_kernel_do_not_meet():
    convolver, x = Tiles(torch.randn(40, C, dtype=torch.float64), 4), torch.randn(2, B, 50, C, dtype=torch.float64)
    places, outputs = [None, None], [[], []]
    for t in range(50):
        for index in range(2):
            output, places[index] = convolver(x[index, :, t : t + 1], places[index])
            outputs[index].append(output)
    for index in range(2):
        torch.testing.assert_close(torch.cat(outputs[index], 1), direct(x[index], convolver.taps))


@pytest.mark.parametrize("stream", ["ring", "tiles"])
def test_what_is_kept_does_not_grow_with_the_text(stream: str):
    convolver = STREAMS[stream](torch.randn(100, C))
    _, place = convolver(torch.randn(1, 500, C), None)
    before = place.tape.inputs.shape
    for _ in range(300):
        _, place = convolver(torch.randn(1, 1, C), place)
    assert place.tape.inputs.shape == before and before[0] <= 256


def test_factors_that_are_no_powers_of_two_are_refused():
    with pytest.raises(UsageError, match="factor=3"):
        Boxes([Piece(torch.randn(2, C), 3, 0)], "linear")
