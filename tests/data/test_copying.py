"""Copying: every symbol is asked for once, in order, behind the delimiter."""

from typing import Any

import numpy as np
import pytest

from lcsm.batch import NOT_SCORED
from lcsm.data.copying import DELIMITER, FIRST_SYMBOL, CopyingRule
from lcsm.data.sampling import Shard, stream
from lcsm.errors import UsageError
from tests.compose import compose
from tests.data.helpers import make_copying

LENGTHS = (1, 5, 8)


def oracle(tokens: np.ndarray) -> np.ndarray:
    """The symbols before the delimiter, in order."""
    return tokens[: tokens.tolist().index(DELIMITER)]


@pytest.mark.parametrize("forced", [False, True])
def test_the_scored_targets_are_the_string(forced: bool):
    drawn = CopyingRule(20, 12, LENGTHS, forced).draw(stream(0), 0, 10_000)
    for tokens, targets, number in zip(drawn.tokens, drawn.targets, drawn.groups["symbols"], strict=True):
        places = np.flatnonzero(targets != NOT_SCORED)
        assert targets[places].tolist() == oracle(tokens).tolist() and len(places) == number
        assert places.tolist() == list(range(number + (not forced), 2 * number + (not forced)))


def test_blanks_ask_for_the_copy():
    drawn = CopyingRule(20, 12, LENGTHS, False).draw(stream(0), 0, 1000)
    assert (drawn.tokens[drawn.targets != NOT_SCORED] == 0).all()


def test_a_forced_copy_shows_each_symbol_where_the_next_is_asked_for():
    drawn = CopyingRule(20, 12, LENGTHS, True).draw(stream(0), 0, 1000)
    rows, places = np.nonzero((drawn.targets[:, :-1] != NOT_SCORED) & (drawn.targets[:, 1:] != NOT_SCORED))
    assert (drawn.tokens[rows, places + 1] == drawn.targets[rows, places]).all()


def test_symbols_are_uniform_at_every_scored_place():
    rule = CopyingRule(20, 12, LENGTHS, False)
    targets = rule.draw(stream(0), 0, 30_000).targets
    for place in range(20):
        scored = targets[targets[:, place] != NOT_SCORED, place]
        if len(scored):
            share = np.bincount(scored, minlength=12)[FIRST_SYMBOL:] / len(scored)
            # five standard errors around the chance of 1 in 10
            assert np.abs(share - 0.1).max() < 5 * np.sqrt(0.09 / len(scored))


def test_longer_rows_have_longer_strings():
    batches = make_copying().evaluation_batches("validation", Shard())
    found = {name: sorted(set(part[0]["groups"]["symbols"].tolist())) for name, part in batches.items()}
    assert found == {"1x": [2, 8], "2x": [4, 16]}


def test_the_option_gives_the_task_its_vocabulary():
    assert compose("task=copying")["data"]["vocab_size"] == make_copying(vocab_size=28).vocab_size == 28


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_symbols": 9},
            r"data.num_symbols=9 needs 19 tokens with its copy, but data.length=17;\nuse data.length=19",
        ),
        ({"num_symbols": [3, 0]}, "data.num_symbols=0 must be an integer >= 1"),
        ({"vocab_size": 3}, "data.vocab_size=3 must be an integer >= 4"),
        ({"length": 0}, "data.length=0 must be an integer >= 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        make_copying(**settings)
