"""Text, JSON and parquet files of many broken kinds, and damaged caches of tokens."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from tests.faults.cases import EITHER, INVALID, ON_TEXT, PROSE, TEXT, VALID, Case

ROW = json.dumps({"text": "a text of some length. " * 10})
ROWS = "\n".join([ROW] * 20)


def table(column: Any, name: str = "text") -> bytes:
    """A parquet file with one column."""
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({name: column}), file)
    return file.getvalue()


def bytes_as_text() -> bytes:
    """A parquet file whose column of texts holds bytes that are no UTF-8."""
    rows = pyarrow.array([b"\xff\xfe bytes " * 50] * 20, pyarrow.binary())
    return table(pyarrow.Array.from_buffers(pyarrow.string(), len(rows), rows.buffers()))


# name -> what t.txt holds, what that leads to, what must not be said of it
TEXTS: dict[str, tuple[str | bytes, tuple[str, ...], str | None]] = {
    "empty": ("", INVALID, None),
    "one byte": ("a", INVALID, None),
    "newlines": ("\n" * 40, EITHER, None),
    "a few newlines": ("\n\n\n", INVALID, None),
    "spaces": (" " * 2000, VALID, None),
    "one long line": ("word " * 4000, VALID, None),
    "byte-order mark": (b"\xef\xbb\xbf" + PROSE.encode(), VALID, None),
    "carriage returns": (PROSE.replace("\n", "\r\n"), VALID, None),
    "zero bytes": (b"a\0b " * 1000, EITHER, None),
    "latin-1": (PROSE.encode("latin-1"), INVALID, None),
    "utf-16": (PROSE.encode("utf-16"), INVALID, "latin-1"),
    "utf-32": (PROSE.encode("utf-32"), INVALID, "latin-1"),
    "cut character": (PROSE.encode() + b"\xc3", INVALID, None),
    "surrogate in bytes": (PROSE.encode() + b"\xed\xa0\x80", INVALID, None),
    "compressed": (gzip.compress(PROSE.encode(), mtime=0), INVALID, "latin-1"),
    "program": (b"\x7fELF\x02\x01\x01\0" + bytes(range(256)) * 30, INVALID, "latin-1"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(255, -1, -1)) * 30, INVALID, "latin-1"),
}
# name -> what t.jsonl holds
LINES: dict[str, tuple[str | bytes, tuple[str, ...], str | None]] = {
    "rows": (ROWS, VALID, None),
    "a list": (f"[{','.join([ROW] * 20)}]", VALID, None),
    "broken line": (f"{ROWS}\n{{'text': 1}}", INVALID, None),
    "cut": (ROWS[:-5], INVALID, None),
    "no such column": (ROWS.replace('text":', 'txt":'), INVALID, None),
    "numbers": ("\n".join(['{"text": 3}'] * 50), INVALID, None),
    "nulls": ("\n".join(['{"text": null}'] * 50), INVALID, "below 0"),
    "lists": ("[1, 2]\n[3]\n", INVALID, None),
    "strings": ("\n".join(['"a"'] * 50), INVALID, None),
    "object over several lines": (json.dumps({"text": PROSE}, indent=2), EITHER, "broken JSON"),
    "half a surrogate": ("\n".join([r'{"text": "a\ud800b, and more of it"}'] * 50), EITHER, None),
    "deep nesting": ('{"text": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", INVALID, None),
    "long number": (f'{{"text": "a", "x": {"1" * 6000}}}\n' + ROWS, EITHER, None),
    "nan": ('{"text": NaN}\n' + ROWS, INVALID, None),
    "key twice": ('{"text": 1, "text": "a"}\n' + ROWS, EITHER, None),
    "latin-1": (json.dumps({"text": "Größe"}, ensure_ascii=False).encode("latin-1"), INVALID, None),
    "empty object": ("{}", INVALID, None),
    "byte-order mark": (b"\xef\xbb\xbf" + ROWS.encode(), VALID, None),
}
PARQUET: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "rows": (table([PROSE] * 3), VALID),
    "no rows": (table(pyarrow.array([], pyarrow.string())), INVALID),
    "numbers": (table([1, 2, 3]), INVALID),
    "nulls": (table(pyarrow.array([None] * 40, pyarrow.string())), INVALID),
    "no such column": (table([PROSE], "txt"), INVALID),
    "cut": (table([PROSE] * 3)[:-20], INVALID),
    "text": (PROSE.encode(), INVALID),
    "magic only": (b"PAR1" * 3, INVALID),
    "bytes that are no text": (bytes_as_text(), INVALID),
}
# settings that do not go with a good text
SETTINGS = (
    "data.encoding=undefined", "data.encoding=nothing", "data.encoding=base64", "data.encoding=idna",
    "data.train_files=" + "n" * 5000, "data.train_files=", "data.train_files=[]", "data.train_files=nothing*.txt",
    "data.train_files=/dev/null", "data.val_files=nothing.txt", "data.root=nothing", "data.root=.",
    "data.document_separator='('", "data.val_fraction=0", "data.val_fraction=0.9", "data.length=100000",
    "data.val_lengths=[]", "data.val_lengths=[0]", "data.val_lengths=[1000]", "data.tokenizer=words",
    "data.vocab_size=300", "data.packing=loose", "data.max_val_tokens=0", "data.cache_dir=t.txt", "data.rows=pages",
)  # fmt: skip
# what is done to a cache that a finished run left
Damage = Callable[[Path], Any]
DAMAGES: dict[str, tuple[str, Damage]] = {
    "empty facts": ("facts.json", lambda path: path.write_bytes(b"")),
    "cut facts": ("facts.json", lambda path: path.write_bytes(path.read_bytes()[:20])),
    "facts of 1e12 tokens": ("facts.json", lambda path: path.write_text(
        re.sub(r": \d+", ": 1000000000000", path.read_text()))),
    "no facts": ("facts.json", lambda path: path.unlink()),
    "empty tokenizer": ("tokenizer.json", lambda path: path.write_bytes(b"")),
    "cut tokenizer": ("tokenizer.json", lambda path: path.write_bytes(path.read_bytes()[:8])),
    "list as tokenizer": ("tokenizer.json", lambda path: path.write_text("[1]")),
    "empty tokens": ("train.npy", lambda path: path.write_bytes(b"")),
    "cut tokens": ("train.npy", lambda path: path.write_bytes(path.read_bytes()[:1000])),
    "no tokens": ("train.npy", lambda path: path.unlink()),
    "tokens beyond the vocabulary": ("train.npy", lambda path: np.save(path, np.load(path) + 60000)),
    "tokens of objects": ("train.npy", lambda path: np.save(path, np.array([{}] * 2000, dtype=object))),
    "tokens as fractions": ("validation.npy", lambda path: np.save(path, np.load(path).astype(float))),
    "tokens that are a folder": ("train.npy", lambda path: (path.unlink(), path.mkdir())),
}  # fmt: skip


def damaged(name: str, damage: Damage) -> Callable[[Path], None]:
    """Damages a file of the cache, and keeps what it held."""

    def change(work: Path) -> None:
        (path,) = (work / "cache/tokens").glob(f"*/{name}")
        (work / "before").write_bytes(path.read_bytes())
        damage(path)

    return change


def whole(name: str) -> Callable[[Path], str]:
    """Looks whether a command that went on has mended the cache; whoever refuses need not."""

    def check(work: Path) -> str:
        if not list(work.glob("again/*/checkpoints/last.ckpt")) and not (work / "again/checkpoints/last.ckpt").exists():
            return ""
        same = [path.is_file() and path.read_bytes() == (work / "before").read_bytes()
                for path in (work / "cache/tokens").glob(f"*/{name}")]  # fmt: skip
        return "" if same == [True] else f"trained on a damaged {name}"

    return check


def cases() -> list[Case]:
    """All of them."""
    found = [
        Case(f"text: {name}", TEXT, expected, {"t.txt": content}, never=never)
        for name, (content, expected, never) in TEXTS.items()
    ]
    lines = (*ON_TEXT, "data.train_files=t.jsonl")
    found += [
        Case(f"JSON: {name}", lines, expected, {"t.jsonl": content}, never=never)
        for name, (content, expected, never) in LINES.items()
    ]
    tables = (*ON_TEXT, "data.train_files=t.parquet")
    found += [
        Case(f"parquet: {name}", tables, expected, {"t.parquet": content})
        for name, (content, expected) in PARQUET.items()
    ]
    found += [Case(f"text, {word[:50]}", (*TEXT, word), INVALID, {"t.txt": PROSE}) for word in SETTINGS]
    again = (*TEXT, "hydra.run.dir=again")
    found += [
        Case(f"token cache: {name}", again, EITHER, asset="text", change=damaged(file, damage), check=whole(file))
        for name, (file, damage) in DAMAGES.items()
    ]
    found += [
        Case("text files by a pattern", (*ON_TEXT, "data.train_files='**/*.txt'"), VALID, {"a/b.txt": PROSE}),
        Case("folder without a text", (*ON_TEXT, "data.train_files=a"), INVALID, {"a/b.bin": "x"}),
        Case("text that may not be read", TEXT, INVALID, {"t.txt": PROSE}, change=closed,
             conditions=(("without_rights",),)),
    ]  # fmt: skip
    return found


def closed(work: Path) -> None:
    """Nobody may read the text."""
    (work / "t.txt").chmod(0)
