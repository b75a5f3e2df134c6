"""Imports go one way, and the limits of the house hold."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lcsm"
# Each layer may import itself and the ones before it.
ORDER = [
    "errors",
    "shapes",
    "batch",
    "parameters",
    "structures",
    "ops",
    "stages",
    "mixers",
    "models",
    "inspection",
    "tasks",
    "training",
    "conversion",
    "commands",
]
# Layers that stand beside the order, with what they may import.
BESIDE = {
    "components": {"errors"},
    "data": {"errors", "batch", "data"},
    "config": {"errors", "components", "config"},
    "cli": {"errors", "config", "commands", "cli"},
    "__main__": {"cli"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "lcsm"
                else [node.module or ""]
            )
        found |= {name.split(".")[1] for name in names if name.startswith("lcsm.")}
    return found


def allowed(name: str) -> set[str]:
    if name in BESIDE:
        return BESIDE[name]
    before = set(ORDER[: ORDER.index(name) + 1]) | {"components"}
    return before | set(BESIDE) if name == "commands" else before


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path):
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return
    assert imported_layers(path) <= allowed(layer(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path):
    source = path.read_text()
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1})"
        for node in functions
        if node.end_lineno - node.lineno >= 60
    ]
    assert source.count("\n") <= 400
    assert not long


def test_one_file_knows_the_private_modules_of_hydra():
    assert [path.name for path in FILES if "hydra._internal" in path.read_text()] == ["hydra_private.py"]


def test_no_symbol_of_the_data_package_comes_from_the_core():
    assert all(imported_layers(path) <= {"errors", "batch", "data"} for path in FILES if layer(path) == "data")
