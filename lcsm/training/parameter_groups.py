"""Parameter groups, each with its learning rate and weight decay, and the optimiser over them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from lcsm.components import resolve
from lcsm.errors import UsageError
from lcsm.training.schedules import build_schedule

# classes outside lcsm that the shipped options name
SHIPPED = ("torch.optim.AdamW", "torch.optim.SGD")
# settings of the groups; every other key of `optim` is an argument of the optimiser
GROUPING = ("_target_", "lr", "weight_decay", "embedding_decay", "groups")


def takes_decay(parameter: nn.Parameter, name: str, owner: nn.Module, embedding_decay: bool) -> bool:
    """Whether weight decay applies to a parameter.

    Decay pulls matrices towards zero. It leaves alone what is marked `_no_decay` (decays, steps, slopes), biases,
    parameters of norms, everything with fewer than two axes, and embeddings unless `embedding_decay`.
    """
    if getattr(parameter, "_no_decay", False) or parameter.ndim < 2 or name.rpartition(".")[2].endswith("bias"):
        return False
    if "norm" in type(owner).__name__.lower():
        return False
    return embedding_decay if isinstance(owner, nn.Embedding) else True


def parameter_groups(model: nn.Module, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters grouped by their rate and decay, as torch optimisers take them.

    Args:
        model: its trainable parameters are grouped; a shared one belongs to its first owner.
        config: `optim` node: lr, weight_decay, embedding_decay and groups, `{name: {lr, weight_decay, match}}`. A group
            holds the parameters that are marked with its name, and those whose names fit a pattern of `match`, such as
            "*.expand.*", which wins over a mark; of several groups the first one that fits. A null lr is the base lr, a
            null weight_decay the rule of `takes_decay`; a number holds for all parameters of the group.
    Raises:
        UsageError: a rate is out of range, or there is nothing to optimise.
    Returns:
        Dicts with name, lr, weight_decay, params and the names of the parameters (`parameter_names`), largest group
        first.
    """
    check_rates(config)
    groups: dict[str, dict[str, Any]] = {}
    owners = {
        id(module_parameter): module
        for module in reversed([*model.modules()])
        for module_parameter in module.parameters(recurse=False)
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        mark = matching(name, config) or getattr(parameter, "_lr_group", None)
        own = (config.get("groups") or {}).get(mark) or {}
        lr = config["lr"] if own.get("lr") is None else own["lr"]
        decays = takes_decay(parameter, name, owners[id(parameter)], config["embedding_decay"])
        decay = (config["weight_decay"] if decays else 0.0) if own.get("weight_decay") is None else own["weight_decay"]
        label = (mark or "base") if decay else f"{mark or 'base'}_no_decay"
        group = groups.setdefault(
            label, {"name": label, "lr": float(lr), "weight_decay": float(decay), "params": [], "parameter_names": []}
        )
        group["params"].append(parameter)
        group["parameter_names"].append(name)
    if not groups:
        raise UsageError(f"{type(model).__name__} has no trainable parameter; there is nothing to optimise")
    return sorted(groups.values(), key=lambda group: -sum(p.numel() for p in group["params"]))


def matching(name: str, config: dict[str, Any]) -> str | None:
    """The first group with a pattern that fits the name of a parameter."""
    for group, own in (config.get("groups") or {}).items():
        if any(fnmatchcase(name, pattern) for pattern in (own or {}).get("match") or ()):
            return str(group)
    return None


def refuse_idle_patterns(model: nn.Module, config: dict[str, Any], shipped: Container[str]) -> None:
    """Refuse patterns of groups that fit no parameter, and so would change nothing.

    Args:
        model, config: as in `parameter_groups`.
        shipped: patterns that a model brings for its stages; those of a stage that was replaced fit nothing.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for group, own in (config.get("groups") or {}).items():
        for pattern in (own or {}).get("match") or ():
            if pattern not in shipped and not any(fnmatchcase(name, pattern) for name in names):
                raise UsageError(
                    f"optim.groups.{group}.match={pattern!r} fits no parameter of {type(model).__name__}, whose names "
                    f"are such as\n{', '.join(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))}"
                )


def check_rates(config: dict[str, Any]) -> None:
    """Refuse rates that are not finite or negative."""
    nodes = {"optim": config} | {
        f"optim.groups.{name}": node or {} for name, node in (config.get("groups") or {}).items()
    }
    for path, node in nodes.items():
        if not isinstance(node, dict):
            raise UsageError(f"{path}={node!r} must hold settings of the group, e.g. {path}={{lr: 1e-3}}")
        match = node.get("match") if path != "optim" else None
        if match is not None and not (isinstance(match, list) and all(isinstance(pattern, str) for pattern in match)):
            raise UsageError(f"{path}.match={match!r} must be a list of patterns such as ['*.expand.*']")
        for key in ("lr", "weight_decay"):
            value = node.get(key)
            if value is None and path != "optim":
                continue
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise UsageError(f"{path}.{key}={value} must be a finite number >= 0")


def group_table(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per group, for the log: name, lr, weight_decay, count of numbers, names of the parameters."""
    return [
        {
            "name": group["name"],
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "count": sum(p.numel() for p in group["params"]),
            "parameters": list(group["parameter_names"]),
        }
        for group in groups
    ]


def group_lines(groups: list[dict[str, Any]]) -> list[str]:
    """One line per group for logs; equal parameters of several layers are named once, "layers.*.mixer.skip.weight"."""
    return [
        f"group {row['name']}: lr {row['lr']:g}, weight decay {row['weight_decay']:g}, {row['count']:,} numbers: "
        + ", ".join(dict.fromkeys(re.sub(r"\blayers\.\d+\.", "layers.*.", name) for name in row["parameters"]))
        for row in group_table(groups)
    ]


def build_optimiser(config: dict[str, Any]) -> Callable[[nn.Module], tuple[Optimizer, LRScheduler]]:
    """The callable that a task uses to make its optimiser and schedule.

    Args:
        config: the whole configuration; `optim`, `schedule`, `trainer` and `allow_targets` are read.
    Raises:
        UsageError: a class that cannot be found or an illegal value, found now and not when training starts.
    """
    settings, allowed = config["optim"], config.get("allow_targets") or ()
    component = resolve("optim", settings, Optimizer, (*allowed, *SHIPPED))
    check_rates(settings)
    arguments = {key: value for key, value in settings.items() if key not in GROUPING}
    build_schedule(config["schedule"], allowed)
    trainer = config.get("trainer") or {}
    max_time = config["schedule"].get("max_time")
    if max_time is not None and trainer.get("max_time") is None:
        raise UsageError(
            f"schedule.max_time={max_time} needs a run that time ends: set trainer.max_time, which it follows by itself"
        )
    precision, clips = str(trainer.get("precision", "")), trainer.get("gradient_clip_val") is not None
    if precision == "16-mixed" or (precision.endswith("mixed") and clips):
        # a fused optimiser unscales gradients by itself, too late for their norm; Lightning refuses to clip them
        arguments.pop("fused", None)

    def optimise(model: nn.Module) -> tuple[Optimizer, LRScheduler]:
        groups = parameter_groups(model, settings)
        for group in groups:
            # the optimiser stores its groups in checkpoints; the names are for the table only
            del group["parameter_names"]
        try:
            optimiser = component(groups, lr=settings["lr"], **arguments)
        except (TypeError, ValueError) as error:
            raise UsageError(f"optim: {component.__name__}: {error}") from error
        if "weight_decay" not in optimiser.defaults and any(group["weight_decay"] for group in groups):
            raise UsageError(
                f"optim.weight_decay={settings['weight_decay']}: {component.__name__} takes no weight decay;\n"
                "set it, and that of optim.groups, to 0"
            )
        factors: list[Callable[[int], float]] = [build_schedule(config["schedule"], allowed) for _ in groups]
        return optimiser, LambdaLR(optimiser, factors)

    return optimise
