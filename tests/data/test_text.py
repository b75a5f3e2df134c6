"""Packed rows: shifted targets, segments, byte counts, and validation at several lengths."""

import json
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from lcsm.batch import NOT_SCORED
from lcsm.data import token_cache
from lcsm.data.corpus import HoldOut
from lcsm.data.packing import TokenStore
from lcsm.data.sampling import Shard
from lcsm.data.text import TextData
from lcsm.data.tokenizer import tokenizer_from_state
from lcsm.errors import UsageError
from tests.data.helpers import TEXT, make_text, take

KINDS = [{"tokenizer": "bytes"}, {"tokenizer": "bpe", "vocab_size": 300}]
MIXED = "one é日本\n\ntwo lines\nhere\n\n\nthree 🙂 " * 40


def ids_of(module: TextData, split: str) -> np.ndarray:
    return module.evaluation_batches(split, Shard())["1x"].store.tokens  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", KINDS)
def test_targets_are_the_next_tokens_of_the_text(tmp_path: Path, settings):
    module = make_text(tmp_path, **settings)
    text = [*module.encode(TEXT), module.tokenizer.end_of_document]
    for batch in take(module.train_dataloader(), 20):
        for tokens, targets in zip(batch["tokens"].tolist(), batch["targets"].tolist(), strict=True):
            assert tokens[1:] == targets[:-1]
            window = [*tokens, targets[-1]]
            assert any(text[start : start + 17] == window for start in range(len(text)))


def test_an_epoch_covers_the_text_without_overlap(tmp_path: Path):
    # 126 rising bytes and the end of the document make 11 rows of 10 at any of 10 offsets
    module = make_text(tmp_path, train=bytes(range(1, 127)), batch_size=5, length=10)
    tokens = torch.cat([batch["tokens"] for batch in take(module.train_dataloader(), 22)])
    epochs = tokens.reshape(10, 11, 10)
    starts = epochs[:, :, 0].min(dim=1).values
    assert len(starts.unique()) > 4 and starts.min() >= 1 and starts.max() <= 10
    for epoch, start in zip(epochs, starts, strict=True):
        assert torch.equal(epoch.flatten().sort().values, start + torch.arange(110))


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_segments_change_exactly_at_ends_of_documents(tmp_path: Path, settings, split: str):
    module = make_text(
        tmp_path, valid=TEXT[:3000], packing="documents", document_separator="^line .*[05] of", **settings
    )
    end = module.tokenizer.end_of_document
    batches = take(module.train_dataloader(), 20) if split == "train" else list(module.val_dataloader()[1])[:-1]
    changes = 0
    for batch in batches:
        steps = batch["segments"].diff(dim=1)
        assert torch.equal(steps, (batch["tokens"] == end).long()[:, 1:])
        changes += int(steps.sum())
    assert changes >= 5


def test_padding_is_a_segment_of_its_own_and_not_scored(tmp_path: Path):
    module = make_text(tmp_path, valid="abc " * 10, packing="documents", val_lengths=[1], batch_size=3)
    (batch,) = module.val_dataloader()[0]
    # 41 ids of which 40 are scored, 16 + 16 + 8; the last one ends the document and is shown, but predicts nothing
    assert (batch["targets"] != NOT_SCORED).sum(dim=1).tolist() == [16, 16, 8]
    assert batch["segments"][2].tolist() == [0] * 8 + [1] + [2] * 7
    assert batch["bytes"].tolist() == [16, 16, 7]


@pytest.mark.parametrize("settings", KINDS)
def test_byte_counts_are_those_of_the_target_text(tmp_path: Path, settings):
    module = make_text(tmp_path, train=MIXED, valid=MIXED[::-1], **settings)
    table = module.tokenizer.token_bytes()
    loaders = [take(module.train_dataloader(), 20), *map(list, module.val_dataloader())]
    for batch in (batch for batches in loaders for batch in batches):
        scored = [[t for t in row if t != NOT_SCORED] for row in batch["targets"].tolist()]
        assert batch["bytes"].tolist() == [sum(len(table[t]) for t in row) for row in scored]
    first = len(table[ids_of(module, "validation")[0]])
    assert sum(int(batch["bytes"].sum()) for batch in loaders[1]) == len(MIXED[::-1].encode()) - first


@pytest.mark.parametrize("settings", KINDS)
def test_every_length_scores_every_held_out_token_once(tmp_path: Path, settings):
    module = make_text(tmp_path, val_lengths=[1, 2, 4, 8], batch_size=8, **settings)
    ids = ids_of(module, "validation")
    assert module.val_names == ["1x", "2x", "4x", "8x"]
    for multiple, loader in zip([1, 2, 4, 8], module.val_dataloader(), strict=True):
        batches = list(loader)
        assert {batch["tokens"].shape[1] for batch in batches} == {16 * multiple}
        assert max(batch["tokens"].numel() for batch in batches) <= 16 * 8
        targets = torch.cat([batch["targets"].flatten() for batch in batches])
        assert targets[targets != NOT_SCORED].tolist() == ids[1:].tolist()


