"""Data sets of the Hugging Face hub as documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import datasets

from lcsm.data.corpus import Corpus, Documents, HoldOut, digest_of, line_pattern, split_rows
from lcsm.data.paths import local_path
from lcsm.data.settings import CachedLoading, flat
from lcsm.data.text import TextData, TextSettings
from lcsm.errors import UsageError, first_line


@dataclass(frozen=True)
class HubSource:
    """A data set of the Hugging Face hub; it is downloaded once and then served from the hub's own cache.

    Args:
        dataset: name on the hub, such as "Salesforce/wikitext".
        subset: configuration of the data set, or None.
        revision: branch, tag or commit; None = newest.
        val_fraction: share of the training documents that is held out where there is no validation split,
            0 < fraction <= 0.5.
        text_column, rows, document_separator: see `lcsm.data.files.FileReader`.
    """

    dataset: str
    subset: str | None
    revision: str | None
    val_fraction: float
    text_column: str
    rows: Literal["documents", "lines"]
    document_separator: str | None

    def corpus(self, splits: dict[str, str | None]) -> Corpus:
        """Load the splits (the hub's own cache keeps them) and hash their texts.

        Args:
            splits: names in the data set of `train` and `validation`, None where it has none, or of `test`.
        Raises:
            UsageError: the hub cannot be reached, or a name is wrong.
        """
        first_line = line_pattern(self.document_separator)
        tables = {split: self._load(name) for split, name in splits.items() if name is not None}

        def documents(split: str) -> Documents:
            return lambda: split_rows(self._texts(tables[split]), self.rows, first_line)

        found = {split: documents(split) for split in tables}
        holds_out = "train" in found and "validation" not in found
        if holds_out:
            parts = HoldOut(found["train"], self.val_fraction)
            found |= {"train": parts.train, "validation": parts.validation}
        options = {
            "rows": self.rows,
            "document_separator": self.document_separator,
            "val_fraction": self.val_fraction if holds_out else None,
            "sizes": {split: len(table) for split, table in tables.items()},
        }
        texts = (text.encode() for table in tables.values() for text in self._texts(table))
        return Corpus(self.dataset, digest_of(options, texts), found)

    def _load(self, split: str) -> datasets.Dataset:
        dataset, column = self.dataset, self.text_column
        if local_path("data.dataset", dataset).exists():
            raise UsageError(
                f"data.dataset={dataset} is a local path; use data=text with data.root or data.train_files"
            )
        name = f"data.dataset={dataset}" + (f" data.subset={self.subset}" if self.subset else "")
        try:
            table = datasets.load_dataset(dataset, self.subset, split=split, revision=self.revision)
        except ConnectionError as error:
            raise UsageError(
                f"{name} cannot be reached ({first_line(error)}); is there a network? A local path? "
                "Use data=text data.root=<folder> or data.train_files=<files>"
            ) from error
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise UsageError(f"{name}, split {split}, cannot be loaded: {first_line(error)}") from error
        if column not in table.column_names:
            raise UsageError(
                f"{name} has no column data.text_column={column!r}; there is {', '.join(table.column_names)};\n"
                "set data.text_column to the one with the text"
            )
        kind: Any = table.features[column]
        if getattr(kind, "dtype", None) not in ("string", "large_string"):
            raise UsageError(f"{name}: column {column!r} holds {kind}, which is no text; set data.text_column")
        return table

    def _texts(self, table: datasets.Dataset) -> Iterator[str]:
        for batch in table.select_columns([self.text_column]).iter(batch_size=1000):
            for text in batch[self.text_column]:
                yield text or ""


class HubText(TextData):
    """Text of a data set of the Hugging Face hub.

    Args:
        train_split, val_split, test_split: names in the data set; None for `val_split` holds out `val_fraction` of the
            training documents.
        source: the data set.
        text, loading: see `TextData`.
    """

    @flat
    def __init__(
        self,
        train_split: str,
        val_split: str | None,
        test_split: str | None,
        source: HubSource,
        text: TextSettings,
        loading: CachedLoading,
    ) -> None:
        super().__init__(text, loading)
        self._source = source
        self._splits: dict[str, str | None] = {"train": train_split, "validation": val_split}
        self._test_split = test_split

    def load_corpus(self) -> Corpus:
        return self._source.corpus(self._splits)

    def load_test(self) -> Corpus:
        if self._test_split is None:
            raise UsageError("data.test_split=null: name the test split of the data set, or score split=val")
        return self._source.corpus({"test": self._test_split})
