"""An LRU block: norm, LRU, GELU and a gate, residual."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from tests.golden.blocks import block_settings, block_tensors
from tests.golden.case import Case
from tests.golden.given import named_block
from tests.golden.lru import build, parameters, settings_of, system
from tests.golden.replay import algorithms, batched, call, finish, leaves_of, unbatched


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    settings = {**settings_of(config), **block_settings(config)}
    for name in algorithms(build(config)):
        tensors, x = parameters(leaves), batched(case, leaves["u"])
        given = block_tensors(tensors, leaves)
        block = named_block("lru", settings, name)
        outputs, _ = call(block, given, x)
        seen = call(block.mixer_norm, {key: leaves[f"norm.{key}"] for key in ("weight", "bias")}, x)
        found = system(case, partial(build, config, algorithm=name), tensors, seen if config["prenorm"] else x)
        yield from finish(case, name, leaves, {**found, "y": unbatched(case, outputs)})
