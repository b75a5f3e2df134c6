"""Local text, parquet and JSON files as documents; every fault names the file and the place in it."""

import codecs
import glob
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow
from pyarrow import parquet

from lcsm.data.corpus import line_pattern, require_characters, split_rows, split_text
from lcsm.data.paths import local_path, looking_at
from lcsm.errors import UsageError, first_line, shortened

log = logging.getLogger(__name__)

TABLES = (".parquet", ".json", ".jsonl")
# what is taken from a folder; a file that is named, or found by a pattern, may have any other suffix and is then text
FOLDER = (".txt", ".text", ".raw", ".tokens", ".md", ".rst", *TABLES)
LAYOUT = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}

BYTE_ORDER_MARK = "\ufeff"
# how files that gzip, zip, bzip2, xz and zstd packed begin
PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class FileReader:
    """Settings of the way from files to documents.

    Args:
        text_column: column of parquet and JSON files that holds the text.
        rows: `documents` or `lines`, what a row of a parquet or JSON file is.
        document_separator: regular expression; a document starts at each line in which it is found. None: a text file
            is one document.
        encoding: of text and JSON files, a Python codec name.
    Raises:
        UsageError: the expression or the encoding is not known.
    """

    text_column: str
    rows: Literal["documents", "lines"]
    document_separator: str | None
    encoding: str

    def __post_init__(self) -> None:
        line_pattern(self.document_separator)
        try:
            "".encode(self.encoding)
        # no codec, a name with a zero byte, or the codec `undefined`
        except (LookupError, ValueError) as error:
            raise UsageError(f"data.encoding={self.encoding!r} is unknown; use utf-8, utf-16, latin-1, ...") from error

    def documents(self, paths: Sequence[Path]) -> Iterator[str]:
        """Documents of all files in order.

        Raises:
            UsageError: a file cannot be read, or all are empty.
        """
        separator = line_pattern(self.document_separator)
        filled = documents = 0
        for path in paths:
            if path.stat().st_size == 0:
                log.warning("%s is empty and left out", path)
                continue
            filled += 1
            for document in self._file(path, separator):
                documents += 1
                yield document
        names = ", ".join(map(str, paths[:3]))
        if not filled:
            raise UsageError(f"{names}: file is empty; give files with text")
        if not documents:
            raise UsageError(f"{names}: no text; of tables, data.text_column={self.text_column!r} is read")

    def _file(self, path: Path, separator: re.Pattern[str] | None) -> Iterator[str]:
        if path.suffix in TABLES:
            rows = self._parquet_rows(path) if path.suffix == ".parquet" else self._json_rows(path)
            yield from split_rows(rows, self.rows, separator)
        elif text := self._text(path):
            yield from split_text(text, separator)

    def _text(self, path: Path) -> str:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        try:
            # a mark at the start of a UTF-8 file is no text; the UTF-16 codec takes its own away
            text = content.decode(self.encoding).removeprefix(BYTE_ORDER_MARK)
        except UnicodeDecodeError as error:
            place = f"byte {content[error.start]:#04x} at offset {error.start}"
            raise UsageError(f"{path} is not {self.encoding}: {place}; {_remedy(content)}") from error
        except UnicodeError as error:
            raise UsageError(f"{path} is not {self.encoding}: {first_line(error)}; set data.encoding") from error
        if codecs.lookup(self.encoding).name != "utf-8":
            # some codecs, such as utf-7, give what is no character
            require_characters(text, str(path))
        return text

    def _json_rows(self, path: Path) -> Iterator[str]:
        for place, value in _json_values(path, self._text(path)):
            if not isinstance(value, dict):
                raise UsageError(f"{place}: {type(value).__name__} instead of an object")
            if self.text_column not in value:
                raise UsageError(self._missing(place, list(value)))
            row = value[self.text_column]
            if row is not None and not isinstance(row, str):
                raise UsageError(f"{place}: {self.text_column!r} holds {shortened(row)}, which is no text")
            require_characters(row or "", f"{place}: {self.text_column!r}")
            yield row or ""

    def _parquet_rows(self, path: Path) -> Iterator[str]:
        number = 0
        try:
            table = parquet.ParquetFile(path)
            names = table.schema_arrow.names
            if self.text_column not in names:
                raise UsageError(self._missing(str(path), names))
            kind = table.schema_arrow.field(self.text_column).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise UsageError(f"{path}: column {self.text_column!r} holds {kind}, no text; set data.text_column")
            for batch in table.iter_batches(columns=[self.text_column]):
                for row in batch.column(0):
                    number += 1
                    yield row.as_py() or ""
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}, row {number}: {self.text_column!r} is not utf-8: byte {error.object[error.start]:#04x} at "
                f"offset {error.start};\nwrite the table again with texts in UTF-8"
            ) from error
        except (pyarrow.ArrowException, OSError) as error:
            raise UsageError(f"{path} is no readable parquet file: {first_line(error)}") from error

    def _missing(self, place: str, names: list[str]) -> str:
        return (
            f"{place}: no column data.text_column={self.text_column!r}; there is {', '.join(names) or 'none'};\n"
            "set data.text_column to the one with the text"
        )


