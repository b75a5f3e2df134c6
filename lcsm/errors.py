"""The one exception for a user's mistake."""


class UsageError(ValueError):
    """A mistake in the configuration, the command line or the data.

    The text is at most three lines: the argument, the value received, the rule and the way out. Commands print it
    without a traceback and exit with status 2.
    """
