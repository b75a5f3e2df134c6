"""Small labelled data modules with the settings that a test does not care about."""

from pathlib import Path
from typing import Any

from lcsm.data.labelled.contours import ContourRule
from lcsm.data.labelled.documents import Aan, Imdb
from lcsm.data.labelled.listops import ListOps
from lcsm.data.labelled.pathfinder import Pathfinder

COMMON: dict[str, Any] = {
    "batch_size": 8,
    "num_workers": 0,
    "seed": 3,
    "cache_dir": None,
}
SMALL_IMAGES = ContourRule(32, 14, 4, 5, 2.0, 0.5, (1.0,), 1.0, 7.0, 1.5, 1.0)
LARGE_IMAGES = ContourRule(128, 14, 4, 8, 5.0, 1.5, (2.0, 3.0), 1.8, 20.0, 3.0, 1.0)


def make_listops(**settings: Any) -> ListOps:
    sizes = {"num_train": 40, "num_val": 21, "num_test": 10}
    shape = {"length": 60, "min_length": 5, "max_depth": 4, "max_arguments": 4}
    return ListOps(**(COMMON | {"root": None} | sizes | shape | settings))


def make_pathfinder(**settings: Any) -> Pathfinder:
    sizes = {"num_train": 20, "num_val": 6, "num_test": 6}
    rule = vars(SMALL_IMAGES) | {"gaps": [1.0]}
    return Pathfinder(**(COMMON | {"root": None} | sizes | rule | settings))


def make_imdb(folder: Path, **settings: Any) -> Imdb:
    """A module over a folder of two reviews of each kind and part, one of them long."""
    for part in ("train", "test"):
        for kind in ("pos", "neg"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            (folder / part / kind / "0_1.txt").write_text(f"{part} {kind}", encoding="utf-8")
            (folder / part / kind / "1_1.txt").write_text(kind * 20, encoding="utf-8")
    defaults = {"root": str(folder), "dataset": "none", "val_fraction": 0.25, "length": 32}
    return Imdb(**(COMMON | defaults | settings))


def make_aan(folder: Path, **settings: Any) -> Aan:
    """A module over three pairs of each split."""
    folder.mkdir(exist_ok=True)
    lines = ["1.0\ta\tb\tfirst text\tsecond, longer text", "0.0\tb\tc\tx\ty", "1\td\te\t" + "z" * 90 + "\tq"]
    for name in ("train", "eval", "test"):
        (folder / f"new_aan_pairs.{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Aan(**(COMMON | {"root": str(folder), "length": 64, "batch_size": 2} | settings))
