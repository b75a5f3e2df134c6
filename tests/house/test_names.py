"""Every class of the package has a name of its own, so that a search for it finds one thing."""

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "lcsm"


def classes(path: Path) -> list[str]:
    """Names of the classes that a file defines."""
    return [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]


def used_twice(package: Path) -> set[str]:
    """Class names that a package defines more than once."""
    counts = Counter(name for path in package.rglob("*.py") for name in classes(path))
    return {name for name, count in counts.items() if count > 1}


def test_no_two_classes_share_a_name():
    assert not used_twice(PACKAGE)
