"""An S4D layer: a diagonal system per channel, D skip, GELU and a gated linear unit."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.golden.case import Case
from tests.golden.replay import ACTIVATIONS, algorithms, batched, call, finish, leaves_of, unbatched
from tests.golden.s4d_kernel import build, parameters


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["postact"] == "glu" and config["glu_order"] == "value_then_gate" and not config["residual"]
    settings = {"activation": ACTIVATIONS[config["activation"]], "output": "full_glu"}
    for name in algorithms(build(config, **settings)):
        value, gate = leaves["out.weight"].chunk(2)
        value_bias, gate_bias = leaves["out.bias"].chunk(2)
        tensors = {
            **parameters(leaves),
            "output.project.weight": value,
            "output.project.bias": value_bias,
            "output.select.weight": gate,
            "output.select.bias": gate_bias,
        }
        outputs, _ = call(build(config, algorithm=name, **settings), tensors, batched(case, leaves["u"]))
        yield from finish(case, name, leaves, {"y": unbatched(case, outputs)})
