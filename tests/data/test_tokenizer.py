"""Tokenizers are exact, and cutting a document for speed changes nothing."""

import json
import random
from typing import Any

import numpy as np
import pytest

from lcsm.data import tokenizer as module
from lcsm.data.tokenizer import BpeTokenizer, ByteTokenizer, Tokenizer, pieces, tokenizer_from_state, train_bpe
from lcsm.errors import UsageError

WORDS = ["hello", "world", "don't", "été", "日本語", "x=1", "42", "🙂", "\x00", "\x1c"]
SPACES = [" ", "\n", "  ", "\n\n", " \n", "\t", "\r\n", "\u00a0", "\u3000 "]

# what training writes
ORDINARY: dict[str, Any] = json.loads(train_bpe(["a"], 257).state()["json"])

# one that fills the memory
PADDING = {
    "strategy": {"Fixed": 2_000_000_000},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "x",
}


def messy(length: int, seed: int = 0) -> str:
    """Words with every kind of white space between them."""
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + draw.choice(SPACES) for _ in range(length))


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return ByteTokenizer() if request.param == "bytes" else train_bpe([messy(2000), "hello world " * 50], 320)


def test_decoding_gives_the_text_back(tokenizer: Tokenizer):
    text = messy(500, seed=1)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert max(tokenizer.encode(text)) < tokenizer.end_of_document == tokenizer.vocab_size - 1


def test_token_bytes_join_to_the_text(tokenizer: Tokenizer):
    text = messy(500, seed=2)
    table, lengths = tokenizer.token_bytes(), tokenizer.byte_lengths()
    ids = tokenizer.encode(text)
    assert b"".join(table[i] for i in ids) == text.encode()
    assert lengths[ids].sum() == len(text.encode()) and lengths[tokenizer.end_of_document] == 0


def test_documents_are_encoded_one_by_one_with_their_ends(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BUFFER", 1500)
    documents = [messy(n, seed=n) for n in (1, 300, 5, 800)]
    found = np.concatenate(list(tokenizer.encode_documents(documents))).tolist()
    expected = [i for text in documents for i in [*tokenizer.encode(text), tokenizer.end_of_document]]
    assert found == expected


@pytest.mark.parametrize("seed", range(20))
def test_cutting_into_pieces_changes_no_token(seed: int):
    tokenizer, text = train_bpe([messy(2000), "hello world " * 50], 320), messy(300, seed)
    parts = list(pieces(text, size=20))
    assert "".join(parts) == text and len(parts) > 5
    assert [i for part in parts for i in tokenizer.encode(part)] == tokenizer.encode(text)


def test_no_text_makes_the_end_of_a_document(tokenizer: Tokenizer):
    for text in ("<|endoftext|>", "</s>", "[SEP]"):
        assert tokenizer.end_of_document not in tokenizer.encode(text)
    assert tokenizer.decode([*tokenizer.encode("a"), tokenizer.end_of_document, *tokenizer.encode("b")]) == "ab"


def test_bytes_that_are_no_text_become_replacement_characters():
    assert ByteTokenizer().decode([0x61, 0xFF, 0x62]) == "a\ufffdb"


def test_ids_outside_of_the_vocabulary_are_refused(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match=r"outside of this tokenizer's vocabulary"):
        tokenizer.decode([0, tokenizer.vocab_size])


def test_training_twice_gives_the_same_tokenizer():
    assert train_bpe([messy(900)], 300).digest() == train_bpe([messy(900)], 300).digest()


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(UsageError, match=r"data.vocab_size=256 is too small"):
        train_bpe(["a"], 256)


@pytest.mark.parametrize(
    "part, value",
    [
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": False}),
        ("normalizer", {"type": "Lowercase"}),
        ("added_tokens", [{"id": 0, "content": "x"}]),
        ("model", {"type": "WordLevel", "vocab": {}, "unk_token": "x"}),
        ("model", {"type": "BPE", "vocab": {"a": 5}, "merges": []}),
        ("model", {"type": "BPE", "vocab": {" ": 0}, "merges": []}),
        ("model", {"type": "BPE", "vocab": {"a": "0"}, "merges": []}),
        ("model", {"type": "BPE", "vocab": {"a": None, "b": 1}, "merges": []}),
        ("model", {"type": "BPE", "vocab": {"a": 0}, "merges": []}),
        ("model", ORDINARY["model"] | {"dropout": 0.5}),
        ("model", ORDINARY["model"] | {"end_of_word_suffix": "x"}),
        ("pre_tokenizer", ORDINARY["pre_tokenizer"] | {"use_regex": False}),
        ("decoder", ORDINARY["decoder"] | {"more": 1}),
        ("padding", PADDING),
        ("truncation", {"max_length": 1, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}),
        ("surprise", 1),
    ],
)
def test_foreign_definitions_are_refused(part: str, value: object):
    with pytest.raises(UsageError, match=rf"unexpected {part}"):
        BpeTokenizer(json.dumps(ORDINARY | {part: value}))


def test_a_vocabulary_beyond_the_largest_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LARGEST_VOCABULARY", 256)
    with pytest.raises(UsageError, match=r"unexpected model"):
        BpeTokenizer(json.dumps(ORDINARY))


@pytest.mark.parametrize(("text", "what"), [("a\udcff", "byte 0xff at character 1"), ("\ud83d", r"\\ud83d, half")])
def test_a_text_that_no_utf8_holds_is_refused(tokenizer: Tokenizer, text: str, what: str):
    with pytest.raises(UsageError, match=f"the text is no text: {what}"):
        tokenizer.encode(text)


@pytest.mark.parametrize(
    "state",
    [
        *({}, {"kind": "words"}, {"kind": "bpe"}, [], ["bpe"], 3, None, {"kind": ["x" * 5000]}),
        *({"kind": "bpe", "json": text} for text in ("{", "[]", 3, None, "[" * 100_000, "1" * 6000)),
    ],
)
def test_broken_states_are_refused(state: Any):
    with pytest.raises(UsageError, match=r"tokenizer") as refused:
        tokenizer_from_state(state)
    assert len(str(refused.value)) < 500


def test_faults_of_the_library_become_one_line():
    class PanicException(BaseException):
        """As the library raises it: not an Exception."""

    for fault in (PanicException("no stack left"), Exception("broken merge")):
        with (
            pytest.raises(UsageError, match=rf"the text cannot be tokenised: {fault}"),
            module._library_errors("the text cannot be tokenised"),
        ):
            raise fault
