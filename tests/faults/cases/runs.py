"""Damaged run directories that are to be continued."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.faults.assets import RUN
from tests.faults.cases import EITHER, INVALID, TRAIN, VALID, Case
from tests.faults.cases.editing import BEST, LAST, Change, flipped_name, rewritten, with_bytes

AGAIN = (*(word for word in TRAIN if not word.startswith("trainer.max_steps")), *RUN, "trainer.max_steps=4")
AUTO = (*AGAIN, "resume=auto")
# keys that make another run of it
OTHER = ("optim.lr=0.5", "data.batch_size=8", "seed=2", "model.d_model=32", "oscillation=ones",
         "trainer.precision=64-true")  # fmt: skip


def both(change: Change) -> Change:
    """The same change to last.ckpt and best.ckpt."""

    def apply(work: Path) -> None:
        change(work)
        (work / BEST).write_bytes((work / LAST).read_bytes())

    return apply


def last(change: Any) -> Change:
    """Changes the content of last.ckpt; best.ckpt is as good as new."""
    return rewritten(change, LAST)


def folder(name: str) -> Change:
    """A folder in place of a file."""

    def apply(work: Path) -> None:
        path = work / "run" / name
        path.unlink(missing_ok=True)
        path.mkdir()

    return apply


def written(name: str, content: bytes) -> Change:
    """A file with other content."""
    return lambda work: (work / "run" / name).write_bytes(content)


def cut(content: bytes) -> bytes:
    """The first half."""
    return content[: len(content) // 2]


# one file damaged, best.ckpt whole: the run goes on
SURVIVED: dict[str, Change] = {
    "nothing": lambda work: None,
    "last.ckpt cut": with_bytes(cut, LAST),
    "last.ckpt empty": with_bytes(lambda content: b"", LAST),
    "last.ckpt text": with_bytes(lambda content: b"hello", LAST),
    "last.ckpt gone": lambda work: (work / LAST).unlink(),
    "last.ckpt with a name that is no UTF-8": with_bytes(flipped_name, LAST),
    "best.ckpt cut": with_bytes(cut, BEST),
    "temporary files left": written("checkpoints/.unfinished-last.ckpt-1", b"x"),
    "lock of a dead process": written(".lock", b"pid 1 on elsewhere"),
    "end.json cut": written("end.json", b'{"st'),
    "no metrics.csv": lambda work: (work / "run/metrics.csv").unlink(),
    "empty metrics.csv": written("metrics.csv", b""),
}
# damages of which some can be survived: either way is right
CHOSEN: dict[str, Change] = {
    "metrics.csv of bytes": written("metrics.csv", b"\xff\xfe\0\x01" * 40),
    "metrics.csv with other columns": written("metrics.csv", b"time,step\r\nnoon,1\r\n"),
    "metrics.csv with words": written("metrics.csv", b"step,train/loss\r\none,2\r\n"),
    "metrics.csv cut": lambda work: os.truncate(work / "run/metrics.csv", 30),
    "metrics.csv a folder": folder("metrics.csv"),
    ".lock a folder": folder(".lock"),
    "end.json a folder": folder("end.json"),
    "last.ckpt a folder": folder("checkpoints/last.ckpt"),
    "config.yaml broken": written("config.yaml", b"model: ["),
    "config.yaml a folder": folder("config.yaml"),
}
# the checkpoint that is taken lacks what a run needs to go on
UNFIT: dict[str, Change] = {
    "no loops": both(last(lambda content: (content.pop("loops"), None)[1])),
    "no optimiser": both(last(lambda content: (content.pop("optimizer_states"), None)[1])),
    "no schedule": both(last(lambda content: (content.pop("lr_schedulers"), None)[1])),
    "no callbacks": both(last(lambda content: (content.pop("callbacks"), None)[1])),
    "empty loops": both(last(lambda content: content.update(loops={}))),
    "step: text": both(last(lambda content: content["lcsm"].update(step="x"))),
    "whole-number weights": both(last(lambda content: content["state_dict"].update(
        {name: value.long() for name, value in content["state_dict"].items()}))),
    "two bad files": both(with_bytes(cut, LAST)),
}  # fmt: skip


def cases() -> list[Case]:
    """All of them."""
    found = [Case(f"resume, {name}", AUTO, VALID, asset="recall", change=change) for name, change in SURVIVED.items()]
    found += [Case(f"resume, {name}", AUTO, EITHER, asset="recall", change=change) for name, change in CHOSEN.items()]
    found += [Case(f"resume, {name}", AUTO, INVALID, asset="recall", change=change) for name, change in UNFIT.items()]
    found += [
        Case(f"resume with {word}", (*AUTO, word), INVALID, asset="recall", never="the configuration wins")
        for word in OTHER
    ]
    found += [
        Case("resume into last.ckpt a folder says no word of room", AUTO, EITHER, asset="recall",
             change=folder("checkpoints/last.ckpt"), never="make room"),
        Case("start where a run is", AGAIN, INVALID, asset="recall"),
        Case("resume at the end", (*AUTO, "trainer.max_steps=2"), VALID, asset="recall"),
        Case("resume beyond the end", (*AUTO, "trainer.max_steps=1"), VALID, asset="recall"),
        Case("resume by path", (*AGAIN, f"resume={LAST}"), VALID, asset="recall"),
        Case("resume by the path of a run, elsewhere", (*AGAIN, "hydra.run.dir=new", "resume=run"), VALID,
             asset="recall"),
        Case("resume a text as a recall task", (*AUTO,), INVALID, asset="text"),
    ]  # fmt: skip
    return found
