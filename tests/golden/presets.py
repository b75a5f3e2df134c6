"""Which named models the golden cases of the repository replay, seen while they run.

`python -m tests.golden.presets` writes it to the package, where `lcsm show --all` finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lcsm.commands.models_table import GOLDEN
from lcsm.ops import dispatch
from lcsm.ops.spec import RecurrenceSpec
from tests.golden import given
from tests.golden.case import CASES, Case, adapter, read_case, sidecars

Config = dict[str, Any]
# the memory of s4d_real is real, that of its cases is not
S4D = {f"diag-{name}": (f"s4d_{name}",) for name in ("lin", "inv", "legs")}


def ldnn(config: Config) -> str:
    """The preset of an LDNN layer: several heads have one of their own, in both directions another."""
    return "ldnn" if config["heads"] == 1 else "ldnn_bidirectional" if config["bidirectional"] else "ldnn_multihead"


# Families whose adapter gives the stages by hand, and the models whose recurrence, layer or part that is. Adapters that
# compose a named model need no line, and a line is refused whose recurrence is not that of its model: RetNet turns its
# keys, which the cases of retention do not, and the cases of eos_core decay entry by entry.
FAMILIES: dict[str, Callable[[Config], Iterable[str]]] = {
    "based": lambda config: ["based"],
    "comba": lambda config: ["comba"],
    "delta_rule": lambda config: ["deltanet", "fwp"],
    "dss": lambda config: ["dss_softmax" if config["discretization"] == "softmax" else "dss_exp"],
    "dur_gfw": lambda config: ["dur"],
    "gated_delta_product": lambda config: ["deltaproduct"],
    "gated_delta_rule": lambda config: ["gated_deltanet"],
    "gdn2": lambda config: ["gdn2"],
    # the EOS paper's model with a data-driven diagonal oscillation has the same recurrence
    "gla": lambda config: ["gla", "lcsm"],
    "gsa": lambda config: ["gsa"],
    "hgrn": lambda config: ["hgrn"],
    "hgrn2": lambda config: ["hgrn2"],
    "hippo": lambda config: ["s4", "s4d_legs"] if config["measure"] == "legs" else [],
    "hyena": lambda config: ["hyena"],
    "kda": lambda config: ["kda"],
    "ldnn": lambda config: [ldnn(config)],
    "lightnet": lambda config: ["lightnet"],
    "linear_attn": lambda config: ["linear_attention" if config["normalize"] else "linear_attention_norm"],
    "longconv": lambda config: ["longconv"],
    "longconv_kernel": lambda config: ["longconv"],
    "lrpe": lambda config: ["lrpe"],
    "mamba2_scan": lambda config: ["mamba2"],
    "mamba2_ssd": lambda config: ["mamba2"],
    "mamba_scan": lambda config: ["mamba"],
    "mlstm": lambda config: ["mlstm"],
    "rwkv4": lambda config: ["rwkv4"],
    "rwkv6": lambda config: ["rwkv6"],
    "rwkv7": lambda config: ["rwkv7"],
    "s4_dplr": lambda config: ["s4"],
    "s4d_block": lambda config: S4D.get(config["init"], ()),
    "s4d_kernel": lambda config: S4D.get(config["init"], ()),
    "s5_hippo_block": lambda config: ["s5"],
    "sgconv": lambda config: ["sgconv"],
    "tnn_gtu": lambda config: ["tnn"],
    "tnn_rpe": lambda config: ["tnn"],
    "tnn_tno": lambda config: ["tnn"],
    "tnn_toeplitz": lambda config: ["tnn"],
}


def axes(declared: str | None) -> frozenset[frozenset[str]] | None:
    """The axes along which the summands vary; heads are copies, and a product varies as all of its factors."""
    return None if declared is None else frozenset(frozenset(term) - set("H*") for term in declared.split("+"))


def recurrence(spec: RecurrenceSpec) -> tuple[Any, ...]:
    """What makes two recurrences the same, whatever their sizes and what their factors are made of."""
    flags = (spec.pairs, spec.exclusive, spec.stabilised, spec.denominator, spec.growing)
    return spec.kind, axes(spec.decay), axes(spec.phase), spec.substeps > 1, *flags


@cache
def of_preset(name: str) -> tuple[Any, ...]:
    return recurrence(given.named(name, {}).recurrence.spec)


def replayed(case: Case) -> list[str]:
    """The named models that a case exercises at its level, by its first algorithm.

    Raises:
        ValueError: a model of `FAMILIES` has another recurrence than what ran.
    """
    composed, ran, configured = set(), set(), given.configured

    def compose(model: str, settings: Config) -> Config:
        composed.add(model)
        return configured(model, settings)

    def seen(algorithm: Callable[..., Any]) -> Callable[..., Any]:
        def run(spec: RecurrenceSpec, *arguments: Any, **settings: Any) -> Any:
            ran.add(recurrence(spec))
            return algorithm(spec, *arguments, **settings)

        return run

    watched = tuple(replace(entry, function=seen(entry.function)) for entry in dispatch.ALGORITHMS)
    with patch.object(given, "configured", compose), patch.object(dispatch, "ALGORITHMS", watched):
        next(iter(adapter(case.family).replay(case)))
    declared = FAMILIES.get(case.family, lambda config: ())(case.config)
    # a matrix or a stage is compared without any recurrence
    wrong = [name for name in declared if ran and of_preset(name) not in ran]
    if wrong:
        raise ValueError(f"{case.path}: {', '.join(wrong)}: the recurrence of the model is not that of the case")
    return sorted(composed.union(declared))


def record(folder: Path = CASES) -> dict[str, dict[str, list[str]]]:
    """The cases of a folder by the model and the level at which they replay it."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in sidecars(folder):
        case = read_case(path)
        for name in replayed(case):
            found.setdefault(name, {}).setdefault(case.sidecar["level"], []).append(case.sidecar["name"])
    return found


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(record(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
