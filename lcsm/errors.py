"""The one exception for a user's mistake, and what to say where the memory of the machine ends."""

import re


class UsageError(ValueError):
    """A mistake in the configuration, the command line or the data.

    The text is at most three lines: the argument, the value received, the rule and the way out. Commands print it
    without a traceback and exit with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# characters of a value that a message shows
LONGEST = 120


def shortened(value: object) -> str:
    """A value as it fits into a line; a text without quotes."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


# how torch, CUDA and numpy say it; the last is an array beyond what can be addressed
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "unable to allocate", "storage size calculation overflowed")


def out_of_memory(error: BaseException) -> str | None:
    """The message for an error that means a lack of memory, in two lines; None for other errors."""
    text = str(error)
    if not isinstance(error, MemoryError) and not any(phrase in text.lower() for phrase in OUT_OF_MEMORY):
        return None
    asked = re.search(r"allocate ([\d.]+ \w+)", text)
    size = asked[1] if asked else "more than there is"
    if size.endswith(" bytes"):
        size = f"{int(size.partition(' ')[0]) / 2**30:.3g} GiB"
    return (
        f"out of memory: {size} could not be allocated\n"
        "use a smaller data.batch_size (trainer.accumulate_grad_batches makes up for it), data.length or model"
    )
