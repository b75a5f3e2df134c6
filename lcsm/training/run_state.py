"""The state beside the weights that a checkpoint needs for a run to go on from it."""

from __future__ import annotations

from typing import Any

from lcsm.errors import UsageError, shortened
from lcsm.training.checkpoints import Checkpoint

# what a run is continued from, and its kind
RUN: dict[str, type] = {
    "epoch": int,
    "global_step": int,
    "loops/fit_loop/epoch_loop.batch_progress": dict,
    "loops/fit_loop/epoch_loop.batch_progress/total/processed": int,
    "loops/fit_loop/epoch_loop.val_loop.batch_progress": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}


def require_run(checkpoint: Checkpoint) -> None:
    """Whether a checkpoint holds the state of a run beside its weights, so that one can continue from it.

    Raises:
        UsageError: it does not; names what is missing or of another kind.
    """
    content = checkpoint.content
    for place, kind in RUN.items():
        node: Any = content
        for name in place.split("/"):
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, kind) or not all(isinstance(state, dict) for state in states(place, node)):
            raise UsageError(
                f"checkpoint {checkpoint.path} cannot be continued: its {place} is {shortened(node)}\n"
                "it is damaged, or holds weights alone as a converted one does: take last.ckpt or best.ckpt of the run"
            )
    if content["global_step"] != checkpoint.step:
        raise UsageError(
            f"checkpoint {checkpoint.path} is damaged: its step is {checkpoint.step}, that of its run "
            f"{shortened(content['global_step'])}"
        )


def states(place: str, node: Any) -> list[Any]:
    """The parts of a run's state that must be mappings: one for every callback, optimiser and schedule."""
    if place == "callbacks":
        return list(node.values())
    # a run has one optimiser and one schedule at least
    return (node or [None]) if place in ("optimizer_states", "lr_schedulers") else []
