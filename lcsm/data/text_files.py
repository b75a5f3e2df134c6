"""Language modelling on local files."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lcsm.data.corpus import Corpus, Documents, HoldOut, digest_of, file_digests
from lcsm.data.files import FileReader, find_files, find_layout
from lcsm.data.settings import CachedLoading, flat
from lcsm.data.text import TextData, TextSettings
from lcsm.errors import UsageError

log = logging.getLogger(__name__)


class TextFiles(TextData):
    """Local text, parquet and JSON files.

    Args:
        root: folder with `train.*`, `valid.*` and, if wanted, `test.*`; None if files are named.
        train_files, val_files, test_files: paths, folders or patterns, one or a list; None for `val_files` holds out
            `val_fraction` of the training documents, or the tail of the text if there are few documents.
        val_fraction: that share, 0 < fraction <= 0.5.
        reader: how files become documents.
        text, loading: see `TextData`.
    """

    @flat
    def __init__(
        self,
        root: str | None,
        train_files: str | Sequence[str] | None,
        val_files: str | Sequence[str] | None,
        test_files: str | Sequence[str] | None,
        val_fraction: float,
        reader: FileReader,
        text: TextSettings,
        loading: CachedLoading,
    ) -> None:
        super().__init__(text, loading)
        self._reader = reader
        self._root = root
        self._files = {
            "train": ("data.train_files", train_files),
            "validation": ("data.val_files", val_files),
            "test": ("data.test_files", test_files),
        }
        self._val_fraction = val_fraction
        # why the test files are not found, which stops only those who score them
        self._no_test: UsageError | None = None
        if (root is None) == (train_files is None):
            raise UsageError(
                f"data.root={root} and data.train_files={train_files}: give one of them;\n"
                "data.root=<folder with train.* and valid.*>, or data.train_files=<files> and maybe data.val_files"
            )
        for name, files in self._files.values():
            if files == "" or (files is not None and not isinstance(files, str) and "" in files):
                raise UsageError(f"{name}={files!r} names no file: give a path, or leave {name} out")
        if root is not None and (val_files is not None or test_files is not None):
            raise UsageError(
                f"data.root={root} already has the other splits; use data.train_files to name files yourself"
            )
        # a missing file is found when the run is planned, not when its text is read
        self._paths()

    def load_corpus(self) -> Corpus:
        paths = self._paths()
        paths.pop("test", None)
        if self._no_test is not None:
            log.warning("%s; only lcsm evaluate split=test reads it", self._no_test)
        return self._corpus_of(paths)

    def load_test(self) -> Corpus:
        paths = self._paths()
        if self._no_test is not None:
            raise self._no_test
        if "test" not in paths:
            way = "name its files with data.test_files=..." if self._root is None else f"put test.* into {self._root}"
            raise UsageError(f"this text has no test split: {way}, or score split=val")
        return self._corpus_of({"test": paths["test"]})

    def _corpus_of(self, paths: dict[str, list[Path]]) -> Corpus:
        reader = self._reader
        splits: dict[str, Documents] = {split: partial(reader.documents, files) for split, files in paths.items()}
        every_file = [path for files in paths.values() for path in files]
        holds_out = "train" in splits and "validation" not in splits
        options = {
            "reader": vars(reader),
            "sizes": {split: len(files) for split, files in paths.items()},
            # the ending decides how a file is read
            "endings": [path.suffix for path in every_file],
            "val_fraction": self._val_fraction if holds_out else None,
        }
        if holds_out:
            parts = HoldOut(splits["train"], self._val_fraction)
            splits |= {"train": parts.train, "validation": parts.validation}
        return Corpus("files", digest_of(options, file_digests(every_file)), splits)

    def _paths(self) -> dict[str, list[Path]]:
        if self._root is not None:
            return find_layout(self._root)
        paths, self._no_test = {}, None
        for split, (argument, files) in self._files.items():
            try:
                if files is not None:
                    paths[split] = find_files(argument, files)
            except UsageError as error:
                if split != "test":
                    raise
                self._no_test = error
        held_out = {path.resolve() for split in ("validation", "test") for path in paths.get(split, [])}
        for path in paths["train"]:
            if path.resolve() in held_out:
                raise UsageError(f"{path} is one of data.train_files and also a validation or test file; name it once")
        return paths
