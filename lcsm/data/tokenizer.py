"""Text to token ids and back: bytes, or byte-level byte-pair encoding trained on the corpus."""

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from lcsm.data.corpus import require_characters
from lcsm.errors import UsageError, first_line, shortened

BYTES = 256
# the library reserves room for all ids that are asked for, and aborts the process where there is none
LARGEST_VOCABULARY = 1 << 20
# a cut inside a document is made where the pre-tokeniser would cut anyway, so that cutting changes no token:
# at a line end or before a single space, with visible characters on both sides
SAFE_CUT = re.compile(r"(?<=\S)\n(?=\S)|(?<=\S)(?= \S)")
PIECE = 1 << 16  # characters
BUFFER = 1 << 22  # characters that are tokenised at once, on all cores


class Tokenizer(ABC):
    """Ids 0 .. vocab_size - 1; the last one ends a document, stands for no text and is never made from text."""

    vocab_size: int

    @property
    def end_of_document(self) -> int:
        return self.vocab_size - 1

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text, without the end-of-document id.

        Raises:
            UsageError: the text has characters that UTF-8 does not.
        """

    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """The bytes that each id stands for; empty for the end of a document."""

    @abstractmethod
    def encode_documents(self, documents: Iterable[str]) -> Iterator[np.ndarray]:
        """Ids of all documents in order, each followed by the end-of-document id, in arrays of any size."""

    @abstractmethod
    def state(self) -> dict[str, str]:
        """Plain strings from which `tokenizer_from_state` rebuilds the tokenizer."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; ends of documents are left out, and bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: an id is outside of the vocabulary.
        """
        wrong = [i for i in ids if not 0 <= i < self.vocab_size]
        if wrong:
            raise ValueError(f"ids={wrong[:3]} are outside of this tokenizer's vocabulary 0 .. {self.vocab_size - 1}")
        table = self.token_bytes()
        return b"".join(table[i] for i in ids).decode("utf-8", errors="replace")

    def byte_lengths(self) -> np.ndarray:
        """Bytes of text that each id stands for, int64 [V]; 0 for the end of a document."""
        return np.array([len(token) for token in self.token_bytes()], dtype=np.int64)

    def digest(self) -> str:
        """SHA-256 of the state, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.state(), sort_keys=True).encode()).hexdigest()


class ByteTokenizer(Tokenizer):
    """The UTF-8 bytes themselves and the end of a document: 257 ids."""

    vocab_size = BYTES + 1

    def encode(self, text: str) -> list[int]:
        require_characters(text, "the text")
        return list(text.encode("utf-8"))

    def token_bytes(self) -> list[bytes]:
        return [bytes([i]) for i in range(BYTES)] + [b""]

    def encode_documents(self, documents: Iterable[str]) -> Iterator[np.ndarray]:
        end = np.array([self.end_of_document], dtype=np.uint16)
        for document in documents:
            yield np.concatenate([np.frombuffer(document.encode("utf-8"), dtype=np.uint8), end], dtype=np.uint16)

    def state(self) -> dict[str, str]:
        return {"kind": "bytes"}


