"""The end of an error message: the valid names that are nearest to a wrong one."""

import difflib
from collections.abc import Iterable

# Up to this many names are listed in full; a longer list would bury the message.
LISTED = 40
# Settings that had other names in earlier versions.
FORMER = {"largest_strength": "largest_beta", "speed": "c", "present_activation": "bonus_activation"}


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most three of `names` that look like `name` or start with it, best first."""
    lowered = {candidate.lower(): candidate for candidate in names}
    similar = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    longer = [candidate for candidate in sorted(lowered) if len(name) > 1 and candidate.startswith(name.lower())]
    return [lowered[candidate] for candidate in dict.fromkeys([*similar, *longer])][:3]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?`, `; it is 'a' now`, or the empty string."""
    names = list(names)
    if FORMER.get(name) in names:
        return f"; it is {FORMER[name]!r} now"
    found = nearest(name, names)
    return f"; did you mean {' or '.join(repr(candidate) for candidate in found)}?" if found else ""


def listed(names: Iterable[str]) -> str:
    """The names in one line, cut after LISTED of them."""
    ordered = sorted(names)
    tail = f", ... ({len(ordered) - LISTED} more)" if len(ordered) > LISTED else ""
    return (", ".join(ordered[:LISTED]) or "none") + tail
