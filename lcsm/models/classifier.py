"""A label for a whole sequence, or for a pair of sequences: encoder, blocks, masked mean, head."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from lcsm.models.backbone import Backbone, masked_mean
from lcsm.shapes import Bool, Float, Num, Tensor
from lcsm.stages.activation import soft_capped
from lcsm.structures import Context


class SequenceClassifier(nn.Module):
    """Classifies sequences of tokens or of feature vectors.

    Args:
        backbone: the blocks.
        num_classes: number of labels.
        vocab_size: V where the inputs are tokens, else None.
        num_features: width F of the inputs where they are vectors, else None.
        embedding_std: standard deviation of the embedding at the start, for tokens.
        embedding_dropout: probability of dropping an entry of the encoded inputs.
        logit_cap: soft bound of the logits, see `soft_capped`; None for none.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        vocab_size: int | None,
        num_features: int | None,
        embedding_std: float,
        embedding_dropout: float,
        logit_cap: float | None,
    ) -> None:
        super().__init__()
        self.logit_cap = logit_cap
        self.encoder: nn.Module
        if vocab_size is not None and num_features is None:
            self.encoder = nn.Embedding(vocab_size, backbone.d_model)
            nn.init.normal_(self.encoder.weight, std=embedding_std)
        elif num_features is not None and vocab_size is None:
            self.encoder = nn.Linear(num_features, backbone.d_model)
        else:
            raise ValueError(
                f"vocab_size={vocab_size} and num_features={num_features}: give one of them, tokens or vectors"
            )
        self.dropout = nn.Dropout(embedding_dropout)
        self.backbone = backbone
        self.head: nn.Module = nn.Linear(backbone.d_model, num_classes)

    def encode(
        self, inputs: Num[Tensor, "B L ..."], mask: Bool[Tensor, "B L"] | None = None, context: Context | None = None
    ) -> Float[Tensor, "B D"]:
        """Mean of what the blocks make of each sequence.

        Args:
            inputs: tokens [B L] or vectors [B L F].
            mask: True where a position counts; padding has an id of its own in context.segments.
            context: document ids and other side information of the inputs.
        """
        x, _ = self.backbone(self.dropout(self.encoder(inputs)), None, context)
        return masked_mean(x, mask)

    def forward(
        self, inputs: Num[Tensor, "B L ..."], mask: Bool[Tensor, "B L"] | None = None, context: Context | None = None
    ) -> Float[Tensor, "B classes"]:
        """Logits of the labels; arguments as in `encode`."""
        return soft_capped(self.head(self.encode(inputs, mask, context)), self.logit_cap)


class PairHead(nn.Module):
    """Linear(gelu(Linear([a, b, a - b, a * b]))) of two vectors a and b.

    Args:
        d_model: width D of each.
        num_classes: number of labels.
    Source: matching in the Long Range Arena (arXiv 2011.04006), as in S4 and S5.
    """

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.join = nn.Linear(4 * d_model, d_model)
        self.decide = nn.Linear(d_model, num_classes)

    def forward(self, first: Float[Tensor, "B D"], second: Float[Tensor, "B D"]) -> Float[Tensor, "B classes"]:
        features = torch.cat([first, second, first - second, first * second], -1)
        return self.decide(functional.gelu(self.join(features)))


class PairClassifier(SequenceClassifier):
    """Classifies pairs of sequences, both encoded by the same blocks; arguments as in `SequenceClassifier`."""

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        vocab_size: int | None,
        num_features: int | None,
        embedding_std: float,
        embedding_dropout: float,
        logit_cap: float | None,
    ) -> None:
        super().__init__(backbone, num_classes, vocab_size, num_features, embedding_std, embedding_dropout, logit_cap)
        self.head = PairHead(backbone.d_model, num_classes)

    def forward(
        self,
        inputs: Num[Tensor, "rows L ..."],
        mask: Bool[Tensor, "rows L"] | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, "rows//2 classes"]:
        """Logits of the labels of B pairs: the first half of the rows are first sequences, the second half second ones.

        One pass encodes both, so that batch normalisation sees them together.
        """
        first, second = self.encode(inputs, mask, context).chunk(2)
        return soft_capped(self.head(first, second), self.logit_cap)
