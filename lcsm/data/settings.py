"""Settings that data modules share: frozen objects, written field by field in a configuration."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from functools import wraps
from typing import Any, get_type_hints

from lcsm.errors import UsageError


@dataclass(frozen=True)
class Loading:
    """Settings of the loading of batches.

    Args:
        batch_size: rows in a global training batch, over all processes.
        num_workers: worker processes of each loader; 0 makes batches in the training process.
        seed: data seed, >= 0.
    Raises:
        UsageError: a value is out of range.
    """

    batch_size: int
    num_workers: int
    seed: int

    def __post_init__(self) -> None:
        require_integer("data.batch_size", self.batch_size, 1)
        require_integer("data.num_workers", self.num_workers, 0)
        require_integer("data.seed", self.seed, 0)


@dataclass(frozen=True)
class CachedLoading(Loading):
    """Settings of the loading of batches of prepared data.

    Args:
        cache_dir: folder of the prepared data; None = $LCSM_CACHE, or lcsm in the user's cache folder.
        batch_size, num_workers, seed: see `Loading`.
    """

    cache_dir: str | None


def flat(constructor: Callable[..., None], **kinds: type) -> Callable[..., None]:
    """A constructor that takes the fields of its dataclass arguments in their place, by name.

    A configuration then has one level of keys, and `inspect.signature` shows them:

        @flat
        def __init__(self, root: str, loading: Loading) -> None: ...

        Data(root="folder", batch_size=8, num_workers=0, seed=1)

    Args:
        constructor: the method.
        kinds: dataclasses of arguments, by name, where the annotation is that of a base.
    """
    own, hints = inspect.signature(constructor, eval_str=True), get_type_hints(constructor) | kinds
    whole = {name: hints[name] for name in own.parameters if is_dataclass(hints.get(name))}
    fields = {name: inspect.signature(kind, eval_str=True).parameters for name, kind in whole.items()}
    this, *others = own.parameters.values()
    inner = [field for other in others for field in (fields[other.name].values() if other.name in whole else [other])]
    signature = own.replace(parameters=[this, *(field.replace(kind=field.KEYWORD_ONLY) for field in inner)])

    @wraps(constructor)
    def construct(self: Any, **settings: Any) -> None:
        # a name that is missing or unknown is a TypeError, as of any function
        signature.bind(self, **settings)
        parts = {name: kind(**{key: settings.pop(key) for key in fields[name]}) for name, kind in whole.items()}
        constructor(self, **parts, **settings)

    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


def require_integer(name: str, value: int, least: int) -> None:
    """Raise a `UsageError` unless `value` is an integer >= `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r} must be an integer >= {least}")


def require_sizes(**sizes: int | None) -> None:
    """Refuse numbers of examples below 1; None is left alone."""
    for name, size in sizes.items():
        if size is not None:
            require_integer(f"data.{name}", size, 1)


def require_multiples(val_lengths: Sequence[int]) -> None:
    """Refuse validation lengths that are no multiples of the training length."""
    if not val_lengths:
        raise UsageError("data.val_lengths=[] must name at least one multiple of data.length, such as [1]")
    for multiple in val_lengths:
        require_integer("data.val_lengths", multiple, 1)
