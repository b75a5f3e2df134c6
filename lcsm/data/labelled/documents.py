"""Texts as bytes: IMDb reviews with their sentiment, and pairs of papers of the ACL Anthology Network."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lcsm.data.labelled.base import LabelledData
from lcsm.data.labelled.folders import file_facts, require_files, require_folder
from lcsm.data.labelled.hub import load_split
from lcsm.data.labelled.splits import Shares
from lcsm.data.labelled.store import LabelledSet, LabelledSource, StoredSequences, joined
from lcsm.data.settings import CachedLoading, flat, require_integer
from lcsm.errors import UsageError

# ids: padding, end, then the bytes
END, FIRST_BYTE = 1, 2
NUM_IDS = FIRST_BYTE + 256
REVIEWS = {"pos": 1, "neg": 0}
REVIEWS_EXPECTED = "train/pos, train/neg, test/pos and test/neg with *.txt: folder aclImdb of aclImdb_v1.tar.gz"


def encode(texts: list[str], length: int) -> StoredSequences:
    """Texts as ids, cut to `length` with their end."""
    rows = [np.frombuffer(text.encode()[: length - 1], dtype=np.uint8) for text in texts]
    pieces = [piece for row in rows for piece in (row.astype(np.uint16) + FIRST_BYTE, np.array([END], np.uint16))]
    return joined(np.concatenate(pieces), np.array([len(row) + 1 for row in rows]))


class Reviews(LabelledSource):
    """IMDb: 25,000 reviews for training and as many for the test.

    Args:
        root: folder `aclImdb`; None loads `dataset` from the hub.
        dataset: name on the hub.
        length: longest row.
        val_fraction: share of the training reviews that is held out.
    """

    name = "IMDb"
    dtype = np.uint16
    BLOCK = 500

    def __init__(self, root: str | None, dataset: str, length: int, val_fraction: float) -> None:
        self.dataset, self.length = dataset, length
        self.folder = None if root is None else require_folder(root, REVIEWS_EXPECTED)
        self.shares = Shares({"train": 1 - val_fraction, "validation": val_fraction})
        self.settings = {"length": length, "val_fraction": val_fraction}
        if self.folder is None:
            self.settings |= {"dataset": dataset}
        else:
            folders = [self.folder / part / kind for part in ("train", "test") for kind in REVIEWS]
            missing = [f"{path.parent.name}/{path.name}" for path in folders if not path.is_dir()]
            if missing:
                raise UsageError(f"data.root={root} lacks {', '.join(missing)};\nexpected {REVIEWS_EXPECTED}")
            self.settings |= file_facts(folders)

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        texts, labels = self.read("test" if split == "test" else "train")
        chosen = np.arange(len(texts)) if split == "test" else self.shares.indices(len(texts), split)
        for start in range(0, len(chosen), self.BLOCK):
            rows = chosen[start : start + self.BLOCK]
            yield LabelledSet((encode([texts[row] for row in rows], self.length),), np.array(labels)[rows])

    def read(self, part: str) -> tuple[list[str], list[int]]:
        """Texts and labels of the training or test reviews."""
        if self.folder is None:
            table = load_split(self.dataset, None, part, ("text", "label"))
            return list(table["text"]), list(table["label"])
        files = [(path, label) for kind, label in REVIEWS.items() for path in sorted(
            (self.folder / part / kind).glob("*.txt"))]  # fmt: skip
        return [read_text(path) for path, _ in files], [label for _, label in files]


def read_text(path: Path) -> str:
    """A UTF-8 file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}; is it a review of aclImdb?") from error


class PaperPairs(LabelledSource):
    """Pairs of papers, one of which may cite the other, from the files of the Long Range Arena's release.

    Args:
        root: folder `tsv_data` of lra_release.
        length: longest row.
    """

    name = "AAN"
    dtype = np.uint16
    documents = 2

    def __init__(self, root: str | None, length: int) -> None:
        files = {split: f"new_aan_pairs.{name}.tsv" for split, name in
                 (("train", "train"), ("validation", "eval"), ("test", "test"))}  # fmt: skip
        origin = "folder tsv_data of lra_release (long-range-arena)"
        if root is None:
            raise UsageError(f"data=aan needs data.root=<folder>, as no hub serves these data;\nit holds "
                             f"{', '.join(files.values())}: {origin}")  # fmt: skip
        self.paths, self.length = require_files(root, files, origin), length
        self.settings = {"length": length, **file_facts(self.paths.values())}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        path = self.paths[split]
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                fields = line.rstrip(b"\r\n").split(b"\t")
                if len(fields) != 5 or fields[0] not in (b"0", b"1", b"0.0", b"1.0"):
                    raise UsageError(
                        f"{path}, line {number}: expected label 0 or 1, two names and two texts, separated by tabs"
                    )
                first, second = (encode([text.decode("utf-8", "replace")], self.length) for text in fields[3:])
                yield LabelledSet((first, second), np.array([int(float(fields[0]))]))


class Imdb(LabelledData):
    """Text of the Long Range Arena: is a review positive? Bytes, cut to `length` with their end.

    Publications use characters that occur 15 times (135 ids). They train on all 25,000 reviews and choose the best
    epoch by the test reviews (`val_split: 0.0` in state-spaces/s4, `s5/train.py` in lindermanlab/S5); here a part of
    the training reviews is held out for that.

    Args:
        root: folder `aclImdb`; None loads `dataset`.
        dataset: name on the Hugging Face hub, with columns text and label.
        val_fraction: share of the training reviews held out for validation, 0 < fraction <= 0.5.
        length, loading: see `LabelledData`.
    """

    num_classes = 2
    num_tokens = NUM_IDS

    @flat
    def __init__(
        self, root: str | None, dataset: str, val_fraction: float, length: int, loading: CachedLoading
    ) -> None:
        require_integer("data.length", length, 2)
        super().__init__(length, loading)
        if not 0 < val_fraction <= 0.5:
            raise UsageError(f"data.val_fraction={val_fraction} must be above 0 and at most 0.5")
        self.root, self.dataset, self.val_fraction = root, dataset, val_fraction

    def source(self) -> LabelledSource:
        return Reviews(self.root, self.dataset, self.length, self.val_fraction)


class Aan(LabelledData):
    """Retrieval of the Long Range Arena: does one paper cite the other? Two texts as bytes, each cut to `length`.

    Publications use characters (98 ids).

    Args:
        root: folder `tsv_data` of lra_release.
        length, loading: see `LabelledData`.
    """

    num_classes = 2
    num_tokens = NUM_IDS
    targets = "pair"
    task = "matching"

    @flat
    def __init__(self, root: str | None, length: int, loading: CachedLoading) -> None:
        require_integer("data.length", length, 2)
        super().__init__(length, loading)
        self.root = root

    def source(self) -> LabelledSource:
        return PaperPairs(self.root, self.length)
