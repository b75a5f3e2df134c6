"""The `key=value` words of the small commands: typed, with a way out for every mistake."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from lcsm.config.suggest import did_you_mean, listed
from lcsm.errors import UsageError


@dataclass(frozen=True)
class Option:
    """One key of a command.

    Attributes:
        kind: int, float, str, bool, or list for names of classes.
        text: what it does.
        default: the value if the key is left out.
        required: whether it must be given.
        choices: the only values allowed; empty allows all.
    """

    kind: type
    text: str
    default: Any = None
    _: KW_ONLY
    required: bool = False
    choices: tuple[str, ...] = ()


KINDS = {
    int: "an integer",
    float: "a finite number",
    str: "a text",
    bool: "true or false",
    list: "a list of classes, e.g. [my_module.MyOscillation]",
}
CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def read(command: str, words: Sequence[str], options: Mapping[str, Option]) -> tuple[dict[str, Any], list[str]]:
    """The values of a command's options, and the words that are none of them.

    Args:
        command: name, for messages.
        words: `key=value`, `--key=value`, `--key value` or, for a true-or-false key, `--key`.
        options: by key.
    Raises:
        UsageError: a value is missing, not readable, not allowed or given twice.
    """
    values: dict[str, Any] = {}
    rest: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        key, equals, text = word.removeprefix("--").partition("=")
        if key not in options:
            rest.append(word)
            continue
        if not equals:
            text = flag_value(command, word, options[key], remaining)
        if key in values:
            raise UsageError(f"{key} is given twice: {key}={values[key]} and {key}={text}")
        values[key] = convert(key, text, options[key])
    for key, option in options.items():
        if option.required and key not in values:
            raise UsageError(f"{key} is missing: lcsm {command} {key}=... ({option.text})")
        values.setdefault(key, option.default)
    return values, rest


def flag_value(command: str, word: str, option: Option, remaining: list[str]) -> str:
    """The value of a word without `=`: the next word, or true for a true-or-false key."""
    if word.startswith("--") and option.kind is bool:
        return "true"
    if not word.startswith("--") or not remaining:
        raise UsageError(f"{word!r} has no value: lcsm {command} {word.removeprefix('--')}=... ({option.text})")
    return remaining.pop(0)


def convert(key: str, text: str, option: Option) -> Any:
    """A text as a value of the option's kind."""
    if option.choices and text not in option.choices:
        raise UsageError(f"{key}={text} must be one of {', '.join(option.choices)}{did_you_mean(text, option.choices)}")
    if option.kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if option.kind is str:
        return text
    if option.kind is list:
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        names = [name.strip() for name in inner.split(",")] if inner.strip() else []
        if all(CLASS.fullmatch(name) for name in names):
            return names
        raise UsageError(f"{key}={text} must be {KINDS[list]}")
    try:
        if option.kind is not bool:
            value = option.kind(text)
            if math.isfinite(value):
                return value
    except ValueError as error:
        raise UsageError(f"{key}={text} must be {KINDS[option.kind]}") from error
    raise UsageError(f"{key}={text} must be {KINDS[option.kind]}")


def refuse_rest(command: str, rest: Sequence[str], options: Mapping[str, Option], more: str = "") -> None:
    """Words that a command does not know; `more` names what it takes besides its keys."""
    if rest:
        key = rest[0].removeprefix("--").partition("=")[0]
        hint = did_you_mean(key, options)
        raise UsageError(f"{rest[0]!r} is not known to lcsm {command}{hint}\nits keys: {listed(options)}{more}")


def usage_text(command: str, summary: str, options: Mapping[str, Option], examples: Sequence[str]) -> str:
    """The help of a command."""
    lines = [summary, "", f"usage: lcsm {command} key=value ...", ""]
    width = max(map(len, options)) + 2
    for key, option in options.items():
        default = "required" if option.required else f"default {'none' if option.default is None else option.default}"
        choices = f" ({' | '.join(option.choices)})" if option.choices else ""
        text = f"{option.text}{choices}; {default}"
        lines += textwrap.wrap(text, 110, initial_indent=f"  {key:<{width}}", subsequent_indent=" " * (width + 2))
    lines += ["", "examples", *(f"  {example}" for example in examples), ""]
    return "\n".join(lines)
