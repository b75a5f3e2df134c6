"""An RWKV-4 block: token shift, weights over time, receptance; then channel mixing, both with residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.models.block import Block
from lcsm.models.channel import ShiftedMlp
from lcsm.ops.dispatch import fitting
from lcsm.stages.expand import HandCrafted
from lcsm.stages.input import Projection
from lcsm.stages.normaliser import Denominator
from lcsm.stages.oscillation.exponential_rate import WeightedRate
from lcsm.stages.present import PresentOnes
from lcsm.stages.token_shift import TokenShift
from tests.golden.case import Case
from tests.golden.given import build
from tests.golden.replay import call, finish, leaves_of

# theirs -> ours
MIXER = {
    "value.weight": "input.projection.weight",
    "key.weight": "oscillation.projection.weight",
    "receptance.weight": "output.gate.weight",
    "output.weight": "output.project.weight",
    "time_mix_value": "source.shares.input",
    "time_mix_key": "source.shares.oscillation",
    "time_mix_receptance": "source.shares.gate",
    "time_decay": "oscillation.log_rate",
    "time_first": "shrink.bonus",
}
CHANNEL = {
    "key.weight": "expand.weight",
    "receptance.weight": "gate.weight",
    "value.weight": "contract.weight",
    "time_mix_key": "shares.key",
    "time_mix_receptance": "shares.gate",
}


def block_of(config: dict[str, Any], algorithm: str) -> Block:
    """The block in double precision."""
    assert config["norm"] == "layernorm" and config["prenorm"] and config["residual"] and not config["bias"]
    assert config["time_mix_start"] == "zero" and config["decay_rule"] == "exp(-exp(time_decay))"
    width, channels = config["d_model"], config["d_attention"]
    mix = {reader: [1.0, 0.0] for reader in ("input", "oscillation", "gate")}
    mixer = build(
        (channels, 1, 1),
        Projection(width, channels, 1, "identity", False, None),
        HandCrafted(channels, 1, "ones", "identity"),
        WeightedRate(width, channels, 1, 0, 1, -5.0, 8.0, -1e38),
        PresentOnes(channels, 1),
        Denominator("clamp", 1e-30),
        TokenShift(width, 0, 1, mix),
        d_model=width,
        gate=config["receptance_activation"],
        output="linear",
        algorithm=algorithm,
    )
    ratio, mix = config["d_ffn"] / width, {part: [1.0, 0.0] for part in ("key", "gate")}
    channel = ShiftedMlp(width, 0, 1, ratio, config["ffn_activation"], gate=True, mix=mix)
    return Block(mixer, channel, width, "layer", config["norm_eps"], config["dropout"], "pre", False).double()


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    tensors = {f"mixer.{ours}": leaves[f"attention.{theirs}"] for theirs, ours in MIXER.items()}
    tensors |= {f"channel.{ours}": leaves[f"feed_forward.{theirs}"] for theirs, ours in CHANNEL.items()}
    tensors = {name: value.flatten() if "shares" in name else value for name, value in tensors.items()}
    tensors["mixer.oscillation.log_rate"] = leaves["attention.time_decay"][:, None, None]
    for ours, theirs in (("mixer_norm", "ln1"), ("channel_norm", "ln2")):
        tensors |= {f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    for name in fitting(block_of(config, "auto").mixer.problem):
        outputs, _ = call(block_of(config, name), tensors, leaves["x"])
        yield from finish(case, name, leaves, {"y": outputs})
