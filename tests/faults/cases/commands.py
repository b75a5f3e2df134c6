"""Words of evaluate, generate, convert and show."""

from __future__ import annotations

from tests.faults.cases import EITHER, INVALID, VALID, Case
from tests.faults.cases.checkpoints import CONVERT, EVALUATE, GENERATE

PLACES = ("ckpt=nothing", "ckpt=", "ckpt=" + "n" * 5000, "ckpt=http://127.0.0.1:9/x.ckpt", "ckpt=file:/x.ckpt",
          "ckpt=memory://x", "ckpt=cache", "ckpt=/dev/null", "ckpt=t.txt", "ckpt=t.txt/x")  # fmt: skip
WRONG = {
    EVALUATE: (
        "format=yaml", "threads=0", "threads=x", "threads=100000", "allow_targets=[", "data.num_vla=3",
        "data.num_val=0", "data.num_val=1,2", "data.num_val=x", "trainer.devices=1000", "trainer.max_steps=5",
        "trainer.limit_val_batches=0", "trainer.precision=8", "model.d_model=8", "dat.num_val=3", "ckpt=run",
        "data.length='3", "data=mqar", "data._target_=os.system", "data.vocab_size=64", "+data.x=3", "x",
    ),
    GENERATE: (
        "num_tokens=0", "num_tokens=-1", "num_tokens=1.5", "temperature=-1", "temperature=nan", "temperature=x",
        "top_k=0", "top_p=0", "top_p=1.1", "seed=-1", "seed=18446744073709551616", "stream=ring", "stream=nothing",
        "tolerance=5", "tolerance=0", "threads=0", "threads=100000", "allow_targets=[", "prompt=twice",
        "tempreature=1", "data.length=3",
    ),
    CONVERT: (
        "method=prony", "tolerance=0", "tolerance=1", "tolerance=nan", "lags=0", "max_order=0", "measure=maybe",
        "measure=false data.val_files=x", "out=.", "out=x.md", "out=t.txt/x.ckpt", "out=run/checkpoints/best.ckpt",
        "data.val_flies=x", "threads=0", "allow_targets=[",
    ),
    ("show",): (
        "length=0", "vocab_size=0", "length=-1", "vocab_size=1", "length=x", "format=yaml", "model=dig", "-m",
        "seed=1,2", "model.d_model=0", "--all model=gla", "--all vocab_size=9", "--no-such-flag",
        "oscillation._target_=os.system", "--config-dir=nothing", "optim.lr=nan",
    ),
}  # fmt: skip
RIGHT = (
    ("recall", (*EVALUATE, "format=json")), ("recall", (*EVALUATE, "data.num_val=8", "trainer.limit_val_batches=1")),
    ("recall", (*EVALUATE, "threads=1")), ("text", (*GENERATE, "temperature=0")),
    ("text", (*GENERATE, "top_k=3", "top_p=0.5")), ("tnn", (*GENERATE, "stream=ring")),
    ("tnn", (*CONVERT, "method=etsc", "measure=false", "out=new.ckpt")), (None, ("show",)),
    (None, ("show", "model=mamba", "format=json")), (None, ("show", "task=lm", "length=4096")),
)  # fmt: skip
ASSETS = {EVALUATE: "recall", GENERATE: "text", CONVERT: "tnn", ("show",): None}


def cases() -> list[Case]:
    """All of them."""
    found = [
        Case(f"{words[0]} {word[:40]}", (*words, *word.split()), INVALID, asset=ASSETS[words])
        for words, wrong in WRONG.items()
        for word in wrong
    ]
    found += [
        Case(f"{words[0]} {place[:40]}", (words[0], place, *words[2:]), INVALID, asset=ASSETS[words])
        for words in (EVALUATE, GENERATE, CONVERT)
        for place in PLACES
    ]
    found += [Case(f"{words[0]}, right: {' '.join(words[1:])}", words, VALID, asset=asset) for asset, words in RIGHT]
    prompt = GENERATE[:2]
    found += [
        Case("generate without a prompt", prompt, INVALID, asset="text"),
        Case("generate from an empty prompt", (*prompt, "prompt="), INVALID, asset="text"),
        Case("generate from a run that knows no text", GENERATE, INVALID, asset="recall"),
        Case("convert what needs no conversion", CONVERT, INVALID, asset="text"),
        Case("generate from a file", (*prompt, "prompt=-", "num_tokens=4"), VALID, asset="text", stdin="t.txt"),
        Case("generate from an empty file", (*prompt, "prompt=-"), INVALID, asset="text"),
        Case("generate from bytes", (*prompt, "prompt=-"), EITHER, {"bytes": b"\xff\xfe\x80" * 9}, asset="text",
             stdin="bytes"),
    ]  # fmt: skip
    found += [
        Case(f"generate from bytes on the command line, {asset}", (*prompt, "prompt=\udcff", "num_tokens=4"), EITHER,
             asset=asset)
        for asset in ("text", "bpe")
    ]  # fmt: skip
    return found
