"""Lightning strategies that a run can use."""

from __future__ import annotations

from typing import Any

from lcsm.errors import UsageError

# Beginnings of the names of strategies that split parameters over devices. The parts take the place of the model's
# parameters: they lack the marks that choose decay and learning rate, and their gradients cannot be clipped by norm.
SPLITTING = ("fsdp", "deepspeed", "model_parallel")


def check_strategy(trainer: dict[str, Any]) -> None:
    """Refuse the strategies with which gradients and parameter groups would be others, or a run would not start.

    Args:
        trainer: the `trainer` node.
    Raises:
        UsageError: the strategy splits parameters over devices, or starts processes that share nothing.
    """
    strategy = trainer.get("strategy", "auto")
    if "spawn" in str(strategy):
        raise UsageError(
            f"trainer.strategy={strategy} would hand the run to new processes as a file, which it is not made for\n"
            "use trainer.strategy=ddp, which starts the same command on every device"
        )
    if str(strategy).startswith(SPLITTING):
        raise UsageError(
            f"trainer.strategy={strategy} splits parameters, which loses their groups and the norm of the gradient\n"
            "keep the whole model on every device with trainer.strategy=ddp"
        )