def _remedy(content: bytes) -> str:
    """The message for a file that is no text in the encoding that was asked for."""
    if content.startswith(PACKED):
        return "it is compressed: unpack it first"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "set data.encoding to the file's own, such as data.encoding=utf-16"
    if b"\0" in content:
        return "it has zero bytes, as files that are no text have: leave it out"
    return "set data.encoding to the file's own, such as data.encoding=latin-1"


def _json_values(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Place and value of each row: of every line, or of the entries of a file that is one list or one object."""
    if text.lstrip().startswith("[") or _is_one_object(text):
        value = _parse(path, 1, text)
        for number, entry in enumerate(value if isinstance(value, list) else [value], 1):
            yield f"{path}, entry {number}", entry
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}, line {number}", _parse(path, number, line)


def _is_one_object(text: str) -> bool:
    """Whether a file is one object over several lines."""
    first, _, rest = text.lstrip().partition("\n")
    return first.startswith("{") and bool(rest) and not _is_json(first) and _is_json(text)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):
        # well formed, but beyond what can be read: said when it is read
        return True
    return True


def _parse(path: Path, first: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {first + error.lineno - 1}: broken JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}, line {first}: JSON beyond what can be read: {first_line(error)}") from error


def find_files(argument: str, files: str | Sequence[str]) -> list[Path]:
    """Files that paths, folders (searched in depth) and patterns such as `texts/**/*.txt` name, in order.

    Args:
        argument: name of the setting, for the error.
    Raises:
        UsageError: a name leads to no file.
    """
    found: list[Path] = []
    for name in [files] if isinstance(files, str) else files:
        path = local_path(argument, name)
        with looking_at(argument, name):
            found += [match for match in _matches(argument, name, path) if match not in found]
    if not found:
        raise UsageError(f"{argument}={files!r} names no file; give a path, a folder or a pattern")
    return found


def _matches(argument: str, name: str, path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        matches = sorted(item for item in path.rglob("*") if item.is_file() and item.suffix in FOLDER)
        if not matches:
            raise UsageError(
                f"{argument}={name} is a folder without a file that ends in {' '.join(FOLDER)};\n"
                "name the files, or give a pattern such as 'folder/**/*.py'"
            )
        return matches
    matches = [item for item in map(Path, sorted(glob.glob(str(path), recursive=True))) if item.is_file()]
    if not matches:
        raise UsageError(f"{argument}={name}: no such file, folder or pattern (looked from {Path.cwd()})")
    return matches


def find_layout(root: str) -> dict[str, list[Path]]:
    """Files of each split in a folder: `train.txt`, `valid.txt`, `test.txt`, or shards such as `train-00000.parquet`.

    Raises:
        UsageError: the folder, the training files or the validation files are missing.
    """
    folder = local_path("data.root", root)
    if not folder.is_dir():
        raise UsageError(f"data.root={root} is no folder (looked from {Path.cwd()}); {_EXPECTED}")
    with looking_at("data.root", root):
        present = sorted(item for item in folder.iterdir() if item.is_file() and item.suffix in FOLDER)
    by_name = [(item.name.split(".")[0].split("-")[0], item) for item in present]
    splits = {split: [item for name, item in by_name if name in names] for split, names in LAYOUT.items()}
    for split in ("train", "validation"):
        if not splits[split]:
            seen = ", ".join(item.name for item in sorted(folder.iterdir())[:8]) or "nothing"
            raise UsageError(f"data.root={root} has no {split} file; there is {seen};\n{_EXPECTED}")
    return {split: paths for split, paths in splits.items() if paths}


_EXPECTED = (
    "expected train.*, one of validation.* valid.* val.*, and if wanted test.*, or shards such as train-00000.parquet, "
    f"ending in {' '.join(FOLDER)};\nor name files with data.train_files and data.val_files"
)
