"""An optimiser, a schedule and a task of one's own, from a module beside the run."""

import csv
import sys
from pathlib import Path

import pytest

from tests.commands.helpers import RECALL, TINY, said

MODULE = '''
import torch

from lcsm.tasks.recall import Recall
from lcsm.training.schedules import WarmUp


class Sign(torch.optim.Optimizer):
    """Steps of one size along the sign of a running mean of the gradient, with decoupled weight decay."""

    def __init__(self, params, lr: float, momentum: float, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                    mean.lerp_(weight.grad, 1 - group["momentum"])
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * mean.sign())
        return loss


class Halving(WarmUp):
    """Warm-up, then half the rate after every `every` steps."""

    def __init__(self, warmup_steps: int, every: int):
        super().__init__(warmup_steps)
        self.every = every

    def after(self, step: int) -> float:
        return 0.5 ** (step // self.every)


class Again(Recall):
    """Recall under another name."""
'''
OPTIONS = {
    "optim": "_target_: my_learning.Sign\nlr: 0.01\nmomentum: 0.9\nweight_decay: 0.1\nembedding_decay: false\n",
    "schedule": "_target_: my_learning.Halving\nwarmup_steps: 0\nevery: 2\n",
}
ALLOWED = "allow_targets=[my_learning.Sign,my_learning.Halving,my_learning.Again]"
WORDS = ("train", *TINY, *RECALL, "--config-dir=conf", "optim=mine", "schedule=mine", "paths.root=runs")


@pytest.fixture(autouse=True)
def _beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the module and the options that name its classes."""
    (tmp_path / "my_learning.py").write_text(MODULE)
    for group, text in OPTIONS.items():
        (tmp_path / "conf" / group).mkdir(parents=True)
        (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_learning", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def rows(run: str) -> list[dict[str, str]]:
    """The table of a run."""
    with Path(run, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_own_optimiser_and_schedule_train_and_go_on_as_if_never_broken_off(capsys: pytest.CaptureFixture[str]):
    words = (*WORDS, ALLOWED, "optim.lr=0.01", "schedule.warmup_steps=0", "trainer.log_every_n_steps=1")
    assert said(capsys, *words, "hydra.run.dir=runs/whole")[0] == 0
    whole = rows("runs/whole")
    assert [float(row["lr/base"]) for row in whole] == [0.01, 0.01, 0.005, 0.005]
    assert said(capsys, *words, "hydra.run.dir=runs/broken", "trainer.max_steps=2")[0] == 0
    assert said(capsys, *words, "hydra.run.dir=runs/broken", "resume=auto")[0] == 0
    assert [row["train/loss"] for row in rows("runs/broken")] == [row["train/loss"] for row in whole]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["optim._target_=my_learning.Sign", "allow_targets=[my_learning.Sign]"]),
        (["allow_targets=[my_learning.Sign]"], ["schedule._target_=my_learning.Halving", "allow_targets"]),
        ([ALLOWED, "+optim.betas=[0.9,0.9]"], ["optim.betas", "Sign", "momentum"]),
        ([ALLOWED, "optim.momentum=high"], ["optim.momentum='high'", "number"]),
        ([ALLOWED, "schedule.every=two"], ["schedule.every='two'", "integer"]),
        ([ALLOWED, "~optim.embedding_decay"], ["optim.embedding_decay is missing"]),
        ([ALLOWED, "task._target_=my_learning.Again", "+task.weight=3"], ["task.weight=3", "Again"]),
        ([ALLOWED, "schedule._target_=my_learning.Sign"], ["schedule._target_", "lcsm.training.schedules.Schedule"]),
    ],
)
def test_own_classes_need_leave_and_have_their_settings_checked(
    words: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
):
    status, _, message = said(capsys, *WORDS, *words)
    assert status == 2 and all(name in message for name in named), message
    assert len(message.splitlines()) <= 3 and not Path("runs").exists()
