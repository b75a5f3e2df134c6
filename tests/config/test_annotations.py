from collections.abc import Sequence
from typing import Annotated, Any, Literal, Optional

import pytest
import torch

from lcsm.config.annotations import Range, accepts, words


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, float),
        (None, int | None),
        ([1, 2], tuple[float, float]),
        ([], list[int]),
        (["a"], Sequence[str]),
        ("relu", Literal["relu", "silu"]),
        ({"a": 1}, dict[str, int]),
        (object, torch.nn.Module),
        ("x", Optional[str]),  # noqa: UP045
        ("x", Any),
    ],
)
def test_a_fitting_value_is_accepted(value: Any, annotation: Any):
    assert accepts(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (1, bool),
        (1.5, int),
        (float("nan"), float),
        (float("inf"), float | None),
        ("1", float),
        ([1, 2, 3], tuple[float, float]),
        ([1, "a"], list[int]),
        (1, list[int]),
        ("gelu", Literal["relu", "silu"]),
        (1, Literal[True]),
        (None, str),
    ],
)
def test_an_unfitting_value_is_refused(value: Any, annotation: Any):
    assert not accepts(value, annotation)


def test_an_annotation_outside_the_plain_types_accepts_everything():
    assert accepts("anything", torch.Tensor | None)


def test_a_range_is_part_of_the_rule_and_of_its_words():
    rule = Annotated[int, Range(0, 2**32 - 1)]
    assert accepts(0, rule) and not accepts(-1, rule) and not accepts(2**32, rule)
    assert words(rule) == "an integer >= 0 and <= 4294967295"


def test_an_open_range_leaves_its_bound_out():
    assert not accepts(0.0, Annotated[float, Range(0, open=True)])


def test_rules_are_said_in_words():
    assert words(int | None) == "an integer or null"
    assert words(Literal["a", "b"]) == "one of a, b"
    assert words(dict | Literal[False] | None) == "a mapping, false or null"
    assert words(list[int]) == "a list, each item an integer"
