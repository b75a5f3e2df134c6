"""A sigmoid forget gate and an exponential input gate, under a running maximum."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lcsm.mixers.eos import EosMixer, State
from lcsm.stages.gated.lstm_gates import ExponentialInputGate
from lcsm.stages.normaliser import Denominator
from tests.golden.case import Case
from tests.golden.given import GivenSource, build, heads, replayed, selection
from tests.golden.replay import leaves_of


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    assert config["forget_activation"] == "logsigmoid" and config["input_activation"] == "exp"
    num_heads, columns = config["H"], config["d"]

    def make(**settings: str) -> EosMixer:
        source = GivenSource(num_heads * columns, oscillation=torch.cat([leaves["fg"], leaves["ig"]], -1))
        gates = ExponentialInputGate(2 * num_heads, num_heads, None, [3.0, 6.0], -10.0, 0.0)
        normaliser, sizes = Denominator("at_least_one", config["eps"]), (num_heads, config["k"], columns)
        query = config["scale"] * leaves["q"]
        return build(sizes, leaves["v"], leaves["k"], gates, query, normaliser, source, **settings)

    def found(outputs: Tensor, state: State) -> dict[str, Tensor]:
        memory = state.memory
        final = {"c_final": memory[..., :columns], "n_final": memory[..., -1], "max_final": state.log_scale[..., 0]}
        return {"y": heads(outputs, num_heads), **final}

    weights, zero = selection(num_heads, num_heads), torch.zeros(num_heads, dtype=torch.float64)
    tensors = {}
    for gate, weight in zip(("forget", "input"), weights, strict=True):
        tensors |= {f"oscillation.project_{gate}.weight": weight, f"oscillation.project_{gate}.bias": zero}
    state = State()
    if config["initial_state"] == "given":
        memory = torch.cat([leaves["c_init"], leaves["n_init"][..., None]], -1)
        state = State(memory, leaves["max_init"][..., None])
    yield from replayed(case, leaves, make, tensors, found, state=state)
