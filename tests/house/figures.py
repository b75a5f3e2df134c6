"""Figures of the house: how simple the heart is, how flat the configuration, how plain the names."""

import ast
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from lcsm.config.schemas import MIXER_GROUPS
from lcsm.config.shipped import load
from lcsm.mixers.eos import EosMixer
from tests.compose import CONF, options

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lcsm"
# what chooses among lines or repeats them; a value or None at the end of a line does not
BRANCHES = (ast.If, ast.For, ast.While, ast.Match, ast.Try)


@dataclass(frozen=True)
class Figure:
    """A count with the most that it may be.

    Args:
        name: what is counted.
        most: the bound.
        count: finds the places, of which there are to be no more.
    """

    name: str
    most: int
    count: Callable[[], list[str]]


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every file of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def mixer_arguments() -> list[str]:
    """What the constructor of the mixer takes."""
    return [name for name in inspect.signature(EosMixer.__init__).parameters if name != "self"]


def mixer_branches() -> list[str]:
    """Branches of the mixer's forward."""
    tree = ast.parse((PACKAGE / "mixers" / "eos.py").read_text(encoding="utf-8"))
    mixer = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "EosMixer")
    forward = next(node for node in mixer.body if isinstance(node, ast.FunctionDef) and node.name == "forward")
    return [f"line {node.lineno}" for node in ast.walk(forward) if isinstance(node, BRANCHES)]


def bases(group: str, option: str) -> list[str]:
    """The options that an option inherits from."""
    node = OmegaConf.load(CONF / group / f"{option}.yaml")
    return [entry for entry in node.get("defaults", []) if entry != "_self_"]


def deep_options() -> list[str]:
    """Options that inherit from one that inherits."""
    pairs = [(group, option) for group in MIXER_GROUPS for option in options(group)]
    return [f"{group}={option}" for group, option in pairs if any(bases(group, base) for base in bases(group, option))]


def equal_options() -> list[str]:
    """Pairs of options of a group with the same values."""
    found = []
    for group in MIXER_GROUPS:
        settings = {option: load(group, option) for option in options(group)}
        pairs = itertools.combinations(settings, 2)
        found += [f"{group}={one},{other}" for one, other in pairs if settings[one] == settings[other]]
    return found


def classes_named_twice() -> list[str]:
    """Class names that the package defines more than once."""
    counts = Counter(node.name for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return [name for name, count in counts.items() if count > 1]


def imported_modules(name: str, tree: ast.Module) -> set[str]:
    """Modules of the package that a module imports, also inside functions; not those for types alone."""
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node not in typing_only and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lcsm"):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found - {name}


def import_circles() -> list[str]:
    """Modules that import themselves by way of others."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in trees()}
    graph = {name: imported_modules(name, tree) & modules.keys() for name, tree in modules.items()}
    # what imports nothing that is left is in no circle, again and again
    while free := [name for name, imports in graph.items() if not imports & graph.keys()]:
        for name in free:
            del graph[name]
    return list(graph)


def unchecked_shapes() -> list[str]:
    """Arguments and results of functions that are a plain Tensor, whose shape no test checks."""
    if "--jaxtyping-packages=lcsm" not in (ROOT / "Makefile").read_text(encoding="utf-8"):
        return ["Makefile: no signature is checked"]
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                arguments = [argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)]
                hints = [ast.unparse(hint) for hint in (*arguments, node.returns) if hint is not None]
                found += [f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"] * hints.count("Tensor")
    return found


FIGURES = (
    Figure("arguments of the mixer's constructor", 9, mixer_arguments),
    Figure("branches of the mixer's forward", 0, mixer_branches),
    Figure("options that inherit from an heir", 0, deep_options),
    Figure("pairs of equal options", 0, equal_options),
    Figure("class names used twice", 0, classes_named_twice),
    Figure("modules in circles of imports", 0, import_circles),
    Figure("tensors in signatures without a shape", 277, unchecked_shapes),
)
