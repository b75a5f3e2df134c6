"""Stages that are legal one by one: together they run, or are refused before anything is read or written."""

from __future__ import annotations

from pathlib import Path

from tests.faults.cases import EITHER, INVALID, TRAIN, VALID, Case

NARROW = (*(word for word in TRAIN if not word.startswith("model.d_model")), "model.d_model=8")
# inputs, outputs or rows are complex where an algorithm or a normaliser wants real ones
COMPLEX = (
    "mixer=heads source=rwkv6 input=hgrn_complex expand=linear_attention oscillation=dss_exp shrink=query_corrected "
    "normaliser=plain_group_norm",
    "mixer=eos source=mamba input=biased expand=rotary oscillation=gated_delta_rule shrink=query_rolled "
    "normaliser=denominator mixer.num_heads=2 mixer.state_dim=4",
    "mixer=channels source=rwkv6 input=hgrn_complex expand=learned oscillation=s4d_lin shrink=rwkv5 "
    "normaliser=group_norm",
)
# a shrink that reads what only its own oscillation writes
LONELY = ("model=gsa oscillation=diag", "model=gsa oscillation=gla", "shrink=gsa")
# parts that leave others unused, or have no place in a mixer without stages
MISPLACED = ("mixer=attention", "model=attention oscillation=diag", "oscillation=none", "expand=none", "input=none")
TOGETHER = ("model=gsa", "model=hgrn_complex", "model=rwkv6", "model=mamba", "model=s4", "model=gated_deltanet",
            "model=h3 task=mqar", "model=lru", "model=tnn", "oscillation=ones")  # fmt: skip


def nothing_written(work: Path) -> str:
    """Whether a refusal left a run directory behind: then it came after the data were made ready."""
    return "refused only after the run had begun" if (work / "runs").exists() else ""


def cases() -> list[Case]:
    """All of them."""
    found = [Case(f"stages: {words}", (*NARROW, *words.split()), EITHER) for words in COMPLEX]
    found += [
        Case(f"stages: {words}", (*TRAIN, *words.split()), INVALID, check=nothing_written)
        for words in (*LONELY, *MISPLACED)
    ]
    found += [Case(f"stages, right: {words}", (*TRAIN, *words.split()), VALID) for words in TOGETHER]
    return found
