"""Checks of stage settings, with errors that name the setting, the value, the rule and the way out."""

from collections.abc import Mapping
from typing import TypeVar

from lcsm.errors import UsageError

Choice = TypeVar("Choice")


def choose(setting: str, value: str, options: Mapping[str, Choice]) -> Choice:
    """The option named `value`.

    Args:
        setting: the YAML key, as the user writes it, e.g. "oscillation.axes".
        value: what the user wrote.
        options: what each legal name stands for.
    Raises:
        UsageError: the value is not a legal name.
    """
    if value not in options:
        raise UsageError(f"{setting}={value!r} is not an option: choose one of {', '.join(options)}")
    return options[value]


def positive(setting: str, value: float) -> float:
    """The value itself.

    Raises:
        UsageError: the value is not greater than zero.
    """
    if not value > 0:
        raise UsageError(f"{setting}={value!r} must be greater than 0: choose a positive number")
    return value
