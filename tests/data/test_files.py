"""Local files: layouts, kinds, documents, and one line for every fault."""

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lcsm.data.corpus import assemble, line_pattern
from lcsm.data.files import FileReader, find_files, find_layout
from lcsm.data.labelled.hub import load_split
from lcsm.data.standard_library import StandardLibrary, library_files
from lcsm.errors import UsageError
from tests.data.helpers import TEXT, make_text


def read(path: Path, rows: str = "documents", separator: str | None = None, encoding: str = "utf-8") -> list[str]:
    return list(FileReader("text", rows, separator, encoding).documents([path]))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_parquet(path: Path, **columns: list[object]) -> Path:
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "b.json", "a.parquet"])
def test_tables_give_a_document_per_row(tmp_path: Path, name: str):
    rows = [{"text": "one"}, {"text": "tw\no"}, {"text": None}, {"text": ""}, {"text": "été"}]
    if name == "a.parquet":
        path = write_parquet(tmp_path / name, text=[row["text"] for row in rows])
    else:
        lines = "\n".join(map(json.dumps, rows)) + "\n\n"
        path = write(tmp_path / name, json.dumps(rows, indent=1) if name == "b.json" else lines)
    assert read(path) == ["one", "tw\no", "été"]


def test_rows_that_are_lines_are_joined_and_cut_at_titles(tmp_path: Path):
    rows = ["", " = A = \n", "text\n", " = = Part = = \n", "more", "", " = B = \n", "end"]
    path = write_parquet(tmp_path / "a.parquet", text=rows)
    documents = read(path, rows="lines", separator="^ = (?!=).+ = ?$")
    assert documents == ["\n = A = \ntext\n = = Part = = \nmore\n\n", " = B = \nend\n"]


def test_a_text_file_is_one_document_and_separators_lose_nothing(tmp_path: Path):
    text = "\n\na\r\nb\n\n\nc\x1cd\u2028e\n\nf"
    path = write(tmp_path / "a.txt", text)
    assert read(path) == [text]
    assert read(path, separator="^$") == ["\n\na\r\nb\n", "\n\nc\x1cd\u2028e\n", "\nf"]


def test_newlines_alone_are_one_document():
    assert list(assemble(["\n", "\n"], line_pattern("^$"))) == ["\n\n"]


def test_the_byte_order_mark_is_no_text(tmp_path: Path):
    assert read(write(tmp_path / "a.txt", b"\xef\xbb\xbfabc")) == ["abc"]
    assert read(write(tmp_path / "b.txt", "abc".encode("utf-16")), encoding="utf-16") == ["abc"]
    assert read(write(tmp_path / "c.jsonl", b'\xef\xbb\xbf{"text": "abc"}')) == ["abc"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("text é".encode("latin-1"), r"a.txt is not utf-8: byte 0xe9 at offset 5; .*data.encoding=latin-1"),
        ("text".encode("utf-16"), r"a.txt is not utf-8: byte 0xff at offset 0; .*data.encoding=utf-16"),
        (b"", "a.txt: file is empty"),
    ],
)
def test_a_file_that_is_no_text_is_named_with_the_offset(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path / "a.txt", content))


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"text": "a"}\n{"text": "b"\n', "a.jsonl, line 2: broken JSON"),
        ('{"text": "a"}\n{"body": "b", "id": 1}\n', "line 2: no column data.text_column='text'; there is body, id;"),
        ('{"text": "a"}\n{"text": 3}\n', "line 2: 'text' holds 3, which is no text"),
        ('{"text": "a"}\n"b"\n', "line 2: str instead of an object"),
        ('[{"text": "a"},\n{"text": "b"]', "a.jsonl, line 2: broken JSON"),
        (b'{"text": "\xe9"}', "not utf-8: byte 0xe9 at offset 10"),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str):
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path / "a.jsonl", content))