def test_max_val_tokens_limits_every_length_to_the_same_text(tmp_path: Path):
    module = make_text(tmp_path, val_lengths=[1, 4], max_val_tokens=100)
    for loader in module.val_dataloader():
        targets = torch.cat([batch["targets"].flatten() for batch in loader])
        assert targets[targets != NOT_SCORED].tolist() == list(TEXT.encode()[1:101])


def test_lengths_that_do_not_fit_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    module = make_text(tmp_path, valid="x" * 50, val_lengths=[1, 2, 4, 8])
    with caplog.at_level(logging.WARNING):
        assert module.val_names == ["1x", "2x"] and len(module.val_dataloader()) == 2
    assert caplog.messages == ["validation rows at 4x, 8x left out: the text has 50 tokens"]


def test_a_validation_text_shorter_than_a_row_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"validation text has 10 tokens to score, but one row of 16 does not fit"):
        make_text(tmp_path, valid="x" * 10).prepare()


def test_a_training_text_shorter_than_a_row_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"training text has 16 tokens.*\n.*data.length below 16 instead of 16"):
        make_text(tmp_path, train="x" * 15).prepare()
    assert take(make_text(tmp_path, train="x" * 16).train_dataloader(), 3)[2]["tokens"].shape == (4, 16)


def test_a_text_without_a_token_is_not_told_to_use_shorter_rows(tmp_path: Path):
    with pytest.raises(UsageError, match=r"training text has 0 tokens, fewer than one row") as refused:
        make_text(tmp_path, train="x", valid=None).prepare()
    assert "data.length below" not in str(refused.value)


@pytest.mark.parametrize("settings", KINDS)
def test_the_test_split_has_its_own_text_and_lengths(tmp_path: Path, settings):
    (tmp_path / "other.txt").write_text("y" * 40)
    module = make_text(tmp_path, test_files=str(tmp_path / "other.txt"), val_lengths=[1, 8], **settings)
    assert module.val_names == ["1x", "8x"]
    module.scored_split = "test"
    assert module.val_names == ["1x"] and len(module.val_dataloader()) == 1
    assert module.decode(next(iter(module.val_dataloader()[0]))["tokens"][0].tolist()) == "y" * 16


def test_what_is_not_scored_is_not_looked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    missing = make_text(tmp_path, test_files=str(tmp_path / "none.txt"))
    assert missing.describe() == make_text(tmp_path).describe()
    assert "none.txt: no such file" in caplog.text and "split=test" in caplog.text
    missing.scored_split = "test"
    with pytest.raises(UsageError, match=r"data.test_files=.*none.txt: no such file"):
        missing.val_dataloader()


def test_a_text_without_a_test_split_says_so(tmp_path: Path):
    module = make_text(tmp_path)
    module.scored_split = "test"
    with pytest.raises(UsageError, match=r"no test split: name its files with data.test_files"):
        module.val_dataloader()


def test_a_folder_without_a_test_file_says_where_to_put_one(tmp_path: Path):
    make_text(tmp_path)
    module = make_text(tmp_path, root=str(tmp_path), train_files=None, val_files=None)
    with pytest.raises(UsageError, match=r"no test split: put test\.\* into .*, or score split=val"):
        module.evaluation_batches("test", Shard())


@pytest.mark.parametrize("settings", KINDS)
def test_the_second_preparation_only_maps_the_cache(tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch):
    first = make_text(tmp_path, **settings)
    facts = first.describe()
    assert facts["train_bytes"] == len(TEXT.encode()) and facts["train_documents"] == 1
    monkeypatch.setattr("lcsm.data.token_cache._make", None)
    again = make_text(tmp_path, **settings)
    assert again.describe() == facts and again.tokenizer_state() == first.tokenizer_state()


def test_another_text_or_separator_has_another_hash(tmp_path: Path):
    settings = [{}, {"train": TEXT + "."}, {"valid": TEXT[:999]}, {"document_separator": "^$"}, {"valid": None}]
    assert len({make_text(tmp_path, **changed).describe()["corpus_sha256"] for changed in settings}) == len(settings)


