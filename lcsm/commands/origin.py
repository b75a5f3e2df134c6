"""Settings that a checkpoint decides where it is scored: model and task always, files and names of one's own run.

A checkpoint may come from anywhere. Devices, loggers and places are those of the command line and of the shipped files.
The data are those of `config.yaml` of the run that the checkpoint lies in, if that is below `paths.root`. Otherwise
their numbers are taken, and their choices from a fixed list; what names a file, a folder, a data set, a pattern or an
encoding must be said again, unless lcsm ships it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lcsm.config import schemas, shipped
from lcsm.config.annotations import accepts
from lcsm.config.check import check_config
from lcsm.config.locate import conf_directory
from lcsm.config.signatures import of_target
from lcsm.config.suggest import listed
from lcsm.errors import UsageError, first_line, shortened
from lcsm.training.checkpoints import Checkpoint

# the parts of a configuration that make a model
MODEL = ("seed", "model", "block", "mixers", *schemas.MIXER_GROUPS, "channel")
# settings of the trainer without which the score would be another one
SCORING = ("precision", "limit_val_batches")
# what a checkpoint of others may not set, and what stands in its place: neither changes the score
HARMLESS = {"cache_dir": None, "num_workers": 0}
# texts that are shown of those that have to be said again
SHOWN = 4


def scoring_config(checkpoint: Checkpoint, words: Sequence[str], way_out: str = "") -> dict[str, Any]:
    """The checked configuration with which a checkpoint is scored.

    Args:
        checkpoint: with what its run was configured as.
        words: `data.KEY=value`, `trainer.KEY=value` and `paths.root=value` of the command line.
        way_out: what else can be done where texts of the data have to be said again.
    Raises:
        UsageError: a word cannot be read, a value is none of this version, or texts of the data have to be said again.
    """
    there = checkpoint.config
    config = shipped_config([word for word in words if word.startswith("paths.")])
    root = config["paths"]["root"]
    run = own_run(checkpoint.path, root)
    data = there.get("data") if run is None else data_of(run)
    if not isinstance(data, dict):
        raise UsageError(f"{run or checkpoint.path} has no settings of data: {shortened(data)}")
    trainer = there["trainer"] if isinstance(there.get("trainer"), dict) else {}
    decided = {key: there[key] for key in (*MODEL, "task", "allow_targets") if key in there}
    config = {key: value for key, value in config.items() if key not in (*MODEL, "task")} | decided
    config["trainer"] |= {key: trainer[key] for key in SCORING if key in trainer}
    config["data"] = data if run else data | {key: value for key, value in HARMLESS.items() if key in data}
    # small models are faster on few threads; more than there are cores is no such wish
    threads = there.get("threads")
    config["threads"] = threads if type(threads) is int and 1 <= threads <= (os.cpu_count() or 1) else None
    # names of options, which a message might show, are not those of this model
    config["choices"] = {}
    config = override(config, [word for word in words if not word.startswith("paths.")])
    check_config(config)
    said = {word.partition("=")[0] for word in words}
    texts = [] if run else [(key, value) for key, value in unsaid(data | HARMLESS) if f"data.{key}" not in said]
    if texts:
        raise UsageError(say_again(checkpoint.path, root, texts) + way_out)
    return config


def shipped_config(words: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run for which nothing is said but these words."""
    from lcsm.config.compose import Composer, read_arguments

    with Composer(read_arguments(words)) as composer:
        return composer.resolve(composer.compose(composer.words), composer.words)


def override(config: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A configuration with some values changed.

    Raises:
        UsageError: a word cannot be read; unknown keys are found by the check that follows.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    from lcsm.config.messages import not_readable
    from lcsm.training.run import measuring

    changed = json.loads(json.dumps(config))
    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        raise UsageError(not_readable(error.override)) from error
    for word in parsed:
        if word.is_sweep_override():
            raise UsageError(f"{word.input_line}: one value at a time; write [a,b] for a list")
        *parents, last = word.key_or_group.split(".")
        if parents == ["trainer"] and last in config["trainer"] and last not in measuring(config["trainer"]):
            raise UsageError(
                f"{word.input_line} has no effect where nothing is trained\n"
                f"what has one of trainer: {listed(measuring(config['trainer']))}"
            )
        node = changed
        for parent in parents:
            node = node.get(parent)
            if not isinstance(node, dict):
                raise UsageError(f"{word.input_line}: {word.key_or_group} is no setting")
        node[last] = word.value()
    return changed


def own_run(path: Path, root: str) -> Path | None:
    """The directory of the run that a checkpoint lies in, None where that is not below `root`."""
    folder = path.resolve().parent
    is_below = folder.name == "checkpoints" and folder.is_relative_to(Path(root).resolve())
    return folder.parent if is_below and (folder.parent / "config.yaml").is_file() else None


def data_of(run: Path) -> Any:
    """The data settings of a run."""
    import yaml  # type: ignore[import-untyped]
    from omegaconf import OmegaConf

    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
        return config["data"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{run / 'config.yaml'} cannot be read: {first_line(error)}") from error


def unsaid(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of data that a checkpoint of others does not decide: texts that lcsm itself does not ship."""
    target = node.get("_target_")
    signature = of_target(target) if isinstance(target, str) else None
    known = [settings for settings in ours() if settings.get("_target_") == target]
    for key, value in node.items():
        rule = Any if signature is None else signature.fields.get(key, Any)
        # only a list of choices refuses just any text
        is_choice = isinstance(value, str) and not accepts("just any text", rule)
        is_shipped = any(settings.get(key) == value for settings in known)
        if key != "_target_" and not (is_choice or is_shipped or is_plain(value)):
            yield key, value


def is_plain(value: Any) -> bool:
    """Whether a value is null, true, false, a number or a list of these."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float))


def ours() -> list[dict[str, Any]]:
    """The shipped settings of data."""
    return [shipped.load("data", path.stem) for path in sorted((conf_directory() / "data").glob("*.yaml"))]


def say_again(path: Path, root: str, texts: list[tuple[str, Any]]) -> str:
    """The message where texts are not taken."""
    words = [f"data.{key}={shortened(repr(value))}" for key, value in texts]
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return (
        f"{path} is in no run below paths.root={root}, so what its data name is not read:\n"
        f"say it again where it is right: {' '.join(words[:SHOWN])}{more}\n"
        "or, where the run is your own, say paths.root=FOLDER with the folder that it is in"
    )
