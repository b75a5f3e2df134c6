"""Does a configuration value fit an annotation, and how is that rule said in words."""

import ast
import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

NUMBERS: dict[str, object] = {"int": int, "float": float, "str": str, "bool": bool, "None": None, "dict": dict}
LISTS = {"list", "List", "tuple", "Tuple", "Sequence", "Iterable"}
WORDS: dict[object, str] = {
    int: "an integer",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    dict: "a mapping",
    type(None): "null",
}


@dataclass(frozen=True)
class Range:
    """Bounds of a number, `low` and `high` included unless `open` leaves `low` out."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number lies within the bounds."""
        return (value > self.low if self.open else value >= self.low) and value <= self.high

    def words(self) -> str:
        """The rule, e.g. `>= 1` or `> 0 and <= 1`."""
        low = [] if self.low == -math.inf else [f"{'>' if self.open else '>='} {self.low}"]
        high = [] if self.high == math.inf else [f"<= {self.high}"]
        return " and ".join(low + high)


def accepts(value: Any, annotation: Any) -> bool:
    """Whether a plain value (None, bool, number, text, list, dict) fits an annotation.

    An integer fits float, a list fits every sequence; an annotation outside the plain types (a class, a callable)
    accepts everything: its own constructor decides.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is type(None):
        return value is None
    if origin is Annotated:
        return accepts(value, arguments[0]) and all(
            rule.holds(value) for rule in arguments[1:] if isinstance(rule, Range) and isinstance(value, (int, float))
        )
    if origin in (Union, types.UnionType):
        return any(accepts(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in arguments)
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is str:
        return isinstance(value, str)
    if annotation is dict or origin is dict:
        return isinstance(value, dict)
    if annotation in (list, tuple, Sequence) or origin in (list, tuple, Sequence):
        return accepts_list(value, origin, arguments)
    return True


def accepts_list(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    """Whether a value is a list whose items, and for a fixed tuple whose number of items, fit."""
    if not isinstance(value, list):
        return False
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(accepts, value, arguments))
    return all(accepts(item, arguments[0]) for item in value) if arguments else True


def words(annotation: Any) -> str:
    """The rule of an annotation in words, e.g. `null or an integer >= 1`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [rule.words() for rule in arguments[1:] if isinstance(rule, Range)]
        return " ".join([words(arguments[0]), *bounds])
    if origin in (Union, types.UnionType):
        return " or ".join(words(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in arguments)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} values"
    if annotation in (list, tuple, Sequence) or origin in (list, tuple, Sequence):
        return f"a list, each item {words(arguments[0])}" if arguments else "a list"
    if annotation is None:
        return "null"
    return WORDS.get(origin or annotation, "a value")


def from_source(node: ast.expr | None) -> Any:
    """The annotation that a piece of source code stands for; Any where it is not made of plain types."""
    if isinstance(node, ast.Constant) and node.value is None:
        return type(None)
    if isinstance(node, ast.Name):
        return list if node.id in LISTS else NUMBERS.get(node.id, Any)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return union([from_source(node.left), from_source(node.right)])
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        items = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        return subscript(node.value.id, items)
    return Any


def subscript(name: str, items: list[ast.expr]) -> Any:
    """The annotation `name[items]`."""
    if name == "Literal":
        values = tuple(item.value for item in items if isinstance(item, ast.Constant))
        return Literal.__getitem__(values) if len(values) == len(items) else Any
    if name == "Optional":
        return union([from_source(items[0]), type(None)])
    if name == "Union":
        return union([from_source(item) for item in items])
    if name in ("tuple", "Tuple"):
        ellipsis = isinstance(items[-1], ast.Constant) and items[-1].value is Ellipsis
        inner = [from_source(item) for item in (items[:-1] if ellipsis else items)]
        return tuple.__class_getitem__((*inner, ...) if ellipsis else tuple(inner))
    if name in LISTS:
        return list.__class_getitem__(from_source(items[0]))
    return dict if name in ("dict", "Dict", "Mapping") else Any


def union(members: list[Any]) -> Any:
    """The union of annotations; Any absorbs all others."""
    return Any if Any in members else Union.__getitem__(tuple(members))