DEEP = '{"text": "a"}\n' + "[" * 100_000
LONG = f'{{"text": "a", "id": {"1" * 6000}}}'
SURROGATE = '{"text": "a"}\n\n{"text": "b\\ud800"}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SURROGATE, r"a.jsonl, line 3: 'text' is no text: \\ud800, half a character, at character 1;\nwrite it"),
        (DEEP, "a.jsonl, line 2: JSON beyond what can be read: .*recursion"),
        (LONG, "a.jsonl, line 1: JSON beyond what can be read: .*digits"),
        ('{"text": null}\n{"text": ""}', "a.jsonl: no text; of tables, data.text_column='text' is read"),
        ('{\n"body": 1\n}', r"a.jsonl, entry 1: no column data.text_column='text'; there is body"),
        ('{"text": [' + "1, " * 10_000 + "1]}", r"'text' holds \[1, 1, .*\.\.\. \(\d+ characters\), which is no text"),
    ],
)
def test_json_beyond_reading_is_one_message(tmp_path: Path, content: str, message: str):
    with pytest.raises(UsageError, match=message) as refused:
        read(write(tmp_path / "a.jsonl", content))
    assert len(str(refused.value).splitlines()) <= 3 and len(str(refused.value)) < 1000


def test_one_object_over_several_lines_is_one_row(tmp_path: Path):
    assert read(write(tmp_path / "a.json", json.dumps({"text": "one"}, indent=2))) == ["one"]
    with pytest.raises(UsageError, match=r"a.json, line 1: broken JSON"):
        read(write(tmp_path / "a.json", '{"text":\n{"text": "b"}\n'))


def test_a_parquet_text_that_is_no_utf8_is_named_with_its_row(tmp_path: Path):
    wrong = pyarrow.array([b"one", b"tw\xff"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": wrong}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a.parquet, row 2: 'text' is not utf-8: byte 0xff at offset 2"):
        read(tmp_path / "a.parquet")


def test_a_parquet_file_with_a_damaged_page_is_named(tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", text=[f"a text {i}" for i in range(1000)])
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a.parquet is no readable parquet file"):
        read(path)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (gzip.compress(b"text", mtime=0), "compressed: unpack it first"),
        (b"PK\x03\x04\xff\x00", "compressed: unpack it first"),
        (b"\x7fELF\x00\xff", "zero bytes, as files that are no text have: leave it out"),
    ],
)
def test_a_file_that_is_no_text_gets_no_advice_to_read_it_as_latin_1(tmp_path: Path, content: bytes, remedy: str):
    with pytest.raises(UsageError, match=remedy) as refused:
        read(write(tmp_path / "a.txt", content))
    assert "latin-1" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["undefined", "utf-99", "a\0b", "hex"])
def test_an_encoding_that_reads_no_text_is_refused(encoding: str):
    with pytest.raises(UsageError, match=r"data.encoding=.* is unknown"):
        FileReader("text", "documents", None, encoding)


def test_characters_that_only_a_codec_makes_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"a.txt is no text: \\ud800"):
        read(write(tmp_path / "a.txt", "\\ud800"), encoding="unicode_escape")
    with pytest.raises(UsageError, match=r"a.txt is not idna"):
        read(write(tmp_path / "a.txt", "xn--\u00e9."), encoding="idna")


@pytest.mark.parametrize("setting", ["data.train_files", "data.root", "data.dataset"])
@pytest.mark.parametrize(("name", "reason"), [("a" * 5000, "too long"), ("~nobody-here/a", "home")])
def test_a_path_that_the_system_does_not_take_is_one_message(setting: str, name: str, reason: str):
    look = {
        "data.train_files": lambda: find_files("data.train_files", name),
        "data.root": lambda: find_layout(name),
        "data.dataset": lambda: load_split(name, None, "train", ()),
    }
    with pytest.raises(UsageError, match=rf"{setting}={name[:9]}.*{reason}") as refused:
        look[setting]()
    assert len(str(refused.value)) < 1000


def test_a_folder_that_is_closed_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path / "a.txt", "x")
    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(UsageError, match=r"data.train_files=.* cannot be read: Permission denied"):
        find_files("data.train_files", str(tmp_path))


