"""Tokenised corpora on disk: made once for each corpus and tokenizer, then memory-mapped."""

import hashlib
import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from lcsm.data.cached import Damaged, cached, read_json, require_counts, require_size
from lcsm.data.corpus import Corpus, Documents
from lcsm.data.tokenizer import ByteTokenizer, Tokenizer, tokenizer_from_state, train_bpe
from lcsm.errors import UsageError

log = logging.getLogger(__name__)

# raised whenever the files change their meaning
FORMAT = 2
# ids that are counted at once
BLOCK = 1 << 20

Facts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class PreparedText:
    """A tokenised corpus.

    Args:
        folder: holds `<split>.npy`, `facts.json` and `tokenizer.json`.
        tokenizer: what made the ids.
        facts: `documents`, `tokens` (ends of documents included) and `bytes` (of text) of each split.
    """

    folder: Path
    tokenizer: Tokenizer
    facts: Facts


def prepare_text(
    corpus: Corpus, kind: str, vocab_size: int | None, cache_dir: str | None, tokenizer: Tokenizer | None = None
) -> PreparedText:
    """Find the tokenised corpus in the cache or make it; processes that ask at once wait for the first.

    Args:
        kind: `bytes` or `bpe`.
        vocab_size: ids asked of a trained vocabulary; None for bytes.
        cache_dir: None = `lcsm.data.cached.default_cache_folder()`.
        tokenizer: makes the ids; None makes one of that kind from the training documents.
    Raises:
        UsageError: the cache cannot be used, or the corpus cannot be read.
    """
    made_by = tokenizer.digest() if tokenizer is not None else tokenizers.__version__ if kind == "bpe" else None
    key = hashlib.sha256(json.dumps([FORMAT, corpus.digest, kind, vocab_size, made_by]).encode()).hexdigest()[:24]
    folder, (found, facts) = cached(
        cache_dir,
        "tokens",
        key,
        make=lambda folder: _make(corpus, kind, vocab_size, tokenizer, folder),
        read=lambda folder: _read(folder, kind, tuple(corpus.splits)),
    )
    return PreparedText(folder, found, facts)


def _make(corpus: Corpus, kind: str, vocab_size: int | None, tokenizer: Tokenizer | None, folder: Path) -> None:
    started = time.monotonic()
    # the bar goes where a person may watch it, never into a log file
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        tokenizer = tokenizer or _tokenizer(corpus, kind, vocab_size, progress)
        facts: Facts = {}
        for split, documents in corpus.splits.items():
            counted = Counted(documents, progress, f"tokenising {split}")
            facts[split] = _write_tokens(folder / f"{split}.npy", tokenizer, counted)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.state()), encoding="utf-8")
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    log.info("tokenised %s in %.1f s: %s", corpus.name, time.monotonic() - started, facts)


def _read(folder: Path, kind: str, splits: tuple[str, ...]) -> tuple[Tokenizer, Facts]:
    """Tokenizer and facts of a folder whose ids are what the facts say.

    Raises:
        Damaged: they are not.
    """
    try:
        tokenizer = tokenizer_from_state(read_json(folder / "tokenizer.json"))
    except UsageError as error:
        raise Damaged(f"tokenizer.json: {error}") from error
    facts = read_json(folder / "facts.json")
    if tokenizer.state()["kind"] != kind or not isinstance(facts, dict) or {*facts} != {*splits}:
        raise Damaged("tokenizer.json and facts.json are of another corpus")
    for split in splits:
        expected = require_counts(facts[split], ("documents", "tokens", "bytes"), f"facts.json, {split},")
        if expected != _count(folder / f"{split}.npy", tokenizer, expected["tokens"]):
            raise Damaged(f"{split}.npy is not what facts.json says")
    return tokenizer, facts


def _count(path: Path, tokenizer: Tokenizer, tokens: int) -> dict[str, int]:
    """The facts of a file of ids, from one pass over it; reading the text for its hash costs more.

    Args:
        tokens: number of ids that it should have.
    Raises:
        Damaged: it has another size, or ids beyond the vocabulary.
    """
    kind, size = _kind(tokenizer), tokenizer.vocab_size
    header = io.BytesIO()
    _write_header(header, kind, tokens)
    require_size(path, header.tell() + tokens * kind.itemsize)
    counts = np.zeros(size, dtype=np.int64)
    with path.open("rb") as file:
        if file.read(header.tell()) != header.getvalue():
            raise Damaged(f"{path.name} has another header")
        while len(ids := np.fromfile(file, dtype=kind, count=BLOCK)):
            found = np.bincount(ids, minlength=size)
            if len(found) > size:
                raise Damaged(f"{path.name} has ids beyond the vocabulary of {size}")
            counts += found
    ends = int(counts[tokenizer.end_of_document])
    return {"documents": ends, "tokens": tokens, "bytes": int(counts @ tokenizer.byte_lengths())}


def _tokenizer(corpus: Corpus, kind: str, vocab_size: int | None, progress: Progress) -> Tokenizer:
    if vocab_size is None or kind == "bytes":
        return ByteTokenizer()
    tokenizer = train_bpe(Counted(corpus.splits["train"], progress, "training bpe"), vocab_size)
    if tokenizer.vocab_size < vocab_size:
        log.warning(
            "data.vocab_size=%d was asked for, but the training text gives %d entries; the model uses %d",
            vocab_size,
            tokenizer.vocab_size,
            tokenizer.vocab_size,
        )
    return tokenizer


class Counted:
    """Documents of one pass, counted and shown as they go by."""

    def __init__(self, documents: Documents, progress: Progress, what: str) -> None:
        self._documents = documents
        self._progress = progress
        self._what = what
        self.documents = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        task = self._progress.add_task(self._what, total=None)
        for document in self._documents():
            self.documents += 1
            size = len(document.encode("utf-8"))
            self.bytes += size
            self._progress.advance(task, size)
            yield document
        self._progress.remove_task(task)


def _write_tokens(path: Path, tokenizer: Tokenizer, documents: Counted) -> dict[str, int]:
    """Write ids as they come, then the number of them into the header, which has room for any."""
    kind = _kind(tokenizer)
    tokens = 0
    with path.open("wb") as file:
        _write_header(file, kind, 0)
        header = file.tell()
        for ids in tokenizer.encode_documents(documents):
            ids.astype(kind).tofile(file)
            tokens += len(ids)
        file.seek(0)
        _write_header(file, kind, tokens)
        assert file.tell() == header, "the header of a .npy file must not depend on the number of ids"
    return {"documents": documents.documents, "tokens": tokens, "bytes": documents.bytes}


def _kind(tokenizer: Tokenizer) -> np.dtype:
    """The type in which ids are stored."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)


def _write_header(file: io.BufferedIOBase, kind: np.dtype, tokens: int) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (tokens,)}
    np.lib.format.write_array_header_1_0(file, description)
