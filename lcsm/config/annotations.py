"""Annotations as rules of configuration values: whether a value fits, and the rule in words."""

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

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
        *first, last = [words(argument) for argument in arguments]
        return f"{', '.join(first)} or {last}"
    if origin is Literal:
        values = [str(value).lower() if isinstance(value, bool) else str(value) for value in arguments]
        return "one of " * (len(values) > 1) + ", ".join(values)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} values"
    if annotation in (list, tuple, Sequence) or origin in (list, tuple, Sequence):
        return f"a list, each item {words(arguments[0])}" if arguments else "a list"
    if annotation is None:
        return "null"
    return WORDS.get(origin or annotation, "a value")
