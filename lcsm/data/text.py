"""Language modelling on text: tokenised, packed rows of whatever corpus a subclass finds."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch.utils.data import Dataset

from lcsm.batch import Batch
from lcsm.data.base import BatchDataModule, EvaluationBatches
from lcsm.data.corpus import Corpus
from lcsm.data.packing import EvaluationRows, TokenStore, TrainingBatches, scored_tokens
from lcsm.data.sampling import Shard
from lcsm.data.settings import CachedLoading, require_integer, require_multiples, require_sizes
from lcsm.data.token_cache import PreparedText, prepare_text
from lcsm.data.tokenizer import LARGEST_VOCABULARY, ByteTokenizer, Tokenizer
from lcsm.errors import UsageError

log = logging.getLogger(__name__)

# ids of a bpe vocabulary whose size is not asked for: a common small one for corpora of a few megabytes
BPE_SIZE = 4096


@dataclass(frozen=True)
class TextSettings:
    """Settings of the way from text to rows.

    Args:
        length: tokens in a training row.
        tokenizer: `bytes` (257 ids) or `bpe` (byte-level, trained on the training text).
        vocab_size: ids asked of a `bpe` vocabulary, the end of a document included; None = `BPE_SIZE`. `bytes` has 257.
        packing: `stream` lets rows run over documents, `documents` also numbers the documents in `segments`.
        val_lengths: validation rows in multiples of `length`, one loader each, over the same text.
        max_val_tokens: tokens that validation and test score at most, from the start of their text; None = all.
    Raises:
        UsageError: a value is out of range.
    """

    length: int
    tokenizer: Literal["bytes", "bpe"]
    vocab_size: int | None
    packing: Literal["stream", "documents"]
    val_lengths: Sequence[int]
    max_val_tokens: int | None

    def __post_init__(self) -> None:
        if self.tokenizer == "bpe" and self.vocab_size is not None:
            require_integer("data.vocab_size", self.vocab_size, ByteTokenizer.vocab_size)
            if self.vocab_size > LARGEST_VOCABULARY:
                raise UsageError(
                    f"data.vocab_size={self.vocab_size} must be at most {LARGEST_VOCABULARY} for data.tokenizer=bpe"
                )
        if self.tokenizer == "bytes" and self.vocab_size not in (None, ByteTokenizer.vocab_size):
            raise UsageError(
                f"data.vocab_size={self.vocab_size}, but data.tokenizer=bytes always has {ByteTokenizer.vocab_size} "
                "ids;\nleave data.vocab_size=null, or choose data.tokenizer=bpe"
            )
        require_multiples(self.val_lengths)
        require_sizes(max_val_tokens=self.max_val_tokens)

    @property
    def asked_size(self) -> int | None:
        """Ids to ask of a trained vocabulary, None for bytes."""
        return None if self.tokenizer == "bytes" else self.vocab_size or BPE_SIZE


class TextData(BatchDataModule):
    """Packed rows of tokenised documents; each target is the token after its input.

    A batch has `tokens`, `targets` and `bytes` (an end of a document is scored and counts as none), with
    `packing=documents` also `segments`; see `lcsm.batch`. The text is read and tokenised when first needed; reading
    `vocab_size` of a trained vocabulary already needs it.

    Args:
        text: how it becomes rows.
        loading: how batches are loaded, and where tokenised text is kept. Rows of k times the length come in batches of
            batch_size / k, so that every batch has about as many tokens.
    Raises:
        UsageError: on first use, whatever is wrong with the text.
    """

    loading: CachedLoading

    def __init__(self, text: TextSettings, loading: CachedLoading) -> None:
        super().__init__(text.length, loading)
        self.text = text
        self._segments = text.packing == "documents"
        self._multiples = sorted(set(text.val_lengths))
        self._prepared: PreparedText | None = None
        self._test: PreparedText | None = None
        self._corpus: Corpus | None = None

    @classmethod
    def preview(cls, settings: Mapping[str, Any]) -> tuple[int, int, dict[str, Any]]:
        # what is asked for: the size of a trained vocabulary, and whether there is a text, takes reading it
        asked = TextSettings(**{name: settings[name] for name in TextSettings.__dataclass_fields__})
        return asked.asked_size or ByteTokenizer.vocab_size, asked.length, {}

    @abstractmethod
    def load_corpus(self) -> Corpus:
        """Find the documents of `train` and `validation`."""

    def load_test(self) -> Corpus:
        """Find the documents of `test`, which are looked for only when they are scored.

        Raises:
            UsageError: there is no test split.
        """
        raise UsageError(
            f"{type(self).__name__} has no test split: score split=val, or text of your own with one (data=text)"
        )

    def prepare(self) -> PreparedText:
        """Read, tokenise and check the text; later calls return the same.

        Raises:
            UsageError: a file or data set cannot be read, or a split is too short for one row.
        """
        if self._prepared is None:
            self._corpus = self.load_corpus()
            prepared = prepare_text(self._corpus, self.text.tokenizer, self.text.asked_size, self.loading.cache_dir)
            tokens = prepared.facts["train"]["tokens"]
            if tokens < self.length + 1:
                shorter = f", or a data.length below {tokens} instead of {self.length}" if tokens > 1 else ""
                raise UsageError(
                    f"the training text has {tokens} tokens, fewer than one row and its target need;\n"
                    f"use more text{shorter}"
                )
            self._prepared = prepared
            # checks the validation text and says which multiples are left out
            self._fitting("validation", warn=True)
        return self._prepared

    def _of(self, split: str) -> PreparedText:
        """The text that holds a split."""
        if split != "test":
            return self.prepare()
        if self._test is None:
            self._test = prepare_text(
                self.load_test(), self.text.tokenizer, None, self.loading.cache_dir, self.tokenizer
            )
        return self._test

    def prepare_data(self) -> None:
        self.prepare()

    def setup(self, stage: str) -> None:
        self.prepare()

    @property
    def tokenizer(self) -> Tokenizer:
        return ByteTokenizer() if self.text.asked_size is None else self.prepare().tokenizer

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def val_names(self) -> list[str]:
        return [f"{multiple}x" for multiple in self._fitting(self.scored_split)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without an end of the document."""
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, ends of documents left out."""
        return self.tokenizer.decode(ids)

    def tokenizer_state(self) -> dict[str, str]:
        return self.tokenizer.state()

    def describe(self) -> dict[str, Any]:
        """Source, hashes, tokenizer, and documents, tokens and bytes of the training and the validation text."""
        prepared = self.prepare()
        assert self._corpus is not None, "prepare() keeps the corpus"
        facts = {
            "kind": "text",
            "source": self._corpus.name,
            "corpus_sha256": self._corpus.digest,
            "tokenizer": self.text.tokenizer,
            "tokenizer_sha256": prepared.tokenizer.digest(),
            "vocab_size": prepared.tokenizer.vocab_size,
            "length": self.length,
            "packing": self.text.packing,
        }
        return facts | {f"{split}_{name}": n for split, counts in prepared.facts.items() for name, n in counts.items()}

    def training_batches(self, shard: Shard) -> Dataset[Batch]:
        return TrainingBatches(self._store("train"), self.length, self.loading, shard, self._segments)

    def evaluation_batches(self, split: str, shard: Shard) -> dict[str, EvaluationBatches]:
        store = self._store(split)
        batches: dict[str, EvaluationBatches] = {}
        for multiple in self._fitting(split):
            length, rows = multiple * self.length, max(1, self.loading.batch_size // multiple)
            batches[f"{multiple}x"] = EvaluationRows(
                store, length, rows, self.text.max_val_tokens, shard, self._segments
            )
        return batches

    def _store(self, split: str) -> TokenStore:
        prepared = self._of(split)
        tokenizer = prepared.tokenizer
        return TokenStore(prepared.folder / f"{split}.npy", tokenizer.end_of_document, tokenizer.byte_lengths())

    def _fitting(self, split: str, warn: bool = False) -> list[int]:
        """Multiples of the length for which the split has at least one whole row."""
        scored = scored_tokens(self._of(split).facts[split]["tokens"], self.text.max_val_tokens)
        fitting = [multiple for multiple in self._multiples if multiple * self.length <= scored]
        least = self._multiples[0] * self.length
        if not fitting:
            raise UsageError(
                f"the {split} text has {scored} tokens to score, but one row of {least} does not fit;\n"
                "use more text, a larger data.max_val_tokens or data.val_fraction, or a smaller data.length"
            )
        if warn and fitting != self._multiples:
            left_out = [f"{multiple}x" for multiple in self._multiples if multiple not in fitting]
            log.warning("%s rows at %s left out: the text has %d tokens", split, ", ".join(left_out), scored)
        return fitting
