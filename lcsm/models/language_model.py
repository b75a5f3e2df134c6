"""Embedding, blocks, head: tokens in, logits of the next token out."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional

from lcsm.models.backbone import Backbone
from lcsm.shapes import Float, Int, Tensor, Tokens
from lcsm.stages.activation import soft_capped
from lcsm.structures import Context


class LanguageModel(nn.Module):
    """Predicts a token at every position.

    Args:
        backbone: the blocks.
        vocab_size: V.
        embedding_std: standard deviation of the embedding at the start.
        embedding_dropout: probability of dropping an entry of the embedded tokens.
        tie_embeddings: whether the head uses the embedding's weights.
        logit_cap: soft bound of the logits, see `soft_capped`; None for none.
    Attributes:
        embedding_factor: what embedded tokens are multiplied by; 1 unless a release starts the model otherwise.
    """

    embedding_factor: float = 1.0

    def __init__(
        self,
        backbone: Backbone,
        vocab_size: int,
        embedding_std: float,
        embedding_dropout: float,
        tie_embeddings: bool,
        logit_cap: float | None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.logit_cap = vocab_size, logit_cap
        self.embedding = nn.Embedding(vocab_size, backbone.d_model)
        nn.init.normal_(self.embedding.weight, std=embedding_std)
        self.dropout = nn.Dropout(embedding_dropout)
        self.backbone = backbone
        self.head = None
        if not tie_embeddings:
            self.head = nn.Linear(backbone.d_model, vocab_size, bias=False)
            nn.init.normal_(self.head.weight, std=embedding_std)

    def forward(
        self, tokens: Tokens, state: list[Any] | None = None, context: Context | None = None
    ) -> tuple[Float[Tensor, "B L V"], list[Any] | None]:
        """Logits of the next token at every position.

        Args:
            tokens: [B L].
            state: None for a whole sequence, otherwise what the last call returned or `initial_state()`.
            context: document ids and other side information of the tokens.
        """
        x, state = self.hidden(tokens, state, context)
        return self.read_out(x), state

    def hidden(
        self, tokens: Tokens, state: list[Any] | None = None, context: Context | None = None
    ) -> tuple[Float[Tensor, "B L D"], list[Any] | None]:
        """The inputs of the head at every position, and the next state; arguments as in `forward`."""
        embedded = self.embedding(tokens)
        if self.embedding_factor != 1:
            embedded = embedded * self.embedding_factor
        return self.backbone(self.dropout(embedded), state, context)

    def read_out(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Logits of the next token at the positions in `x`, which may be chosen ones of `hidden`."""
        logits = functional.linear(x, self.embedding.weight if self.head is None else self.head.weight)
        return soft_capped(logits, self.logit_cap)

    def step(
        self, token: Int[Tensor, " B"], state: list[Any], context: Context | None = None
    ) -> tuple[Float[Tensor, "B V"], list[Any]]:
        """One token: logits [B V] and the next state, at a cost that does not depend on the position for EOS mixers."""
        logits, state = self(token[:, None], state, context)
        return logits[:, 0], state

    @property
    def streams(self) -> bool:
        """Whether it can write text, which takes a state that goes from token to token."""
        return all(mixer.streams for mixer in self.backbone.mixers())

    def initial_state(self) -> list[Any]:
        """The state before the first token of a stream."""
        return self.backbone.initial_state()
