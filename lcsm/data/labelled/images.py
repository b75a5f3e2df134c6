"""Small images as sequences of grey values: CIFAR-10 and the handwritten digits of scikit-learn."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lcsm.data.labelled.base import LabelledData
from lcsm.data.labelled.folders import file_facts, require_folder
from lcsm.data.labelled.hub import load_split
from lcsm.data.labelled.splits import Shares
from lcsm.data.labelled.store import LabelledSet, LabelledSource, as_rows
from lcsm.data.settings import CachedLoading, flat
from lcsm.errors import UsageError

PIXELS, COLOURED = 32 * 32, 3 * 32 * 32
TRAINING_FILES = [f"data_batch_{number}" for number in range(1, 6)]
CIFAR_EXPECTED = (
    "data_batch_1 to data_batch_5 and test_batch (cifar-10-python.tar.gz), "
    "or the same with .bin (cifar-10-binary.tar.gz)"
)
BLOCK = 1000


def grey(colours: np.ndarray) -> np.ndarray:
    """Luma of colours [images 3 pixels] in integers, as PIL converts to "L", uint8 [images pixels]."""
    weights = np.array([19595, 38470, 7471], dtype=np.int64)
    return ((np.einsum("icp,c->ip", colours.astype(np.int64), weights) + (1 << 15)) >> 16).astype(np.uint8)


def latin(text: str, encoding: str) -> bytes:
    """The bytes that newer pickles in an old format write as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes to {encoding}")
    return text.encode("latin1")


class ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of arrays, and refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.zeros(1).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return latin
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class Cifar(LabelledSource):
    """CIFAR-10 in grey, 45,000 images for training, 5,000 for validation and 10,000 for the test.

    Args:
        root: folder with the files of the original archive, in either format; None loads `dataset` from the hub.
        dataset: name on the hub, with columns img and label.
    """

    name = "CIFAR-10"
    dtype = np.uint8

    def __init__(self, root: str | None, dataset: str) -> None:
        self.dataset, self.paths = dataset, None if root is None else find_cifar(root)
        self.shares = Shares({"train": 0.9, "validation": 0.1})
        self.settings = {"dataset": dataset}
        if self.paths is not None:
            self.settings = file_facts([*self.paths["train"], *self.paths["test"]])

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        images, labels = self.read("test" if split == "test" else "train")
        chosen = np.arange(len(images)) if split == "test" else self.shares.indices(len(images), split)
        for start in range(0, len(chosen), BLOCK):
            rows = chosen[start : start + BLOCK]
            yield as_rows(images[rows], labels[rows])

    def read(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Grey images, uint8 [images 1024], and labels of the training or test part."""
        if self.paths is None:
            table = load_split(self.dataset, None, part, ("img", "label"))
            return np.stack([np.asarray(image.convert("L")).ravel() for image in table["img"]]), np.array(
                table["label"]
            )
        parts = [read_cifar(path) for path in self.paths[part]]
        return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def find_cifar(root: str) -> dict[str, list[Path]]:
    """Files of the training and the test part, in the format that is there."""
    folder = require_folder(root, CIFAR_EXPECTED)
    for below in ("", "cifar-10-batches-py", "cifar-10-batches-bin"):
        for suffix in ("", ".bin"):
            train = [folder / below / f"{name}{suffix}" for name in TRAINING_FILES]
            test = [folder / below / f"test_batch{suffix}"]
            if all(path.is_file() for path in (*train, *test)):
                return {"train": train, "test": test}
    raise UsageError(f"data.root={root} lacks the files of CIFAR-10;\nexpected {CIFAR_EXPECTED}")


def read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Grey images and labels of one file."""
    content = path.read_bytes()
    if path.suffix == ".bin":
        if not content or len(content) % (COLOURED + 1):
            raise UsageError(f"{path} has {len(content)} bytes, which is no number of images of {COLOURED + 1} bytes")
        rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, COLOURED + 1)
        colours, labels = rows[:, 1:], rows[:, 0].astype(np.int64)
    else:
        try:
            table = ArraysOnly(io.BytesIO(content), encoding="bytes").load()
            colours, labels = np.asarray(table[b"data"]), np.asarray(table[b"labels"], dtype=np.int64)
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} is no batch of CIFAR-10: {error}") from error
    if colours.ndim != 2 or colours.shape[1] != COLOURED or colours.shape[0] != len(labels):
        raise UsageError(f"{path} holds an array of {colours.shape} instead of [images {COLOURED}]")
    return grey(colours.reshape(-1, 3, PIXELS)), labels


class DigitImages(LabelledSource):
    """The 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn, split 80 : 10 : 10."""

    name = "digits"
    dtype = np.uint8

    def __init__(self) -> None:
        self.shares = Shares({"train": 0.8, "validation": 0.1, "test": 0.1})
        self.settings = {}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise UsageError(
                "data=digits needs scikit-learn: pip install -c constraints.txt -e '.[digits]', or use data=listops"
            ) from error
        digits = load_digits()
        chosen = self.shares.indices(len(digits.target), split)
        yield as_rows(digits.data[chosen].astype(np.uint8), digits.target[chosen].astype(np.int64))


class Cifar10Grey(LabelledData):
    """Image of the Long Range Arena: CIFAR-10 in grey as a sequence of 1,024 values.

    Args:
        root: folder with the files of the original archive; None loads `dataset`.
        dataset: name on the Hugging Face hub, with columns img and label.
        loading: see `LabelledData`.
    """

    num_classes = 10
    num_features = 1
    # of all training images
    scale = (122.6, 61.0)

    @flat
    def __init__(self, root: str | None, dataset: str, loading: CachedLoading) -> None:
        super().__init__(PIXELS, loading)
        self.root, self.dataset = root, dataset

    def source(self) -> LabelledSource:
        return Cifar(self.root, self.dataset)


class Digits(LabelledData):
    """Handwritten digits as sequences of 64 grey values: a task that needs no download and learns in a minute.

    Args:
        loading: see `LabelledData`.
    """

    num_classes = 10
    num_features = 1
    # values 0 to 16; mean and deviation of all images
    scale = (4.884, 6.017)

    @flat
    def __init__(self, loading: CachedLoading) -> None:
        super().__init__(64, loading)

    def source(self) -> LabelledSource:
        return DigitImages()
