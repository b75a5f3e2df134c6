"""An S5 block: norm, S5, GELU and a gate, residual."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from tests.golden.blocks import block_settings, block_tensors
from tests.golden.case import Case
from tests.golden.given import named_block
from tests.golden.replay import algorithms, batched, call, finish, leaves_of, unbatched
from tests.golden.s5 import build, parameters, settings_of, system


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    settings = {**settings_of(config), **block_settings(config)}
    for name in algorithms(build(config)):
        tensors, x = parameters(config, leaves), batched(case, leaves["u"])
        given = block_tensors(tensors, leaves)
        block = named_block("s5", settings, name)
        outputs, _ = call(block, given, x)
        seen = call(block.mixer_norm, {key: leaves[f"norm.{key}"] for key in ("weight", "bias")}, x)
        inner = {**leaves, "u": unbatched(case, seen if config["prenorm"] else x)}
        found = system(case, partial(build, config, algorithm=name), tensors, inner)
        yield from finish(case, name, leaves, {**found, "y": unbatched(case, outputs)})
