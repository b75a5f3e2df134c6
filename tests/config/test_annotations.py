import ast
from typing import Annotated, Any, Literal

import pytest

from lcsm.config.annotations import Range, accepts, from_source, words


def read(text: str) -> Any:
    return from_source(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, "float"),
        (None, "int | None"),
        ([1, 2], "tuple[float, float]"),
        ([], "list[int]"),
        (["a"], "Sequence[str]"),
        ("relu", "Literal['relu', 'silu']"),
        ({"a": 1}, "dict[str, int]"),
        (object, "nn.Module"),
        ("x", "Optional[str]"),
    ],
)
def test_a_fitting_value_is_accepted(value: Any, annotation: str):
    assert accepts(value, read(annotation))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, "int"),
        (1, "bool"),
        (1.5, "int"),
        (float("nan"), "float"),
        (float("inf"), "float | None"),
        ("1", "float"),
        ([1, 2, 3], "tuple[float, float]"),
        ([1, "a"], "list[int]"),
        (1, "list[int]"),
        ("gelu", "Literal['relu', 'silu']"),
        (1, "Literal[True]"),
        (None, "str"),
    ],
)
def test_an_unfitting_value_is_refused(value: Any, annotation: str):
    assert not accepts(value, read(annotation))


def test_an_annotation_outside_the_plain_types_accepts_everything():
    assert read("torch.Tensor | None") is Any


def test_a_range_is_part_of_the_rule_and_of_its_words():
    rule = Annotated[int, Range(0, 2**32 - 1)]
    assert accepts(0, rule) and not accepts(-1, rule) and not accepts(2**32, rule)
    assert words(rule) == "an integer >= 0 and <= 4294967295"


def test_an_open_range_leaves_its_bound_out():
    assert not accepts(0.0, Annotated[float, Range(0, open=True)])


def test_rules_are_said_in_words():
    assert words(int | None) == "an integer or null"
    assert words(Literal["a", "b"]) == "one of a, b"
    assert words(read("list[int]")) == "a list, each item an integer"
