"""The dimension glossary and the array types that every signature uses.

    B  batch                          N  state (expand) size per head, `state_dim`
    L  length, in tokens              P  value size per head, `value_dim`
    D  model width, `d_model`         C  chunk length of an algorithm
    H  heads, `num_heads`             V  vocabulary, `vocab_size`
    S  steps: L times the writes per token, `substeps`

Translation: EOS paper `k x d` = `N x P`; flash-linear-attention `B T H K V` = `B L H N P`; Mamba-2 `b l h n p` = the
same; S4 channels = `H` with `P = 1`; S5 `H, P` = `D, N`.

A `#` marks an axis that may have size 1, "constant along it": that shape is the structure of a stage's value. `Reads`,
the outputs of an algorithm, are P wide, or N wide where the shrink reads the whole memory.
"""

from jaxtyping import Bool, Complex, Float, Int, Num
from torch import Tensor

Tokens = Int[Tensor, "B L"]
Segments = Int[Tensor, "B L"]
Resets = Bool[Tensor, "B L"]
Stream = Float[Tensor, "B L D"]
Inputs = Num[Tensor, "#B #S #H #P"]
Writes = Num[Tensor, "#B #S #H #N #P"]
Outputs = Num[Tensor, "B L H P"]
Reads = Num[Tensor, "B L H _"]
Factor = Num[Tensor, "#B #L #H #N #P"]
RealFactor = Float[Tensor, "#B #L #H #N #P"]
Memory = Num[Tensor, "B H N P"]

__all__ = [
    "Bool",
    "Complex",
    "Factor",
    "Float",
    "Inputs",
    "Int",
    "Memory",
    "Num",
    "Outputs",
    "Reads",
    "RealFactor",
    "Resets",
    "Segments",
    "Stream",
    "Tensor",
    "Tokens",
    "Writes",
]
