"""Pathfinder and Path-X: contour images as sequences of grey values, generated or read from the released files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from lcsm.data.labelled.contours import ContourRule
from lcsm.data.labelled.folders import file_facts, require_folder
from lcsm.data.labelled.generated import GeneratedLabels, SplitSizes
from lcsm.data.labelled.splits import Shares
from lcsm.data.labelled.store import LabelledSet, LabelledSource, as_rows
from lcsm.data.settings import CachedLoading, flat
from lcsm.errors import UsageError

BLOCK = 256
# the released subset that is used in publications
LEVEL = "curv_contour_length_14"
EXPECTED = (
    f"{LEVEL}/metadata/*.npy and {LEVEL}/imgs/*/*.png: "
    "folder pathfinder32 or pathfinder128 of lra_release (long-range-arena)"
)


class ReleasedContours(LabelledSource):
    """The images of the Long Range Arena's release, split 80 : 10 : 10.

    Args:
        root: folder `pathfinder32` or `pathfinder128` of lra_release.
        resolution: height and width that the images must have.
    """

    name = "Pathfinder files"
    dtype = np.uint8

    def __init__(self, root: str, resolution: int) -> None:
        self.folder, self.resolution = require_folder(root, EXPECTED), resolution
        lists = (self.folder / LEVEL / "metadata").glob("*.npy")
        self.lists = sorted(lists, key=lambda path: (len(path.stem), path.stem))
        if not self.lists:
            raise UsageError(f"data.root={root} lacks {LEVEL}/metadata/*.npy;\nexpected {EXPECTED}")
        self.shares = Shares({"train": 0.8, "validation": 0.1, "test": 0.1})
        self.settings = {"resolution": resolution, **file_facts(self.lists)}

    def blocks(self, split: str) -> Iterator[LabelledSet]:
        samples = [sample for path in self.lists for sample in self.samples(path)]
        chosen = self.shares.indices(len(samples), split)
        for start in range(0, len(chosen), BLOCK):
            part = [samples[index] for index in chosen[start : start + BLOCK]]
            yield as_rows(np.stack([self.image(path) for path, _ in part]), np.array([label for _, label in part]))

    def samples(self, path: Path) -> list[tuple[Path, int]]:
        """Images and labels of one list; the lists are texts in spite of their names."""
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            words = line.split()
            if len(words) < 4 or words[3] not in ("0", "1"):
                raise UsageError(f"{path}, line {number}: expected folder, file, number and label 0 or 1")
            found.append((self.folder / LEVEL / words[0] / words[1], int(words[3])))
        return found

    def image(self, path: Path) -> np.ndarray:
        """Grey values, uint8 [R R]."""
        try:
            with Image.open(path) as file:
                grey = np.asarray(file.convert("L"))
        except (OSError, UnidentifiedImageError) as error:
            raise UsageError(f"{path} is missing or no readable image: {error}") from error
        if grey.shape != (self.resolution, self.resolution):
            raise UsageError(
                f"{path} has {grey.shape[0]} x {grey.shape[1]} pixels, but data.resolution={self.resolution}"
            )
        return grey


class Pathfinder(GeneratedLabels):
    """Pathfinder of the Long Range Arena as a sequence of grey values from -1 to 1; Path-X at resolution 128.

    Args:
        root: folder with the released files; None generates images by `ContourRule`.
        rule: how images are made; the length is the square of their resolution.
        sizes: generated images.
        loading: see `LabelledData`; its workers also draw the images.
    Raises:
        UsageError: a value is out of range, or files are missing.
    """

    num_classes = 2
    num_features = 1
    # values v / 255 less 1/2, over 1/2
    scale = (127.5, 127.5)

    @flat
    def __init__(
        self,
        root: str | None,
        rule: ContourRule,
        sizes: SplitSizes,
        loading: CachedLoading,
    ) -> None:
        super().__init__(rule.resolution**2, root, rule, sizes, loading)
        self.resolution = rule.resolution

    def released(self, root: str) -> LabelledSource:
        return ReleasedContours(root, self.resolution)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"resolution": self.resolution}
