"""ListOps: the grammar, the values, the rows."""

import random
from pathlib import Path

import numpy as np
import pytest

from lcsm.data.labelled.listops_grammar import CLOSE, END, OPERATORS, SYMBOLS, ListOpsRule, decode, encode
from lcsm.data.sampling import Shard
from lcsm.errors import UsageError
from tests.data.helpers import assert_same, take
from tests.data.labelled_helpers import make_listops

RULE = ListOpsRule(min_length=3, max_length=80, max_depth=5, max_arguments=5)
MEANING = {
    "[MIN": min,
    "[MAX": max,
    "[SM": lambda values: sum(values) % 10,
    "[MED": lambda values: int(np.median(values)),
}


def value(words: list[str]) -> int:
    """The value of an expression by a stack, and a check of its form."""
    stack: list[list] = [[None]]
    for word in words:
        if word in OPERATORS:
            stack.append([word])
        elif word == CLOSE:
            operator, *arguments = stack.pop()
            assert 2 <= len(arguments) <= RULE.max_arguments
            stack[-1].append(MEANING[operator](arguments))
        else:
            stack[-1].append(int(word))
        assert len(stack) <= RULE.max_depth
    assert len(stack) == 1 and len(stack[0]) == 2
    return stack[0][1]


def rows(count: int, seed: int = 0) -> tuple[list[list[str]], np.ndarray]:
    drawn = RULE.draw(np.random.default_rng(seed), 0, count)
    parts = np.split(drawn.documents[0].flat, drawn.documents[0].starts[1:-1])
    assert all(part[-1] == END for part in parts)
    return [decode(part).split() for part in parts], drawn.labels


def test_values_are_those_of_the_expressions():
    expressions, values = rows(500)
    assert [value(words) for words in expressions] == values.tolist()


def test_lengths_lie_strictly_between_the_limits():
    expressions, _ = rows(300)
    assert {len(words) for words in expressions} <= set(range(4, 80))


def reference_lengths(count: int) -> list[int]:
    """Lengths of accepted expressions by the recursion of the released generator."""
    draw, found = random.Random(0), []

    def grow(depth: int) -> int:
        if depth == RULE.max_depth or draw.random() > 0.25:
            return 1
        return 2 + sum(grow(depth + 1) for _ in range(draw.randint(2, RULE.max_arguments)))

    while len(found) < count:
        if RULE.min_length < (length := grow(1)) < RULE.max_length:
            found.append(length)
    return found


def test_lengths_follow_the_distribution_of_the_released_generator():
    ours, theirs = np.sort([len(words) for words in rows(4000)[0]]), np.sort(reference_lengths(4000))
    grid = np.arange(RULE.max_length)
    distance = np.abs(np.searchsorted(ours, grid, "right") - np.searchsorted(theirs, grid, "right")).max() / 4000
    # the 0.1 % point of the Kolmogorov-Smirnov statistic of two samples of this size
    assert distance < 0.0436


def test_every_symbol_occurs():
    seen = {word for words in rows(300)[0] for word in words}
    assert seen == set(SYMBOLS[2:])


def test_a_written_expression_loses_its_parentheses():
    ids = encode("( ( ( [MAX 2 ) ( ( [MIN 4 ) 7 ] ) ) ] )")
    assert ids is not None and decode(np.array(ids)) == "[MAX 2 [MIN 4 7 X X"
    assert encode("[AND 1 2 ]") is None and encode("") is None


def test_batches_have_masks_and_padding():
    batch = take(make_listops().train_dataloader(), 1)[0]
    tokens, mask = batch["tokens"], batch["mask"]
    assert tokens.shape == mask.shape == batch["segments"].shape == (8, 60)
    assert (tokens[~mask] == 0).all() and (tokens[mask] > 0).all()
    assert ((tokens == END).sum(1) == 1).all() and (batch["segments"] == (~mask).long()).all()


@pytest.mark.parametrize("num_train", [None, 40])
def test_batches_are_functions_of_seed_and_index(num_train: int | None):
    first, second = make_listops(num_train=num_train), make_listops(num_train=num_train)
    second.first_batch = 3
    assert_same(take(first.train_dataloader(), 5)[3:], take(second.train_dataloader(), 2))
    other = take(make_listops(num_train=num_train, seed=4).train_dataloader(), 1)[0]["labels"]
    assert not (take(first.train_dataloader(), 1)[0]["labels"] == other).all()


@pytest.mark.parametrize("num_train", [None, 40])
def test_shards_make_up_the_global_batch(num_train: int | None):
    module = make_listops(num_train=num_train)
    whole = module.training_batches(Shard())[2]
    parts = [module.training_batches(Shard(rank, 2))[2] for rank in (0, 1)]
    assert all((whole[name][4:] == parts[1][name]).all() for name in whole)
    assert all((whole[name][:4] == parts[0][name]).all() for name in whole)


def test_either_split_is_scored_with_every_example_once():
    module = make_listops()
    assert sum(len(batch["labels"]) for batch in module.val_dataloader()[0]) == 21
    module.scored_split = "test"
    assert sum(len(batch["labels"]) for batch in module.val_dataloader()[0]) == 10


def write_release(folder: Path, last: str = "[MAX 2 ( [MIN 4 7 ] ) ]\t4") -> None:
    for name in ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv"):
        (folder / name).write_text(f"Source\tTarget\n( [SM 5 ) 6 ] )\t1\n{last}\n", encoding="utf-8")


def test_released_files_are_read_and_cut(tmp_path: Path):
    write_release(tmp_path, last=f"[MAX {'9 ' * 80}]\t9")
    batch = make_listops(root=str(tmp_path)).evaluation_batches("validation", Shard())["1x"][0]
    assert decode(batch["tokens"][0].numpy()) == "[SM 5 6 X" and batch["labels"].tolist() == [1, 9]
    assert batch["mask"].sum(1).tolist() == [5, 60]


def test_missing_and_broken_files_are_named(tmp_path: Path):
    write_release(tmp_path, last="[AND 1 2 ]\t1")
    with pytest.raises(UsageError, match=r"basic_train.tsv, line 3: expected an expression"):
        make_listops(root=str(tmp_path)).prepare()
    (tmp_path / "basic_val.tsv").unlink()
    with pytest.raises(UsageError, match=r"lacks basic_val.tsv;\nexpected basic_train.tsv, basic_val.tsv, basic_test"):
        make_listops(root=str(tmp_path)).prepare()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_length": 59}, "leaves no expression"),
        ({"max_depth": 2, "max_arguments": 3}, "at most 5 tokens"),
        ({"max_depth": 1}, "data.max_depth=1"),
        ({"num_val": 0}, "data.num_val=0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, words: str):
    with pytest.raises(UsageError, match=words):
        make_listops(**settings)
