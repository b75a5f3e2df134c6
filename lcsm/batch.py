"""The batch, for all data and tasks: its keys, and the places of its targets.

Dimensions as in `lcsm.shapes`, with F features of an input vector. Rows are those of one process.
"""

from typing import Literal, TypedDict

from lcsm.shapes import Bool, Float, Int, Segments, Tensor, Tokens

# class of a position that is not scored
NOT_SCORED = -100
# what data have to be learnt from them, and what a task learns from
Targets = Literal["positions", "sequence", "pair"]
MEANING: dict[Targets, str] = {
    "positions": "targets at every position",
    "sequence": "a label for each sequence",
    "pair": "a label for each pair of sequences",
}


class Sequences(TypedDict, total=False):
    """The inputs of a model: `tokens` or `inputs`, and what is known of their positions.

    Attributes:
        tokens: ids, int64.
        inputs: vectors, float32.
        mask: True in a sequence, False in the padding behind it; with labels only.
        segments: number of each token's document, int64, where several documents or padding share a row.
        dt: time since the token before, where steps are irregular.
    """

    tokens: Tokens
    inputs: Float[Tensor, "B L F"]
    mask: Bool[Tensor, "B L"]
    segments: Segments
    dt: Float[Tensor, "B L"]


class Batch(Sequences, total=False):
    """The inputs of a batch with what is to be learnt from them.

    Attributes:
        targets: class of each position, int64; `NOT_SCORED` where none is asked for.
        bytes: bytes of text that the scored targets of a row stand for, int64.
        groups: labels by which accuracy is reported, by name, int64, of rows [B] or of positions [B L].
        labels: class of each sequence or pair, int64.
        other: the second sequences of pairs, of the same length.
    """

    targets: Int[Tensor, "B L"]
    bytes: Int[Tensor, " B"]
    groups: dict[str, Int[Tensor, "..."]]
    labels: Int[Tensor, " B"]
    other: Sequences
