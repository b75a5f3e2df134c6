"""Checkpoints of unknown origin and damaged ones, given to evaluate, generate and convert."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from tests.faults.cases import EITHER, INVALID, LARGE, VALID, Case
from tests.faults.cases.editing import (
    BEST,
    Change,
    flipped_name,
    rewritten,
    with_bytes,
    with_config,
    with_header,
    with_tokenizer,
    with_weights,
)

EVALUATE = ("evaluate", f"ckpt={BEST}")
GENERATE = ("generate", f"ckpt={BEST}", "prompt=Über den ", "num_tokens=8")
CONVERT = ("convert", f"ckpt={BEST}")
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "1" * 6000
EVIL = "foreign_code.Evil"


class Reduced:
    """Runs code where a pickle of it is loaded without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import foreign_code; foreign_code.note('unpickled')",)


def pickled(content: Any) -> bytes:
    """A plain pickle."""
    return pickle.dumps(content)


def saved(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    """A zip archive that torch did not write."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return file.getvalue()


def compressed(content: bytes) -> bytes:
    """The same archive with every member compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    return file.getvalue()


def bomb(content: bytes) -> bytes:
    """The same archive with half a gibibyte of zeros that take half a mebibyte."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as target, \
            target.open("archive/data/9999", "w", force_zip64=True) as member:  # fmt: skip
        for _ in range(512):
            member.write(bytes(1 << 20))
    return file.getvalue()


def replaced(content: bytes) -> Change:
    """Another file in place of the checkpoint."""
    return with_bytes(lambda _: content)


def hostile(where: str) -> Change:
    """A checkpoint that holds an object which runs code, at some place."""

    def change(content: dict[str, Any]) -> None:
        node = content["lcsm"] if where == "header" else content["state_dict"] if where == "weights" else content
        node["extra"] = Reduced()

    return rewritten(change)


def popped(name: str) -> Change:
    """A checkpoint without one of its parts."""
    return rewritten(lambda content: (content.pop(name), None)[1])


# what no command may take, whatever it wants of it
FILES: dict[str, Change] = {
    "empty": replaced(b""),
    "text": replaced(b"no checkpoint\n"),
    "zeros": replaced(bytes(5000)),
    "pickle": replaced(pickled({"lcsm": {}})),
    "pickle that runs code": replaced(pickled(Reduced())),
    "pickle that runs code, before an archive": with_bytes(lambda content: pickled(Reduced()) + content),
    "old format that runs code": replaced(saved({"x": Reduced()}, _use_new_zipfile_serialization=False)),
    "extra key that runs code": hostile("content"),
    "header that runs code": hostile("header"),
    "weight that runs code": hostile("weights"),
    "foreign archive": replaced(archive(hello=b"text")),
    "archive without an index": with_bytes(lambda content: content[:-40]),
    "cut in half": with_bytes(lambda content: content[: len(content) // 2]),
    "first kilobyte": with_bytes(lambda content: content[:1000]),
    "name that is no UTF-8": with_bytes(flipped_name),
    "zeros in the middle": with_bytes(lambda content: content[:5000] + bytes(500) + content[5500:]),
    "compressed members": with_bytes(compressed),
    "bomb": with_bytes(bomb),
    "tensor": replaced(saved(torch.ones(3))),
    "state of a foreign model": replaced(saved({"state_dict": {"weight": torch.ones(3)}})),
    "list": replaced(saved([1, 2])),
    "no header": popped("lcsm"),
    "no weights": popped("state_dict"),
    "other format": with_header(format=99),
    "format as text": with_header(format="one"),
    "no configuration": rewritten(lambda content: (content["lcsm"].pop("config"), None)[1]),
    "configuration: no JSON": with_header(config="{"),
    "configuration: a number": with_header(config=3),
    "configuration: a list": with_header(config="[1, 2]"),
    "configuration: null": with_header(config="null"),
    "configuration: nested deep": with_header(config=DEEP),
    "configuration: long number": with_header(config=f'{{"seed": {LONG}}}'),
    "vocabulary: -5": with_header(vocab_size=-5),
    "vocabulary: text": with_header(vocab_size="x"),
    "vocabulary: 1e12": with_header(vocab_size=10**12),
    "step: text": with_header(step="x"),
    "data: null": with_header(data="null"),
    "data: nested deep": with_header(data=DEEP),
    "weights: numbers": rewritten(lambda content: content.update(state_dict={"model.x": 3})),
    "weights: text": rewritten(lambda content: content.update(state_dict="x")),
    "weights: one is no tensor": rewritten(lambda content: content["state_dict"].update({"model.embedding.weight": 3})),
    "weights: sparse": with_weights(lambda value: value.to_sparse() if value.ndim == 2 else value),
    "weights: whole numbers": with_weights(lambda value: (100 * value).long()),
    "weights: complex": with_weights(lambda value: value.to(torch.complex64) if value.is_floating_point() else value),
    "weights: NaN": with_weights(lambda value: value * float("nan")),
    "weights: one more axis": with_weights(lambda value: value[None]),
    "weights: one more": rewritten(lambda content: content["state_dict"].update({"model.x": torch.ones(3)})),
    "fingerprint of others": with_header(fingerprint="0" * 64),
    "class of its own": with_config(oscillation___target_=EVIL),
    "class of its own, allowed": with_config(oscillation___target_=EVIL, allow_targets=[EVIL]),
    "data of its own": with_config(data___target_=EVIL, allow_targets=[EVIL]),
    "system as data": with_config(data={"_target_": "os.system", "command": "touch ran"}),
    "a million layers": with_config(model__num_layers=1_000_000),
    "another width": with_config(model__d_model=32),
    "no data": with_config(data=None),
    "model: a list": with_config(model=[]),
}  # fmt: skip
# what the tokeniser of a checkpoint may not hold
TOKENIZERS: dict[str, Change] = {
    "padding that fills the memory": with_tokenizer(lambda definition: definition.update(padding={
        "strategy": {"Fixed": 2_000_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "a"})),
    "truncation to one token": with_tokenizer(lambda definition: definition.update(truncation={
        "max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"})),
    "expression": with_tokenizer(lambda definition: definition.update(pre_tokenizer={
        "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False})),
    "added token": with_tokenizer(lambda definition: definition.update(added_tokens=[{
        "id": 1_000_000, "content": "x", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True}])),
    "normaliser": with_tokenizer(lambda definition: definition.update(normalizer={"type": "NFC"})),
    "unknown key": with_tokenizer(lambda definition: definition.update(surprise=1)),
    "version": with_tokenizer(lambda definition: definition.update(version="9.9")),
    "vocabulary of texts": with_tokenizer(lambda definition: definition["model"].update(
        vocab={token: str(index) for token, index in definition["model"]["vocab"].items()})),
    "vocabulary of nulls": with_tokenizer(lambda definition: definition["model"].update(
        vocab=dict.fromkeys(definition["model"]["vocab"]))),
    "vocabulary that is a list": with_tokenizer(lambda definition: definition["model"].update(vocab=["a"])),
    "merges that are not there": with_tokenizer(lambda definition: definition["model"].update(merges=["zz zz"])),
    "merges of numbers": with_tokenizer(lambda definition: definition["model"].update(merges=[3])),
    "list as definition": with_tokenizer(lambda definition: [1]),
    "definition: null": with_header(tokenizer=json.dumps({"kind": "bpe", "json": None})),
    "state: a list": with_header(tokenizer="[1]"),
    "state: a number": with_header(tokenizer="3"),
    "state: null": with_header(tokenizer="null"),
    "kind: unknown": with_header(tokenizer=json.dumps({"kind": "words"})),
}  # fmt: skip
# what a checkpoint may say, but not decide: the data come from the command line, and processes too
DECISIONS: dict[str, Change] = {
    "cache elsewhere": with_config(data__cache_dir="../elsewhere"),
    "text of the system": with_config(data__train_files="/etc/passwd"),
    "processes of a loader": with_config(data__num_workers=24),
    "two devices": with_config(trainer__devices=2, trainer__strategy="ddp", trainer__accelerator="cpu"),
    "root elsewhere": with_config(paths={"root": "../elsewhere"}),
    "threads": with_config(threads=100_000),
}


def printed_once(work: Path) -> str:
    """Whether a table is printed once: the parent of this folder holds what the command said."""
    table = (work.parent / "out").read_text(encoding="utf-8")
    return "" if table.count("val/loss ") <= 1 else "the table is printed twice"


def cases() -> list[Case]:
    """All of them."""
    unsafe = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    found = [
        Case(f"evaluate a checkpoint: {name}", EVALUATE, INVALID, asset="recall", change=change, environment=unsafe)
        for name, change in FILES.items()
    ]
    both = ("empty", "pickle that runs code", "header that runs code", "configuration: null", "vocabulary: -5",
            "data: null", "weights: NaN", "weights: complex", "weights: one is no tensor", "a million layers",
            "name that is no UTF-8", "class of its own, allowed")  # fmt: skip
    for words, asset in ((GENERATE, "text"), (CONVERT, "tnn")):
        found += [
            Case(f"{words[0]} from a checkpoint: {name}", words, INVALID, asset=asset, change=FILES[name],
                 environment=unsafe)
            for name in both
        ]  # fmt: skip
    found += [
        Case(f"generate with a tokenizer: {name}", GENERATE, INVALID, asset="bpe", change=change)
        for name, change in TOKENIZERS.items()
    ]
    found += [
        Case(f"evaluate a checkpoint that decides: {name}", EVALUATE, EITHER, asset="text", change=change,
             check=printed_once)
        for name, change in DECISIONS.items()
    ]  # fmt: skip
    found += [
        Case("evaluate a checkpoint of a huge width", EVALUATE, LARGE, asset="recall",
             change=with_config(model__d_model=16 * 10**9)),
        Case("evaluate a checkpoint of half precision", EVALUATE, EITHER, asset="recall",
             change=with_weights(lambda value: value.half() if value.is_floating_point() else value)),
        Case("evaluate a whole checkpoint", EVALUATE, VALID, asset="recall"),
        Case("evaluate a whole run", ("evaluate", "ckpt=run", "paths.root=."), VALID, asset="text"),
        Case("generate from a whole checkpoint", GENERATE, VALID, asset="bpe"),
        Case("convert a whole checkpoint", (*CONVERT, "paths.root=."), VALID, asset="tnn"),
        Case("evaluate a checkpoint that may not be read", EVALUATE, INVALID, asset="recall",
             change=lambda work: (work / BEST).chmod(0), conditions=(("without_rights",),), never="truncated"),
        Case("evaluate a checkpoint in a closed folder", EVALUATE, INVALID, asset="recall",
             change=lambda work: (work / BEST).parent.chmod(0), conditions=(("without_rights",),)),
    ]  # fmt: skip
    return found
