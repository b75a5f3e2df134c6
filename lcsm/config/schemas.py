"""The groups that are no classes of their own: their keys, types and ranges.

Values live in the YAML files only; a default here is what a configuration means that was stored before the key existed.
Groups that name a class (`_target_`) are checked against the signature of that class and, for the keys listed in
RANGES, against a range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from lcsm.config.annotations import Range
from lcsm.config.signatures import Signature

AtLeastOne = Annotated[int, Range(1)]
Probability = Annotated[float, Range(0, 1)]
NonNegative = Annotated[float, Range(0)]
# none of something is not a share of it
Fraction = Annotated[float, Range(0, 1, open=True)]

STAGES = ("source", "input", "expand", "oscillation", "shrink", "normaliser")
# The groups of one mixer; named mixers in `mixers` have the same.
MIXER_GROUPS = ("mixer", *STAGES)


@dataclass
class Train:
    """The root of the configuration, without its groups."""

    seed: Annotated[int, Range(0, 2**32 - 1)]
    name: str
    resume: str | None
    resume_force: bool
    allow_targets: list[str]
    threads: AtLeastOne | None
    choices: dict[str, Any]
    mixers: dict[str, Any]
    compile: bool = False


@dataclass
class Model:
    """Sizes that every model has, and the pattern of mixers over its layers."""

    name: str
    d_model: AtLeastOne
    # the deepest models that are trained at all have a thousand; ten times that many are built in about a minute
    num_layers: Annotated[int, Range(1, 10_000)]
    pattern: list[str]
    dropout: Probability
    embedding_dropout: Probability
    tie_embeddings: bool
    embedding_std: Annotated[float, Range(0, open=True)]
    logit_cap: Annotated[float, Range(0, open=True)] | None = None
    init: Literal["torch", "release"] = "torch"


@dataclass
class BlockSettings:
    """The residual block."""

    norm: Literal["layer", "rms", "batch"]
    epsilon: Annotated[float, Range(0, open=True)]
    placement: Literal["pre", "post"]
    tied_dropout: bool
    inner_dropout: bool = False
    momentum: Annotated[float, Range(0, 1)] | None = None


@dataclass
class Paths:
    """The folders of results."""

    root: str


@dataclass
class Trainer:
    """Arguments that are handed to lightning.Trainer."""

    accelerator: str
    devices: Annotated[int, Range(-1)] | str | list[int]
    num_nodes: AtLeastOne
    strategy: str
    # no 16-true and bf16-true: they round decays and step sizes before any stage could widen them
    precision: Literal["32-true", "64-true", "16-mixed", "bf16-mixed"]
    max_steps: AtLeastOne
    max_time: str | None
    val_check_interval: AtLeastOne
    limit_val_batches: AtLeastOne | Fraction | None
    num_sanity_val_steps: Annotated[int, Range(-1)]
    log_every_n_steps: AtLeastOne
    accumulate_grad_batches: AtLeastOne
    gradient_clip_val: NonNegative | None
    gradient_clip_algorithm: Literal["norm", "value"]
    enable_progress_bar: bool
    enable_model_summary: bool
    deterministic: bool | Literal["warn"]
    benchmark: bool | None
    detect_anomaly: bool
    inference_mode: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    sync_batchnorm: bool


@dataclass
class Learning:
    """Settings of `optim` that decide which parameter learns at which rate and decays; the others are of its class."""

    lr: float
    weight_decay: float
    embedding_decay: bool
    groups: dict[str, Any] | None = None


SCHEMAS: dict[str, type] = {"model": Model, "block": BlockSettings, "paths": Paths, "trainer": Trainer}

# Groups that name a class; first those whose classes need torch or less.
COMPONENTS = ("optim", "schedule", *MIXER_GROUPS, "channel", "release", "data", "task")
# Groups of switches and settings whose shape is that of their shipped files.
SWITCHES = ("callbacks", "logger")
# Groups that may be `none`: a mixer without stages needs none of these.
OPTIONAL = (*STAGES, "channel", "release")
# Groups that a stored configuration may lack, which means `none`.
LATER = ("release",)

GROUPS = (*SCHEMAS, *COMPONENTS, *SWITCHES)

# Ranges of settings by name, wherever a class has a setting of that name.
POSITIVE, COUNT = Range(0, open=True), Range(1)
RANGES: dict[str, Range] = {
    "lr": POSITIVE,
    "eps": POSITIVE,
    "epsilon": POSITIVE,
    "tau": POSITIVE,
    "ratio": POSITIVE,
    "weight_decay": Range(0),
    "warmup_steps": Range(0),
    "batch_size": COUNT,
    "length": COUNT,
    "num_pairs": COUNT,
    "val_fraction": Range(0, 0.5, open=True),
    "num_workers": Range(0),
    # ten times the largest in use; tokenizers make room for all of it at once, and abort where there is none
    "vocab_size": Range(2, 2**24),
    "num_heads": COUNT,
    "state_dim": COUNT,
    "value_dim": COUNT,
    "kernel_size": COUNT,
    "rank": COUNT,
    "every": COUNT,
    "patience": COUNT,
    "nonfinite_skips": Range(0),
    "ema": Range(0, 1, open=True),
    "prompt_tokens": COUNT,
    "num_tokens": COUNT,
    "temperature": Range(0),
    "top_k": COUNT,
    "top_p": Range(0, 1, open=True),
    "seed": Range(0, 2**32 - 1),
}


# Settings of switches that may be null, where the shipped value does not tell, or is not all that they may be.
SWITCH_TYPES: dict[str, Any] = {
    "callbacks.ema": float | None,
    "callbacks.stop_at": float | Literal["auto"] | None,
    "callbacks.patience": int | None,
    "callbacks.checkpoint.every": int | None,
    "callbacks.samples.top_k": int | None,
    "callbacks.samples.top_p": float | None,
}


def signature(schema: type) -> Signature:
    """The fields of a schema as a signature; those without a default are required."""
    hints = get_type_hints(schema, include_extras=True)
    return Signature(hints, frozenset(name for name in hints if not hasattr(schema, name)))