class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding: every text has ids, and every id stands for whole bytes.

    Args:
        definition: JSON of the `tokenizers` library, as `train_bpe` writes it.
    Raises:
        UsageError: the JSON is broken, or describes another kind of tokenizer.
    """

    def __init__(self, definition: str) -> None:
        self._definition = definition
        _require_plain(definition)
        with _library_errors("the tokenizer definition cannot be read"):
            self._library = tokenizers.Tokenizer.from_str(definition)
        self.vocab_size = self._library.get_vocab_size() + 1
        self._bytes: list[bytes] | None = None

    def encode(self, text: str) -> list[int]:
        require_characters(text, "the text")
        with _library_errors("the text cannot be tokenised"):
            return list(self._library.encode(text).ids)

    def token_bytes(self) -> list[bytes]:
        if self._bytes is None:
            byte_of = _byte_alphabet()
            self._bytes = [b""] * self.vocab_size
            for token, index in self._library.get_vocab().items():
                self._bytes[index] = bytes(byte_of[character] for character in token)
        return self._bytes

    def encode_documents(self, documents: Iterable[str]) -> Iterator[np.ndarray]:
        # said explicitly, because the library otherwise warns in every worker process that a loader forks later
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        buffer: list[str] = []
        ends: list[bool] = []
        size = 0
        for document in documents:
            for piece in pieces(document):
                buffer.append(piece)
                ends.append(False)
                size += len(piece)
                if size >= BUFFER:
                    # the last piece waits, because it may turn out to end its document
                    yield self._encode_pieces(buffer[:-1], ends[:-1])
                    buffer, ends, size = buffer[-1:], ends[-1:], len(piece)
            ends[-1] = True
        yield self._encode_pieces(buffer, ends)

    def _encode_pieces(self, buffer: list[str], ends: list[bool]) -> np.ndarray:
        with _library_errors("the corpus cannot be tokenised"):
            encodings = self._library.encode_batch_fast(buffer)
        end = np.array([self.end_of_document], dtype=np.uint32)
        parts = [np.zeros(0, dtype=np.uint32)]
        for encoding, is_end in zip(encodings, ends, strict=True):
            parts.append(np.array(encoding.ids, dtype=np.uint32))
            if is_end:
                parts.append(end)
        return np.concatenate(parts)

    def state(self) -> dict[str, str]:
        return {"kind": "bpe", "json": self._definition}


def train_bpe(documents: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """Learn merges from documents.

    Args:
        vocab_size: ids asked for, the end of a document included; a small corpus gives fewer.
    Raises:
        UsageError: fewer ids than the 256 bytes and the end of a document.
    """
    if vocab_size < BYTES + 1:
        raise UsageError(
            f"data.vocab_size={vocab_size} is too small for data.tokenizer=bpe: 256 bytes and the end of a document "
            f"need {BYTES + 1};\nuse data.vocab_size={BYTES + 1} or more"
        )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    with _library_errors("the tokenizer cannot be trained"):
        library.train_from_iterator((piece for document in documents for piece in pieces(document)), trainer)
    return BpeTokenizer(library.to_str())


def tokenizer_from_state(state: Any) -> Tokenizer:
    """The tokenizer that a checkpoint or a data module described with `tokenizer_state()`.

    Args:
        state: what was read, of any kind.
    Raises:
        UsageError: the state is of no known kind or broken.
    """
    kind = state.get("kind") if _is_map(state) else state
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "bpe":
        definition = state.get("json")
        if not isinstance(definition, str):
            raise UsageError("the tokenizer has no definition; train one with data.tokenizer=bpe")
        return BpeTokenizer(definition)
    raise UsageError(f"tokenizer kind={shortened(kind)} is not known; it must be bytes or bpe")


def pieces(document: str, size: int = PIECE) -> Iterator[str]:
    """A document cut into parts of about `size` characters where that changes no token; at least one part."""
    start = 0
    while len(document) - start > size:
        cut = SAFE_CUT.search(document, start + size)
        if cut is None:
            break
        yield document[start : cut.end()]
        start = cut.end()
    yield document[start:]


def _byte_alphabet() -> dict[str, int]:
    """The printable character with which byte-level encoding writes each byte, as character to byte."""
    # visible Latin-1 characters stand for themselves, the other 68 bytes for the characters from 256 upwards
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(BYTES) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(BYTES + i): byte for i, byte in enumerate(hidden)}


def _require_plain(definition: str) -> None:
    """Accept exactly what `train_bpe` writes: a foreign definition may hold a regular expression that never ends, or a
    padding of any length.
    """
    try:
        content: Any = json.loads(definition)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the tokenizer definition is no JSON: {first_line(error)}; train one with data.tokenizer=bpe"
        ) from error
    parts = content if _is_map(content) else {}
    wrong = sorted({*parts} - {*_PLAIN}) or [name for name, expected in _PLAIN.items() if not expected(parts.get(name))]
    if wrong:
        raise UsageError(
            f"the tokenizer definition has an unexpected {shortened(', '.join(wrong))}; "
            "only byte-level BPE without added tokens is accepted, as data.tokenizer=bpe trains it"
        )


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == []


def _is_byte_level_bpe(model: Any) -> bool:
    if not _is_map(model) or model.get("type") != "BPE" or not _is_map(model.get("vocab")):
        return False
    # dropout, unknown tokens, prefixes, suffixes: all that changes how a text is cut
    if not all(_is_off(value) for name, value in model.items() if name not in ("type", "vocab", "merges")):
        return False
    vocabulary, alphabet = model["vocab"], set(_byte_alphabet())
    # the end of a document is one more
    if len(vocabulary) >= LARGEST_VOCABULARY or any(type(index) is not int for index in vocabulary.values()):
        return False
    has_all_ids = sorted(vocabulary.values()) == list(range(len(vocabulary)))
    return has_all_ids and alphabet <= {*vocabulary} and all(set(token) <= alphabet for token in vocabulary)


def _is_byte_level(part: Any) -> bool:
    if not _is_map(part) or part.get("type") != "ByteLevel" or part.get("use_regex") is False:
        return False
    return {*part} <= {"type", "add_prefix_space", "trim_offsets", "use_regex"}


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "version": lambda value: isinstance(value, str),
    "truncation": _is_off,
    "padding": _is_off,
    "added_tokens": _is_off,
    "normalizer": _is_off,
    "post_processor": _is_off,
    "pre_tokenizer": lambda value: _is_byte_level(value) and not value.get("add_prefix_space"),
    "decoder": _is_byte_level,
    "model": _is_byte_level_bpe,
}


class _library_errors:
    """Turn the library's faults into one line: plain `Exception`, and `PanicException`, which is no `Exception`."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is Exception or (kind is not None and kind.__name__ == "PanicException"):
            raise UsageError(f"{self.what}: {error}") from error