def test_broken_parquet_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"a.parquet is no readable parquet file"):
        read(write(tmp_path / "a.parquet", "nope"))
    with pytest.raises(UsageError, match=r"no column data.text_column='text'; there is body, id;"):
        read(write_parquet(tmp_path / "b.parquet", body=["a"], id=[1]))
    with pytest.raises(UsageError, match=r"column 'text' holds int64, no text"):
        read(write_parquet(tmp_path / "c.parquet", text=[1]))


def test_files_folders_and_patterns_are_found_in_order(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    names = ["b.txt", "a.jsonl", "deep/c.md", "code.py"]
    paths = {name: write(tmp_path / name, "x") for name in names}
    assert find_files("x", str(tmp_path)) == [paths["a.jsonl"], paths["b.txt"], paths["deep/c.md"]]
    assert find_files("x", [str(paths["code.py"]), str(tmp_path / "*.txt")]) == [paths["code.py"], paths["b.txt"]]
    assert find_files("x", str(tmp_path / "**/*.md")) == [paths["deep/c.md"]]


def test_names_without_files_are_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"data.train_files=nowhere.txt: no such file, folder or pattern"):
        find_files("data.train_files", "nowhere.txt")
    with pytest.raises(UsageError, match=r"is a folder without a file that ends in .txt"):
        find_files("data.train_files", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"data.train_files=\[\] names no file"):
        find_files("data.train_files", [])


def test_a_root_has_its_splits_by_name(tmp_path: Path):
    names = ["train-00000.parquet", "train-00001.parquet", "val.txt", "test.jsonl", "trained.txt", "README.md"]
    for name in names:
        write(tmp_path / name, "x")
    found = {split: [path.name for path in paths] for split, paths in find_layout(str(tmp_path)).items()}
    assert found == {"train": names[:2], "validation": ["val.txt"], "test": ["test.jsonl"]}


def test_a_root_without_the_layout_says_what_is_expected(tmp_path: Path):
    write(tmp_path / "train.txt", "x")
    with pytest.raises(
        UsageError, match=r"no validation file; there is train.txt;\nexpected train.\*, one of validation.\*"
    ):
        find_layout(str(tmp_path))
    with pytest.raises(UsageError, match=r"data.root=nowhere is no folder"):
        find_layout("nowhere")


def test_a_root_is_read_like_named_files(tmp_path: Path):
    named = make_text(tmp_path).describe()
    assert make_text(tmp_path, train_files=None, val_files=None, root=str(tmp_path)).describe() == named


def test_the_same_file_for_training_and_validation_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"train.txt is one of data.train_files and also"):
        make_text(tmp_path, val_files=str(tmp_path)).prepare()


@pytest.mark.parametrize("fraction", [0.0, 0.9, float("nan")])
def test_a_held_out_share_out_of_range_is_refused(tmp_path: Path, fraction: float):
    with pytest.raises(UsageError, match=rf"data.val_fraction={fraction} must be above 0"):
        make_text(tmp_path, valid=None, val_fraction=fraction).prepare()


def test_the_standard_library_holds_out_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = library_files()
    assert len(paths) > 100 and not any("test" in path.parts or "site-packages" in path.parts for path in paths)
    monkeypatch.setattr("lcsm.data.standard_library.library_files", lambda: paths[:40])
    module = StandardLibrary(
        length=32,
        batch_size=4,
        num_workers=0,
        seed=0,
        tokenizer="bytes",
        vocab_size=None,
        packing="documents",
        val_fraction=0.1,
        val_lengths=[1],
        max_val_tokens=None,
        cache_dir=str(tmp_path),
    )
    facts = module.describe()
    assert (facts["source"], facts["train_documents"], facts["validation_documents"]) == ("stdlib", 36, 4)
    assert facts["train_bytes"] + facts["validation_bytes"] == sum(path.stat().st_size for path in paths[:40])
    assert TEXT not in module.decode(module.encode("import os"))
