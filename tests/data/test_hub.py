"""Data sets by name: what is asked of the library, and what is said when it fails. No network is used."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from lcsm.data.hub import HubText
from lcsm.data.sampling import Shard
from lcsm.errors import UsageError

ROWS = {
    "train": [" = A = \n", "first article\n" * 9, "", " = B = \n", "second article\n" * 9],
    "validation": [" = C = \n", "third article\n" * 9],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Serve ROWS in place of the hub and record the requests."""
    requests: list[tuple[Any, ...]] = []

    def load(name: str, subset: str | None, split: str, revision: str | None) -> datasets.Dataset:
        requests.append((name, subset, split, revision))
        return datasets.Dataset.from_dict({"text": ROWS[split], "number": list(range(len(ROWS[split])))})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return requests


def make_hub(folder: Path, **settings: Any) -> HubText:
    defaults: dict[str, Any] = {
        "dataset": "owner/name",
        "subset": "raw",
        "revision": "v1",
        "train_split": "train",
        "val_split": "validation",
        "test_split": None,
        "val_fraction": 0.5,
        "text_column": "text",
        "rows": "lines",
        "document_separator": "^ = (?!=).+ = ?$",
        "length": 8,
        "batch_size": 2,
        "num_workers": 0,
        "seed": 0,
        "tokenizer": "bytes",
        "vocab_size": None,
        "packing": "documents",
        "val_lengths": [1],
        "max_val_tokens": None,
        "cache_dir": str(folder),
    }
    return HubText(**(defaults | settings))


def test_splits_are_loaded_by_name_and_cut_into_articles(tmp_path: Path, asked: list[tuple[Any, ...]]):
    facts = make_hub(tmp_path).describe()
    assert asked == [("owner/name", "raw", "train", "v1"), ("owner/name", "raw", "validation", "v1")]
    assert (facts["train_documents"], facts["validation_documents"], facts["source"]) == (2, 1, "owner/name")
    assert facts["train_bytes"] == len("".join(ROWS["train"])) + 1


def test_without_a_validation_split_a_part_is_held_out(tmp_path: Path, asked: list[tuple[Any, ...]]):
    module = make_hub(tmp_path, val_split=None, rows="documents", document_separator=None)
    facts = module.describe()
    assert [request[2] for request in asked] == ["train"]
    assert (facts["train_documents"], facts["validation_documents"]) == (2, 2)


def test_the_test_split_is_loaded_only_to_be_scored(tmp_path: Path, asked: list[tuple[Any, ...]]):
    module = make_hub(tmp_path, test_split="train")
    module.prepare()
    assert [request[2] for request in asked] == ["train", "validation"]
    module.scored_split = "test"
    assert module.val_names == ["1x"] and [request[2] for request in asked[2:]] == ["train"]


def test_a_data_set_whose_test_split_has_no_name_says_so(tmp_path: Path, asked: list[tuple[Any, ...]]):
    with pytest.raises(UsageError, match=r"data.test_split=null: name the test split"):
        make_hub(tmp_path).evaluation_batches("test", Shard())


def test_the_hash_follows_the_contents(tmp_path: Path, asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch):
    hashes = [make_hub(tmp_path).describe()["corpus_sha256"] for _ in range(2)]
    monkeypatch.setitem(ROWS, "validation", [" = D = \n", "another article\n" * 9])
    hashes.append(make_hub(tmp_path).describe()["corpus_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_missing_or_unfit_column_is_named(tmp_path: Path, asked: list[tuple[Any, ...]]):
    with pytest.raises(UsageError, match=r"no column data.text_column='body'; there is text, number"):
        make_hub(tmp_path, text_column="body").prepare()
    with pytest.raises(UsageError, match=r"column 'number' holds .*int64.*no text"):
        make_hub(tmp_path, text_column="number").prepare()


@pytest.mark.parametrize(
    "fault, message",
    [
        (
            ConnectionError("Couldn't reach 'owner/name' on the Hub\nmore"),
            "cannot be reached .*on the Hub\\).*local path",
        ),
        (ValueError("Unknown split 'x'. Should be one of"), "split train, cannot be loaded: Unknown split"),
        (datasets.exceptions.DatasetNotFoundError("doesn't exist"), "cannot be loaded: doesn't exist"),
        (RuntimeError("Dataset scripts are no longer supported"), "scripts are no longer supported"),
    ],
)
def test_faults_of_the_hub_become_one_line(tmp_path: Path, monkeypatch, fault: Exception, message: str):
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UsageError, match=rf"data.dataset=owner/name data.subset=raw.*{message}") as caught:
        make_hub(tmp_path).prepare()
    assert "\n" not in str(caught.value)


def test_a_local_path_is_sent_to_the_right_option(tmp_path: Path):
    with pytest.raises(UsageError, match=r"is a local path; use data=text"):
        make_hub(tmp_path, dataset=str(tmp_path)).prepare()
