"""Builds stages from the YAML options of `conf/`, with small sizes that all differ where a test can tell them apart."""

import inspect
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from lcsm.components import resolve
from lcsm.stages.base import Expand, Input, Normaliser, Oscillation, Shrink, Source, Stage
from lcsm.stages.segments import starts
from lcsm.structures import Context, Decaying, Structure

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {
    "source": Source,
    "input": Input,
    "expand": Expand,
    "oscillation": Oscillation,
    "shrink": Shrink,
    "normaliser": Normaliser,
}
OPTIONS = {
    "source": "plain convolved",
    "input": "linear per_channel ones",
    "expand": "data_driven learned learned_channels hand_crafted hand_crafted_legs",
    "oscillation": """
        ones decay decay_rows decay_columns decay_full learned learned_rows learned_columns learned_full
        diag diag_scalar diag_columns diag_outer mixed_a mixed_b mixed_c mixed_d softmax
        rotation rotation_learned rotation_data complex_decay ssm ssm_plain dense dense_data
    """,
    "shrink": "data_driven learned learned_channels hand_crafted hand_crafted_normal memory memory_complex",
    "normaliser": "layer_norm group_norm rms_norm denominator identity",
}
SIZES = {"input_dim": 6, "d_model": 6, "num_heads": 2, "state_dim": 4, "value_dim": 3, "layer": 1, "num_layers": 4}
BATCH, LENGTH = 3, 7
LETTERS = {"L": (BATCH, LENGTH), "H": (2,), "N": (4,), "P": (3,)}


def names(group: str) -> list[str]:
    """The options of a group of which LCSM and its ablations are made."""
    return OPTIONS[group].split()


def settings(group: str, option: str) -> dict[str, Any]:
    """The settings of an option, with those of the options that it inherits from."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml"))
    inherited = [settings(group, parent) for parent in node.pop("defaults", []) if parent != "_self_"]
    return {key: value for part in [*inherited, node] for key, value in part.items()}


def build(group: str, option: str, **changes: Any) -> Any:
    """The stage of an option; `changes` override sizes and settings."""
    node = settings(group, option)
    component = resolve(group, node, GROUPS[group], ())
    accepted = inspect.signature(component).parameters
    sizes = SIZES | {"common": {}} | ({"value_dim": 1} if option == "ones" and group == "input" else {})
    arguments = {**{key: value for key, value in sizes.items() if key in accepted}, **node, **changes}
    arguments.pop("_target_")
    return component(**arguments)


def call(stage: Stage, x: torch.Tensor, past: Any = None, context: Any = None) -> tuple[Any, Any]:
    """The value and the past of a stage of any kind."""
    if isinstance(stage, Oscillation):
        return stage(x, torch.ones(1, 1, 1, 1, 1, dtype=x.dtype), past, context)
    if isinstance(stage, Shrink):
        return stage(x, torch.ones(1, 1, 1, 1, 1, dtype=x.dtype), None, past, context)
    return stage(x, past, context)


def documents(ids: list[int], start: int = 0, stop: int | None = None) -> Context:
    """The context of tokens start..stop of rows whose tokens belong to the documents `ids`."""
    return Context(resets=starts(torch.tensor([ids] * BATCH))[:, start:stop])


def example(**options: Any) -> torch.Tensor:
    """What a stage sees, [B L D]."""
    return torch.randn(BATCH, LENGTH, 6, **options)


def shape(declaration: str) -> tuple[int, ...]:
    """The shape [B L H N P] that a declaration promises."""
    sizes = {letter: LETTERS[letter] if letter in declaration else (1,) * len(LETTERS[letter]) for letter in LETTERS}
    return tuple(size for letter in "LHNP" for size in sizes[letter])


def parts(value: Any) -> dict[str, torch.Tensor]:
    """The tensors of what a stage returned, by name."""
    if isinstance(value, Structure):
        return value.tensors() | ({"log": value.log(0, LENGTH)} if isinstance(value, Decaying) else {})
    return value if isinstance(value, dict) else {"value": value}
