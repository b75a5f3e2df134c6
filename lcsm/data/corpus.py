"""A text corpus: documents per split, and a hash of everything that decides them."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from lcsm.errors import UsageError

# called anew for every pass over the documents
Documents = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """Documents of every split.

    Args:
        name: short name of the source, for logs.
        digest: SHA-256 over the contents and the options that cut them into documents, hexadecimal.
        splits: documents of `train` and `validation`, or of `test`.
    """

    name: str
    digest: str
    splits: dict[str, Documents]


def digest_of(options: dict[str, Any], parts: Iterable[bytes]) -> str:
    """SHA-256 of plain options and a sequence of byte strings, hexadecimal; the borders of the parts count."""
    total = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def file_digests(paths: Iterable[Path]) -> Iterator[bytes]:
    """The SHA-256 of each file's bytes."""
    for path in paths:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        yield digest.digest()


def require_characters(text: str, place: str) -> None:
    """Refuse a text that has no bytes in UTF-8.

    Args:
        place: what holds the text, for the error.
    Raises:
        UsageError: names the first character that is none.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        # Python hands over a byte of the command line that is no UTF-8 as one of these; the others are halves of a pair
        # of UTF-16, which JSON may escape, and which stand for nothing alone
        what = f"byte {code - 0xDC00:#04x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}, half a character,"
        raise UsageError(
            f"{place} is no text: {what} at character {error.start};\nwrite it in UTF-8, or leave it out"
        ) from error


def line_pattern(document_separator: str | None) -> re.Pattern[str] | None:
    """The compiled regular expression, or None.

    Raises:
        UsageError: it is no regular expression.
    """
    if document_separator is None:
        return None
    try:
        return re.compile(document_separator)
    except re.error as error:
        raise UsageError(f"data.document_separator={document_separator!r} is no regular expression: {error}") from error


def assemble(lines: Iterable[str], first_line: re.Pattern[str] | None) -> Iterator[str]:
    """Join lines to documents; a new document starts at each line in which the pattern is found.

    Nothing is removed. Blank lines alone make no document: they stay in front of the next one.
    """
    current: list[str] = []
    has_text = False
    for line in lines:
        if first_line is not None and has_text and first_line.search(line):
            yield "".join(current)
            current, has_text = [], False
        current.append(line)
        has_text = has_text or not line.isspace()
    if current:
        yield "".join(current)


def split_text(text: str, first_line: re.Pattern[str] | None) -> Iterator[str]:
    """Documents of one text: the whole, or parts that start at matching lines."""
    return iter([text]) if first_line is None else assemble(io.StringIO(text, newline="\n"), first_line)


def split_rows(rows: Iterable[str], meaning: str, first_line: re.Pattern[str] | None) -> Iterator[str]:
    """Documents of a table: each row is one (`documents`), or the rows are the lines of one text (`lines`)."""
    if meaning == "lines":
        yield from assemble((row if row.endswith("\n") else row + "\n" for row in rows), first_line)
        return
    for row in rows:
        if row:
            yield from split_text(row, first_line)


class HoldOut:
    """Train and validation documents out of one source: whole documents, or the tail of the text if there are few.

    Of n documents floor(n fraction) are held out, spread evenly: those with which that number grows. If these are fewer
    than two, the last part of the text is held out instead, cut at a line end.

    Args:
        documents: all of them.
        fraction: held-out share, 0 < fraction <= 0.5.
    Raises:
        UsageError: the fraction is out of range.
    """

    def __init__(self, documents: Documents, fraction: float) -> None:
        if not 0 < fraction <= 0.5:
            raise UsageError(f"data.val_fraction={fraction} must be above 0 and at most 0.5")
        self.documents = documents
        # the number as it is written: 0.29 means 29 of 100, which its binary form falls short of
        self.fraction = Fraction(str(fraction))

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """Documents and characters; counted only when the text is tokenised."""
        lengths = [len(document) for document in self.documents()]
        return len(lengths), sum(lengths)

    def train(self) -> Iterator[str]:
        return (document for is_held_out, document in self._labelled() if not is_held_out)

    def validation(self) -> Iterator[str]:
        return (document for is_held_out, document in self._labelled() if is_held_out)

    def _labelled(self) -> Iterator[tuple[bool, str]]:
        number, characters = self._sizes
        if self._held_out(number) >= 2:
            return ((self._held_out(i + 1) > self._held_out(i), text) for i, text in enumerate(self.documents()))
        return self._tail(int(characters * (1 - self.fraction)))

    def _held_out(self, number: int) -> int:
        """The number of first documents that are held out."""
        return number * self.fraction.numerator // self.fraction.denominator

    def _tail(self, border: int) -> Iterator[tuple[bool, str]]:
        start = 0
        for document in self.documents():
            place = border - start
            if 0 < place < len(document):
                line_end = document.find("\n", place) + 1
                place = line_end if 0 < line_end < len(document) else place
                yield False, document[:place]
                yield True, document[place:]
            else:
                yield place <= 0, document
            start += len(document)