def test_the_place_of_the_files_does_not_change_the_hash(tmp_path: Path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    assert len({make_text(folder).describe()["corpus_sha256"] for folder in folders}) == 1


def test_preparations_at_once_wait_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[Path] = []
    make = token_cache._make
    monkeypatch.setattr(token_cache, "_make", lambda *given: (made.append(given[-1]), make(*given)))
    modules = [make_text(tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        facts = list(pool.map(lambda module: module.describe(), modules))
    assert len(made) == 1 and facts == [facts[0]] * 4


def test_a_partial_cache_of_a_killed_run_is_made_anew(tmp_path: Path):
    facts = make_text(tmp_path).describe()
    (folder,) = [item for item in (tmp_path / "cache" / "tokens").iterdir() if item.is_dir()]
    folder.rename(folder.with_suffix(".partial"))
    (folder.with_suffix(".partial") / "facts.json").unlink()
    assert make_text(tmp_path).describe() == facts


def test_a_store_travels_to_workers_without_its_tokens(tmp_path: Path):
    np.save(tmp_path / "ids.npy", np.zeros(100_000, dtype=np.uint16))
    store = TokenStore(tmp_path / "ids.npy", 256, np.ones(257, dtype=np.int64))
    assert len(store) == 100_000 and len(pickle.dumps(store)) < 5000
    assert len(pickle.loads(pickle.dumps(store))) == 100_000


def test_text_without_validation_files_holds_out_its_tail(tmp_path: Path):
    module = make_text(tmp_path, valid=None, val_fraction=0.2)
    train, held_out = (module.decode(ids_of(module, split).tolist()) for split in ("train", "validation"))
    assert train + held_out == TEXT
    assert train.endswith("\n") and 0.15 < len(held_out) / len(TEXT) < 0.25


def test_many_documents_hold_out_whole_ones(tmp_path: Path):
    module = make_text(tmp_path, valid=None, val_fraction=0.25, document_separator="^line")
    facts = module.describe()
    assert (facts["train_documents"], facts["validation_documents"]) == (150, 50)
    assert module.decode(ids_of(module, "validation").tolist()).splitlines()[0].startswith("line 3 of")


@pytest.mark.parametrize("percent", [1, 2, 5, 7, 10, 14, 15, 20, 25, 29, 30, 33, 35, 40, 45, 49, 50])
def test_any_fraction_of_the_documents_is_held_out_and_spread_evenly(percent: int):
    parts = HoldOut(lambda: map(str, range(400)), percent / 100)
    held_out = [int(document) for document in parts.validation()]
    assert [place * percent // 100 for place in range(1, 401) if place - 1 in held_out] == [*range(1, 4 * percent + 1)]
    assert sorted([*held_out, *map(int, parts.train())]) == [*range(400)]


def test_a_text_that_was_cut_by_another_rule_is_tokenised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = {"valid": None, "val_fraction": 0.4, "document_separator": "^line"}
    with monkeypatch.context() as earlier:
        earlier.setattr(token_cache, "FORMAT", 1)
        earlier.setattr(HoldOut, "_held_out", lambda self, number: number // 2)
        assert make_text(tmp_path, **settings).describe()["validation_documents"] == 100
    assert make_text(tmp_path, **settings).describe()["validation_documents"] == 80


def test_the_state_rebuilds_encode_and_decode(tmp_path: Path):
    module = make_text(tmp_path, tokenizer="bpe", vocab_size=300)
    rebuilt = tokenizer_from_state(json.loads(json.dumps(module.tokenizer_state())))
    assert rebuilt.encode(MIXED) == module.encode(MIXED) and module.decode(rebuilt.encode(MIXED)) == MIXED
    assert rebuilt.vocab_size == module.vocab_size == module.describe()["vocab_size"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"vocab_size": 300}, "data.vocab_size=300, but data.tokenizer=bytes always has 257"),
        ({"tokenizer": "bpe", "vocab_size": 100}, "data.vocab_size=100 must be an integer >= 257"),
        ({"tokenizer": "bpe", "vocab_size": 100_000_000_000}, "data.vocab_size=100000000000 must be at most 1048576"),
        ({"val_lengths": []}, r"data.val_lengths=\[\]"),
        ({"val_lengths": [0]}, "data.val_lengths=0"),
        ({"max_val_tokens": 0}, "data.max_val_tokens=0"),
        ({"encoding": "utf-99"}, "data.encoding='utf-99' is unknown"),
        ({"document_separator": "("}, r"data.document_separator='\(' is no regular expression"),
        ({"train_files": None}, "data.root=None and data.train_files=None: give one"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(tmp_path: Path, settings, message: str):
    with pytest.raises(UsageError, match=message):
        make_text(tmp_path, **settings)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the cache .* cannot be used: .*\nset data.cache_dir"):
        make_text(tmp_path, cache_dir=str(tmp_path / "file")).prepare()


def test_a_vocabulary_that_the_text_cannot_fill_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        size = make_text(tmp_path, tokenizer="bpe", vocab_size=4000).vocab_size
    assert 257 < size < 4000
    assert f"data.vocab_size=4000 was asked for, but the training text gives {size} entries" in caplog.text
