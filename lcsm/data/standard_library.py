"""The Python standard library's own sources, a text corpus that every installation has."""

import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from lcsm.data.corpus import Corpus, HoldOut, digest_of
from lcsm.data.settings import CachedLoading, flat
from lcsm.data.text import TextData, TextSettings

# tests are left out because some distributions ship without them, packages because they are not the library's
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "__phello__"}


class StandardLibrary(TextData):
    """The sources of the running Python's standard library, without tests; needs no network.

    Args:
        val_fraction: share of the files that is held out, whole files, 0 < fraction <= 0.5.
        text, loading: see `TextData`.
    """

    @flat
    def __init__(self, val_fraction: float, text: TextSettings, loading: CachedLoading) -> None:
        super().__init__(text, loading)
        self._val_fraction = val_fraction

    def load_corpus(self) -> Corpus:
        return library_corpus(self._val_fraction)


def library_files() -> list[Path]:
    """Python files of the running interpreter's standard library, sorted by their place in it."""
    root = Path(sysconfig.get_paths()["stdlib"])
    inside = (path for path in root.rglob("*.py") if not LEFT_OUT.intersection(path.relative_to(root).parts))
    # the files _sysconfigdata_* describe one build
    kept = (path for path in inside if not path.name.startswith("_sysconfigdata") and path.stat().st_size > 0)
    return sorted(kept, key=lambda path: path.relative_to(root).as_posix())


def read_sources(paths: list[Path]) -> Iterator[str]:
    """Texts of the files, each decoded as it declares itself."""
    for path in paths:
        with tokenize.open(path) as file:
            yield file.read()


def library_corpus(val_fraction: float) -> Corpus:
    """Each file is a document, whole files are held out; the contents differ between versions of Python."""
    paths = library_files()
    parts = HoldOut(lambda: read_sources(paths), val_fraction)
    digest = digest_of({"source": "stdlib", "val_fraction": val_fraction}, (path.read_bytes() for path in paths))
    return Corpus("stdlib", digest, {"train": parts.train, "validation": parts.validation})
