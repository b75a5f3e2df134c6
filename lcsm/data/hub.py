"""Data sets of the Hugging Face hub as documents."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import datasets

from lcsm.data.corpus import Corpus, Documents, HoldOut, digest_of, line_pattern, require_rows, split_rows
from lcsm.data.paths import local_path
from lcsm.data.text import TextData
from lcsm.errors import UsageError, first_line


class HubText(TextData):
    """A data set of the Hugging Face hub; it is downloaded once and then served from the hub's own cache.

    Args:
        dataset: name on the hub, such as "Salesforce/wikitext".
        subset: configuration of the data set, or None.
        revision: branch, tag or commit; None = newest.
        train_split, val_split, test_split: names in the data set; None for `val_split` holds out `val_fraction` of the
            training documents.
        val_fraction: that share, 0 < fraction <= 0.5.
        text_column, rows, document_separator: see `lcsm.data.files.FileReader`.
        others: see `TextData`.
    """

    def __init__(
        self,
        *,
        dataset: str,
        subset: str | None,
        revision: str | None,
        train_split: str,
        val_split: str | None,
        test_split: str | None,
        val_fraction: float,
        text_column: str,
        rows: Literal["documents", "lines"],
        document_separator: str | None,
        length: int,
        batch_size: int,
        num_workers: int,
        seed: int,
        tokenizer: Literal["bytes", "bpe"],
        vocab_size: int | None,
        packing: Literal["stream", "documents"],
        val_lengths: Sequence[int],
        max_val_tokens: int | None,
        cache_dir: str | None,
    ) -> None:
        super().__init__(
            length=length,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            packing=packing,
            val_lengths=val_lengths,
            max_val_tokens=max_val_tokens,
            cache_dir=cache_dir,
        )
        self._options: dict[str, Any] = {
            "dataset": dataset,
            "subset": subset,
            "revision": revision,
            "val_fraction": val_fraction,
            "text_column": text_column,
            "rows": rows,
            "document_separator": document_separator,
        }
        self._splits = {"train": train_split, "validation": val_split}
        self._test_split = test_split

    def load_corpus(self) -> Corpus:
        return hub_corpus(**self._options, splits=self._splits)

    def load_test(self) -> Corpus:
        if self._test_split is None:
            raise UsageError("data.test_split=null: name the test split of the data set, or score split=val")
        return hub_corpus(**self._options, splits={"test": self._test_split})


def hub_corpus(
    *,
    dataset: str,
    subset: str | None,
    revision: str | None,
    splits: dict[str, str | None],
    val_fraction: float,
    text_column: str,
    rows: str,
    document_separator: str | None,
) -> Corpus:
    """Load the splits (the hub's own cache keeps them) and hash their texts.

    Args:
        dataset: name on the hub, such as "Salesforce/wikitext".
        subset: configuration of the data set, or None.
        revision: branch, tag or commit, or None for the newest.
        splits: names in the data set of `train` and `validation`, None where it has none, or of `test`. Without a
            validation split a part of the training documents is held out.
        val_fraction: that part.
        text_column, rows, document_separator: see `lcsm.data.files.FileReader`.
    Raises:
        UsageError: the hub cannot be reached, or a name is wrong.
    """
    require_rows(rows)
    first_line = line_pattern(document_separator)
    named = {split: name for split, name in splits.items() if name is not None}
    tables = {split: _load(dataset, subset, revision, name, text_column) for split, name in named.items()}

    def documents(split: str) -> Documents:
        return lambda: split_rows(_texts(tables[split], text_column), rows, first_line)

    found = {split: documents(split) for split in tables}
    holds_out = "train" in found and "validation" not in found
    if holds_out:
        parts = HoldOut(found["train"], val_fraction)
        found |= {"train": parts.train, "validation": parts.validation}
    options = {
        "rows": rows,
        "document_separator": document_separator,
        "val_fraction": val_fraction if holds_out else None,
        "sizes": {split: len(table) for split, table in tables.items()},
    }
    texts = (text.encode() for table in tables.values() for text in _texts(table, text_column))
    return Corpus(dataset, digest_of(options, texts), found)


def _load(dataset: str, subset: str | None, revision: str | None, split: str, text_column: str) -> datasets.Dataset:
    if local_path("data.dataset", dataset).exists():
        raise UsageError(f"data.dataset={dataset} is a local path; use data=text with data.root or data.train_files")
    name = f"data.dataset={dataset}" + (f" data.subset={subset}" if subset else "")
    try:
        table = datasets.load_dataset(dataset, subset, split=split, revision=revision)
    except ConnectionError as error:
        raise UsageError(
            f"{name} cannot be reached ({first_line(error)}); is there a network? A local path? "
            "Use data=text data.root=<folder> or data.train_files=<files>"
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{name}, split {split}, cannot be loaded: {first_line(error)}") from error
    if text_column not in table.column_names:
        raise UsageError(
            f"{name} has no column data.text_column={text_column!r}; there is {', '.join(table.column_names)};\n"
            "set data.text_column to the one with the text"
        )
    kind: Any = table.features[text_column]
    if getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise UsageError(f"{name}: column {text_column!r} holds {kind}, which is no text; set data.text_column")
    return table


def _texts(table: datasets.Dataset, text_column: str) -> Iterator[str]:
    for batch in table.select_columns([text_column]).iter(batch_size=1000):
        for text in batch[text_column]:
            yield text or ""
