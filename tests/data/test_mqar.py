"""Multi-query associative recall as it is published."""

import numpy as np
import pytest
import torch

from lcsm.batch import NOT_SCORED
from lcsm.data.generated import Rows
from lcsm.data.mqar import MqarRule, distinct, smallest
from lcsm.data.sampling import stream
from lcsm.errors import UsageError
from tests.data.helpers import make_mqar, take

SETTINGS = [(32, 64, (4,)), (33, 64, (8,)), (64, 256, (2, 7, 16)), (16, 10, (4,)), (128, 8192, (5,))]


def rows_of(drawn: Rows) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Tokens, targets and number of pairs of every row."""
    return list(zip(drawn.tokens, drawn.targets, drawn.groups["pairs"], strict=True))


@pytest.mark.parametrize("length, vocab_size, num_pairs", SETTINGS)
@pytest.mark.parametrize("random_non_queries", [False, True])
def test_every_query_asks_for_the_value_of_its_key(length, vocab_size, num_pairs, random_non_queries):
    rule = MqarRule(length, vocab_size, num_pairs, 0.01, random_non_queries)
    for tokens, targets, pairs in rows_of(rule.draw(stream(0), 5, 50)):
        context = 2 * pairs
        memory = dict(zip(tokens[0:context:2], tokens[1:context:2], strict=True))
        places = np.flatnonzero(targets != NOT_SCORED)
        assert len(memory) == pairs == len(places)
        assert places.min() >= context and not (places - context).astype(int)[(places - context) % 2 == 1].size
        # each key is asked for exactly once
        assert {tokens[place] for place in places} == set(memory)
        assert all(memory[tokens[place]] == targets[place] for place in places)


@pytest.mark.parametrize("length, vocab_size, num_pairs", SETTINGS)
def test_keys_values_and_blanks_come_from_their_own_ranges(length, vocab_size, num_pairs):
    for row, scored, pairs in rows_of(MqarRule(length, vocab_size, num_pairs, 0.01, False).draw(stream(0), 0, 60)):
        keys, values = row[0 : 2 * pairs : 2], row[1 : 2 * pairs : 2]
        assert keys.min() >= 1 and keys.max() < vocab_size // 2
        assert values.min() >= vocab_size // 2 and values.max() < vocab_size
        assert len(set(values)) == pairs
        assert (row[2 * pairs :][scored[2 * pairs :] == NOT_SCORED] == 0).all()


def test_random_tokens_replace_the_blanks_only():
    blank = MqarRule(32, 64, (4,), 0.01, False).draw(stream(0), 0, 200)
    filled = MqarRule(32, 64, (4,), 0.01, True).draw(stream(0), 0, 200)
    kept = blank.tokens != 0
    assert (blank.targets == filled.targets).all() and (blank.tokens[kept] == filled.tokens[kept]).all()
    assert set(np.unique(filled.tokens[~kept])) == set(range(64))


def test_query_slots_follow_sequential_draws_from_the_power_law():
    pairs, slots, rows = 3, 6, 20000
    targets = MqarRule(2 * (pairs + slots), 64, (pairs,), 0.01, False).draw(stream(1), 0, rows).targets
    weights = np.arange(1, slots + 1) ** (0.01 - 1)
    random = np.random.default_rng(0)
    chance = weights / weights.sum()
    slow = np.array([random.choice(slots, pairs, replace=False, p=chance) for _ in range(rows)])
    expected = np.bincount(slow.ravel(), minlength=slots) / rows
    found = (targets[:, 2 * pairs :: 2] != NOT_SCORED).mean(axis=0)
    assert np.abs(found - expected).max() < 0.02


def test_the_first_pair_is_asked_for_soonest():
    drawn = MqarRule(64, 64, (4,), 0.01, False).draw(stream(1), 0, 5000)
    queries = (drawn.tokens[:, None] == drawn.tokens[:, 0:8:2, None]) & (drawn.targets[:, None] != NOT_SCORED)
    mean = queries.argmax(axis=2).mean(axis=0)
    assert (np.diff(mean) > 0).all()


@pytest.mark.parametrize("count, chosen", [(5, 5), (100, 3), (100, 40)])
def test_distinct_draws_are_different_and_uniform_in_every_place(count, chosen):
    draws = distinct(stream(2), 20000, count, chosen)
    assert all(len(set(row)) == chosen for row in draws[:500])
    share = np.bincount(draws[:, -1], minlength=count) / len(draws)
    assert np.abs(share - 1 / count).max() < 0.015


def test_smallest_agrees_with_sorting():
    times = stream(3).standard_exponential((50, 37))
    assert (smallest(times.copy(), 9) == np.argsort(times, axis=1)[:, :9]).all()


def test_a_mixture_has_equal_shares_and_names_its_group():
    batch = take(make_mqar(num_pairs=[1, 2, 8], batch_size=12).train_dataloader(), 1)[0]
    scored = (batch["targets"] != NOT_SCORED).sum(dim=1)
    assert torch.equal(scored, batch["groups"]["pairs"])
    assert scored.tolist() == [1, 2, 8] * 4


def test_splits_share_no_row():
    module = make_mqar(num_train=300, num_val=300)
    sets = [module.training_batches(module._shard()).examples.tokens]
    sets += [
        module.evaluation_batches(split, module._shard())["1x"].examples.tokens for split in ("validation", "test")
    ]
    rows = [{row.tobytes() for row in tokens} for tokens in sets]
    assert len(set.union(*rows)) == 900


def test_fresh_training_never_repeats_and_a_fixed_set_repeats_every_epoch():
    fresh = torch.cat([batch["tokens"] for batch in take(make_mqar().train_dataloader(), 50)])
    assert len(fresh.unique(dim=0)) == 400
    fixed = torch.cat([batch["tokens"] for batch in take(make_mqar(num_train=40).train_dataloader(), 10)])
    assert len(fixed[:40].unique(dim=0)) == 40 == len(fixed.unique(dim=0))


def test_validation_does_not_depend_on_the_batch_size():
    one, two = (list(make_mqar(batch_size=size).val_dataloader()[0]) for size in (8, 50))
    assert torch.equal(torch.cat([batch["tokens"] for batch in one]), torch.cat([batch["tokens"] for batch in two]))
    assert sum(len(batch["tokens"]) for batch in one) == 50


def test_description_and_names_are_plain():
    module = make_mqar(num_pairs=[2, 4])
    assert module.val_names == ["1x"] and module.vocab_size == 64 and module.tokenizer_state() is None
    assert module.describe()["num_pairs"] == "2 4"


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"num_pairs": 9},
            r"data.num_pairs=9 needs 4 tokens per pair, 36 in all, but data.length=32;\nuse data.num_pairs=8",
        ),
        ({"vocab_size": 8}, r"data.vocab_size=8 has 3 keys, too few for data.num_pairs=4;\nuse data.vocab_size=10"),
        ({"num_pairs": []}, "at least one number of pairs"),
        ({"num_pairs": 0}, "data.num_pairs=0 must be an integer >= 1"),
        ({"power_a": 0.0}, "data.power_a=0.0 must be positive"),
        ({"power_a": float("nan")}, "data.power_a=nan"),
        ({"num_val": 0}, "data.num_val=0"),
        ({"num_train": 0}, "data.num_train=0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        make_mqar(**settings)
