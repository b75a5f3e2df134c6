"""An RWKV-4 block: token shift, weights over time, receptance; then channel mixing, both with residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lcsm.ops.dispatch import fitting
from tests.golden.case import Case
from tests.golden.given import named_block
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


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that the case names."""
    assert config["norm"] == "layernorm" and config["prenorm"] and config["residual"] and not config["bias"]
    assert config["time_mix_start"] == "zero" and config["decay_rule"] == "exp(-exp(time_decay))"
    return {
        "model.d_model": config["d_model"],
        "model.num_layers": config["layer_index"] + 1,
        "model.dropout": config["dropout"],
        "mixer.num_heads": config["d_attention"],
        "mixer.output.gate": config["receptance_activation"],
        "channel.ratio": config["d_ffn"] / config["d_model"],
        "channel.activation": config["ffn_activation"],
        "block.epsilon": config["norm_eps"],
    }


def replay(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The case under each algorithm."""
    config, leaves = case.config, leaves_of(case)
    tensors = {f"mixer.{ours}": leaves[f"attention.{theirs}"] for theirs, ours in MIXER.items()}
    tensors |= {f"channel.{ours}": leaves[f"feed_forward.{theirs}"] for theirs, ours in CHANNEL.items()}
    tensors = {name: value.flatten() if "shares" in name else value for name, value in tensors.items()}
    tensors["mixer.oscillation.log_rate"] = leaves["attention.time_decay"][:, None, None]
    for ours, theirs in (("mixer_norm", "ln1"), ("channel_norm", "ln2")):
        tensors |= {f"{ours}.{kind}": leaves[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    settings, index = settings_of(config), config["layer_index"]
    for name in fitting(named_block("rwkv4", settings, layer=index).mixer.recurrence.spec):
        outputs, _ = call(named_block("rwkv4", settings, name, index), tensors, leaves["x"])
        yield from finish(case, name, leaves, {"y": outputs})
