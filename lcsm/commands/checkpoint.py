"""A checkpoint from a path on the command line, with its configuration and model; imports torch but not Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import lcsm
from lcsm.commands.check_model import check_combination
from lcsm.commands.origin import MODEL
from lcsm.config.check import (
    check_component,
    check_fields,
    check_finite,
    check_named_mixer,
    check_pattern,
    check_sizes,
    check_threads,
    check_value,
    mapping,
)
from lcsm.config.schemas import MIXER_GROUPS, SCHEMAS, Train, signature
from lcsm.errors import UsageError, shortened
from lcsm.models.build import build_for, build_model
from lcsm.models.language_model import LanguageModel
from lcsm.training.checkpoints import (
    BEST,
    LAST,
    Checkpoint,
    existing,
    is_directory,
    load_weights,
    read_checkpoint,
    require_same_weights,
)


def load(path: str, threads: int | None, allow_targets: Sequence[str] | None) -> Checkpoint:
    """Read a checkpoint, or the best one of a run directory.

    Args:
        path: a file, the directory of a run, or its `checkpoints` directory.
        threads: CPU threads of torch; None leaves torch's choice.
        allow_targets: classes outside lcsm that its configuration may name. What the checkpoint itself allows does not
            count: it may come from anywhere.
    Raises:
        UsageError: there is none, or it is damaged.
    """
    check_threads(threads)
    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = read_checkpoint(locate(path))
    require_plausible(checkpoint)
    return replace(checkpoint, config=checkpoint.config | {"allow_targets": list(allow_targets or ())})


def locate(path: str) -> Path | str:
    """The file that a path means."""
    if not is_directory(path):
        return path
    candidates = [Path(path) / folder / name for folder in ("checkpoints", "") for name in (BEST, LAST)]
    found = [candidate for candidate in existing(candidates) if candidate.is_file()]
    if not found:
        raise UsageError(f"ckpt={path} is a directory without checkpoints/{BEST} or checkpoints/{LAST}")
    return found[0]


def require_plausible(checkpoint: Checkpoint) -> None:
    """Compare the sizes in a configuration with the weights beside it, before anything is made of these sizes.

    Raises:
        UsageError: the weights have another number of layers, or none of the width or the vocabulary.
    """
    model = checkpoint.config.get("model")
    layers = {name.split(".")[2] for name in checkpoint.weights if name.startswith("backbone.layers.")}
    # no vocabulary where the inputs are vectors
    sizes = [0, *(size for value in checkpoint.weights.values() for size in value.shape)]
    found = model if isinstance(model, dict) else {}
    expected = {
        "model.num_layers": (found.get("num_layers"), found.get("num_layers") == len(layers)),
        "model.d_model": (found.get("d_model"), found.get("d_model") in sizes),
        "vocab_size": (checkpoint.vocab_size, checkpoint.vocab_size in sizes),
    }
    for name, (value, fits) in expected.items():
        if not fits:
            raise UsageError(
                f"checkpoint {checkpoint.path} is damaged: its weights are not of {name}={shortened(value)}"
            )


@contextmanager
def of_its_version(checkpoint: Checkpoint) -> Iterator[None]:
    """Name the version of a checkpoint from another one where its configuration or its weights are refused.

    Raises:
        UsageError: in three lines, with what was refused.
    """
    try:
        yield
    except UsageError as error:
        theirs = checkpoint.versions.get("lcsm")
        if theirs == lcsm.__version__:
            raise
        raise UsageError(
            f"{checkpoint.path} was written by lcsm {shortened(theirs)}, which this version, {lcsm.__version__}, does "
            f"not understand:\n{str(error).splitlines()[0]}\nuse it with the version that wrote it, or train again"
        ) from error


def check_model(config: dict[str, Any]) -> None:
    """Check the part of a configuration that makes a model like one from a user.

    Raises:
        UsageError: it is not one of this version, or its parts do not go together.
    """
    for key in MODEL:
        if key not in config:
            raise UsageError(f"{key} is missing in the configuration of the checkpoint: it is of another version")
    model: dict[str, Any] = {key: config[key] for key in (*MODEL, "allow_targets")}
    check_value("seed", model["seed"], signature(Train).fields["seed"])
    check_finite("", model)
    for group in ("model", "block"):
        check_fields(f"{group}.", mapping(model, group), signature(SCHEMAS[group]), f"{group}/")
    for group in (*MIXER_GROUPS, "channel"):
        check_component(group, group, model[group], model)
    for name, groups in mapping(model, "mixers").items():
        check_named_mixer(name, groups, model)
    check_pattern(model)
    check_sizes(model | {"callbacks": {}})
    check_combination(model)


def require_fit(checkpoint: Checkpoint, config: dict[str, Any], vocab_size: int, facts: dict[str, Any]) -> None:
    """Refuse weights that do not fit a configuration, before the model takes any memory.

    Args:
        config: a checked configuration.
        vocab_size, facts: as in `build_for`.
    Raises:
        UsageError: names the first difference.
    """
    with torch.device("meta"):
        model = build_for(config, vocab_size, facts)
    require_same_weights(model.state_dict(), checkpoint)


def load_model(checkpoint: Checkpoint) -> LanguageModel:
    """The language model of a checkpoint with its weights, in eval mode.

    The configuration inside is checked like one from a user: a checkpoint may come from anywhere.

    Raises:
        UsageError: the configuration is not one of this version, the weights do not fit it, or it is a classifier.
    """
    if "num_classes" in checkpoint.data:
        raise UsageError(f"{checkpoint.path} holds a classifier, which writes no tokens: use one of task=lm")
    with of_its_version(checkpoint):
        check_model(checkpoint.config)
        require_fit(checkpoint, checkpoint.config, checkpoint.vocab_size, {})
    model = build_model(checkpoint.config, checkpoint.vocab_size)
    load_weights(model, checkpoint)
    return model.eval()
