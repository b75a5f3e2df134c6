"""Cases from a seeded generator: right and wrong settings mixed, texts and checkpoints damaged at random places."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from tests.faults.cases import EITHER, INVALID, ON_TEXT, PROSE, TEXT, TRAIN, VALID, Case
from tests.faults.cases.checkpoints import GENERATE
from tests.faults.cases.commands import WRONG as WRONG_OF
from tests.faults.cases.editing import BEST, flipped, with_bytes
from tests.faults.cases.general import WRONG
from tests.faults.cases.texts import ROW

# settings that go together in any number
FINE: dict[str, tuple[str, ...]] = {
    "optim.lr": ("1e-4", "0.1", "1"),
    "optim.weight_decay": ("0", "0.5"),
    "seed": ("0", "7", "4294967295"),
    "model.num_layers": ("1", "2"),
    "model.dropout": ("0", "0.3", "1.0"),
    "data.num_pairs": ("1", "3", "[1,2]"),
    "data.power_a": ("0.01", "1"),
    "trainer.gradient_clip_val": ("null", "0.5"),
    "trainer.precision": ("64-true", "32-true"),
    "oscillation": ("ones", "diag", "dense", "gla"),
    "schedule": ("constant", "inverse_sqrt"),
    "callbacks.checkpoint.every": ("1", "null"),
    "callbacks.patience": ("1", "null"),
    "block": ("pre_norm", "post_norm", "pre_rms_norm"),
    "channel": ("none", "glu", "mlp"),
}
FINE_SAMPLING: dict[str, tuple[str, ...]] = {
    "temperature": ("0", "0.1", "5"),
    "top_k": ("1", "300"),
    "top_p": ("0.1", "1"),
    "seed": ("0", "9"),
    "stream": ("auto", "ring"),
}


def some(chooser: random.Random, table: dict[str, tuple[str, ...]]) -> list[str]:
    """Up to four settings of a table."""
    return [f"{key}={chooser.choice(table[key])}" for key in chooser.sample(sorted(table), chooser.randint(1, 4))]


def settings(chooser: random.Random) -> Case:
    """Words of a training run, half the time with wrong ones among them."""
    words = some(chooser, FINE)
    wrong = chooser.sample(WRONG, chooser.choice((0, 0, 1, 2)))
    keys = {word.partition("=")[0] for word in wrong}
    words = [word for word in words if word.partition("=")[0] not in keys] + wrong
    chooser.shuffle(words)
    return Case(f"train {' '.join(words)[:90]}", (*TRAIN, *words), INVALID if wrong else VALID)


def experiment(chooser: random.Random) -> Case:
    """The same as an experiment's file, without groups."""
    words = [word for word in some(chooser, FINE) if word.partition("=")[0].count(".") == 1]
    lines = [f"  {word.partition('=')[0].rpartition('.')[2]}: {word.partition('=')[2]}" for word in words]
    groups = [word.partition(".")[0] for word in words]
    wrong = chooser.choice(("", "", "nothing: 1\n", "seed: -1\n", "optim: 3\n", "seed: [\n"))
    text = "# @package _global_\n" + wrong
    for group in sorted(set(groups) - {wrong.partition(":")[0]}):
        text += f"{group}:\n" + "".join(f"{line}\n" for line, its in zip(lines, groups, strict=True) if its == group)
    name = f"experiment {' '.join(text.split()[3:])} {chooser.random():.6f}"
    words = (*TRAIN, "--config-dir=mine", "experiment=mine")
    return Case(name, words, INVALID if wrong else VALID, {"mine/experiment/mine.yaml": text})


def sampling(chooser: random.Random) -> Case:
    """Words of generate, half the time with a wrong one among them."""
    words = some(chooser, FINE_SAMPLING)
    asset = "tnn" if "stream=ring" in words else "text"
    wrong = chooser.sample([word for word in WRONG_OF[GENERATE] if "stream" not in word], chooser.randint(0, 1))
    keys = {word.partition("=")[0] for word in wrong}
    words = [word for word in words if word.partition("=")[0] not in keys] + wrong
    return Case(f"generate {' '.join(words)}", (*GENERATE, *words), INVALID if wrong else VALID, asset=asset)


def damaged(chooser: random.Random, content: bytes) -> bytes:
    """A few bytes flipped, inserted or left out."""
    changed = bytearray(content)
    for _ in range(chooser.randint(1, 3)):
        place = chooser.randrange(len(changed))
        how = chooser.choice(("flip", "insert", "leave out"))
        if how == "flip":
            changed[place] ^= 1 << chooser.randrange(8)
        elif how == "insert":
            changed[place:place] = bytes([chooser.randrange(256)])
        else:
            del changed[place]
    return bytes(changed)


def text(chooser: random.Random) -> Case:
    """A text with a few bytes damaged; right as long as it is UTF-8."""
    content = damaged(chooser, PROSE.encode())
    return Case(f"text {chooser.random():.6f}", TEXT, VALID if readable(content) else INVALID, {"t.txt": content})


def readable(content: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def rows(chooser: random.Random) -> Case:
    """JSON lines of which one is damaged; right as long as each is an object with a text."""
    line = damaged(chooser, ROW.encode())
    content = b"\n".join([line, *[ROW.encode()] * 20])
    expected = VALID if readable(content) and all(map(holds_text, content.decode().split("\n"))) else INVALID
    return Case(f"JSON {chooser.random():.6f}", (*ON_TEXT, "data.train_files=t.jsonl"), expected, {"t.jsonl": content})


def holds_text(line: str) -> bool:
    """Whether a line of JSON is empty or an object with a text."""
    try:
        value = json.loads(line) if line.strip() else {"text": ""}
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and isinstance(value.get("text", 0), (str, type(None)))


def checkpoint(chooser: random.Random) -> Case:
    """A checkpoint cut, or with one bit flipped, at a random place; a flip that nobody reads changes no score."""
    place, bit, cut = chooser.random(), chooser.randrange(8), chooser.random() < 0.3

    def change(content: bytes) -> bytes:
        position = int(place * len(content))
        return content[:position] if cut else flipped(content, position, bit)

    what = f"cut at {place:.6f}" if cut else f"bit {bit} flipped at {place:.6f}"
    words = ("evaluate", f"ckpt={BEST}", "format=json")
    return Case(f"checkpoint {what}", words, INVALID if cut else EITHER, asset="recall", change=with_bytes(change),
                check=same_score)  # fmt: skip


def same_score(work: Path) -> str:
    """Whether a checkpoint that was accepted scored as the run said."""
    lines = (work.parent / "out").read_text().splitlines()
    if not lines:
        return ""
    end = json.loads((work / "run/end.json").read_text())
    measured = json.loads(lines[-1])["val/accuracy"]
    return "" if abs(measured - end["best/val/accuracy"]) < 1e-6 else f"scores {measured} after the damage"


MAKERS: tuple[Callable[[random.Random], Case], ...] = (settings, experiment, sampling, text, rows, checkpoint)


def cases(number: int, seed: int) -> list[Case]:
    """So many of them, all kinds in turn, without repetitions."""
    chooser = random.Random(seed)
    found: dict[str, Case] = {}
    while len(found) < number:
        case = MAKERS[len(found) % len(MAKERS)](chooser)
        found.setdefault(case.name, case)
    return list(found.values())
