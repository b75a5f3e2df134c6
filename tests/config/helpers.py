"""Plans of command lines, for the tests of composition."""

from typing import Any

import pytest

from lcsm.config.compose import make_plan
from lcsm.errors import UsageError


def compose(*words: str) -> dict[str, Any]:
    """The configuration of a single run."""
    plan = make_plan(words)
    assert not plan.sweep
    return plan.jobs[0].config


def fault(*words: str) -> str:
    """The message that a command line is refused with."""
    with pytest.raises(UsageError) as caught:
        make_plan(words)
    return str(caught.value)
