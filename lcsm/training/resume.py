"""The checkpoint that a run continues from, and whether its configuration still means the same run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from torch import nn

from lcsm.errors import UsageError
from lcsm.training.checkpoints import (
    BEST,
    LAST,
    Checkpoint,
    claimed_step,
    digest,
    existing,
    find_resumable,
    is_directory,
    read_checkpoint,
    require_same_weights,
)
from lcsm.training.lock import user_of
from lcsm.training.run_state import require_run

logger = logging.getLogger(__name__)

# keys that may change within a run: where things go, how they are shown, when they are saved
FREE_ROOTS = (
    "name",
    "resume",
    "resume_force",
    "allow_targets",
    "paths",
    "hydra",
    "callbacks",
    "logger",
    "choices",
    "threads",
    "compile",
)
FREE_KEYS = ("data.num_workers", "data.cache_dir")
# of the trainer only these make another run; `max_steps` may grow, and a schedule that depends on it shows up itself
BINDING_KEYS = (
    "callbacks.ema",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_algorithm",
    "trainer.gradient_clip_val",
    "trainer.precision",
)
# these choose the order in which numbers are added: the same run, but rounded differently from here on
ROUNDING_KEYS = (
    "threads",
    "compile",
    "trainer.accelerator",
    "trainer.benchmark",
    "trainer.deterministic",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
)


def find_checkpoint(resume: str | None, run_dir: Path, config: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint that `resume` asks for.

    Args:
        resume: None starts anew, "auto" takes the valid checkpoint of `run_dir` with the most steps; where `run_dir` is
            new, that of the run with this configuration that has the most steps and is not under way; without one it
            starts anew. Otherwise the path of a checkpoint or of a run directory.
        run_dir: the directory of the run that is about to start.
        config: its configuration.
    Raises:
        UsageError: a checkpoint is missing or damaged, or a new run would write over an old one.
    """
    if resume is None:
        old = existing(run_dir / "checkpoints" / name for name in (LAST, BEST))
        if old:
            raise UsageError(
                f"run directory {run_dir} holds a run already ({old[0].name})\n"
                "continue it with resume=auto, or choose another directory"
            )
        return None
    path = furthest_run(run_dir, config) if resume == "auto" else Path(resume)
    if resume != "auto" and not is_directory(resume):
        return read_file(resume)
    checkpoint, skipped = find_resumable(path / "checkpoints")
    for line in skipped:
        logger.warning(line)
    if checkpoint is None and skipped:
        raise UsageError(f"resume={resume}: no checkpoint in {path / 'checkpoints'} is valid\n{skipped[0]}")
    if checkpoint is None and resume != "auto":
        raise UsageError(f"resume={resume}: there is no checkpoint in {path / 'checkpoints'}")
    if checkpoint is None:
        logger.info("resume=auto: no checkpoint of this configuration yet, starting at step 0")
    return checkpoint


def furthest_run(run_dir: Path, config: Mapping[str, Any]) -> Path:
    """The run directory that resume=auto continues: `run_dir`, or where that is new the one below `paths.root` with the
    most steps, then the newest, whose configuration means the same run; `run_dir` again where there is none.

    The time alone would not do: clocks are set back and folders copied. A run that is under way is passed over.
    """
    root = (config.get("paths") or {}).get("root")
    if root is None or existing(run_dir / "checkpoints" / name for name in (LAST, BEST)):
        return run_dir
    # root/name/time of a run, root/sweeps/time/job of a job
    found = [path.parents[1] for depth in ("*/*", "*/*/*") for path in Path(root).glob(f"{depth}/checkpoints/{LAST}")]
    same, other = [], None
    for path in sorted(found, key=lambda path: (path / "checkpoints" / LAST).stat().st_mtime, reverse=True):
        try:
            old: Any = OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))
        except (OSError, yaml.YAMLError) as error:
            logger.info("resume=auto: passed over %s: %s", path, error)
            continue
        if not isinstance(old, dict) or old.get("name") != config["name"]:
            continue
        changed = [key for key, _, _ in differences(old, config) if is_binding(str(key))]
        if changed:
            other = other or (path, changed)
        elif user := user_of(path):
            logger.warning("resume=auto: passed over %s, which is under way: in use by %s", path, user)
        else:
            same.append(path)
    if same:
        # the first of equals is the newest
        return max(same, key=lambda path: claimed_step(path / "checkpoints"))
    if other is not None:
        logger.warning(
            "resume=auto: %s has another configuration (%s): starting at step 0; it goes on with resume=%s "
            "resume_force=true",
            other[0],
            ", ".join(other[1][:4]),
            other[0],
        )
    return run_dir


def read_file(resume: str) -> Checkpoint:
    """The checkpoint at a path; where it is not valid the error names a valid neighbour."""
    try:
        return read_checkpoint(resume)
    except UsageError as error:
        neighbour = None if "://" in resume else find_resumable(Path(resume).parent)[0]
        hint = f"\nnewest valid checkpoint beside it: {neighbour.path} (step {neighbour.step})" if neighbour else ""
        raise UsageError(f"{error}{hint}") from error


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested configuration as (dotted key, value)."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(node) if isinstance(node, (list, tuple)) else node


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys whose values differ between two configurations: (key, old, new); a missing key has the value None.

    A switch that the old one does not know was off, so that runs of an earlier version can be continued; without
    `model.init` it started as torch.nn, whatever `release` says.
    """
    before, after = {"model.init": "torch"} | dict(flatten(old)), {"model.init": "torch"} | dict(flatten(new))
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    added = {key for key in changed if key not in before and (not after[key] or key.startswith("release."))}
    return [(key, before.get(key), after.get(key)) for key in changed if key not in added]


def is_binding(key: str) -> bool:
    """Whether a change of this key makes another run of it."""
    if key in BINDING_KEYS:
        return True
    root = key.partition(".")[0]
    return root not in (*FREE_ROOTS, "trainer") and key not in FREE_KEYS


def check_continues(checkpoint: Checkpoint, config: dict[str, Any], model: nn.Module, datamodule: Any) -> None:
    """Refuse to continue a checkpoint as another run.

    A changed key that enters the numbers (model, data, seed, optimiser, schedule, ...) is refused unless
    `resume_force` is true; then the configuration wins over what the checkpoint stores, for the learning rate too. A
    tokeniser, a data set or weights that do not fit are refused in any case. Other changed keys are only reported,
    with a warning where results will not be those of the unbroken run to the bit.

    Raises:
        UsageError: at most three lines with the differing keys.
    """
    require_run(checkpoint)
    changed = differences(checkpoint.config, config)
    binding = [f"{key}: {before} -> {after}" for key, before, after in changed if is_binding(key)]
    if binding and not config.get("resume_force"):
        more = f" and {len(binding) - 4} more" if len(binding) > 4 else ""
        raise UsageError(
            f"checkpoint {checkpoint.path} belongs to another configuration\n{'; '.join(binding[:4])}{more}\n"
            "undo the change, start a new run, or let the configuration win with resume_force=true"
        )
    require_same_weights(model.state_dict(), checkpoint)
    for key, before, after in changed:
        if key not in ("resume", "resume_force", *ROUNDING_KEYS):
            logger.info("resume: %s was %s in the checkpoint and is %s now; the configuration wins", key, before, after)
    tokenizer = tokenizer_state(datamodule)
    if digest(tokenizer) != digest(checkpoint.tokenizer):
        raise UsageError(
            f"checkpoint {checkpoint.path} was trained with another tokeniser: its tokens would mean other text here\n"
            "use the tokeniser of that run or start a new run"
        )
    rounding = [f"{key}: {before} -> {after}" for key, before, after in changed if key in ROUNDING_KEYS]
    if rounding:
        logger.warning("resume: %s; results will differ in rounding from the unbroken run", ", ".join(rounding))
    facts = datamodule.describe()
    other = differences(checkpoint.data, facts)
    if other and not config.get("resume_force"):
        phrases = "; ".join(f"{key}: {before} -> {after}" for key, before, after in other[:4])
        raise UsageError(
            f"the data differ from those of checkpoint {checkpoint.path}\n{phrases}\n"
            "restore them, start a new run, or continue with resume_force=true"
        )


def tokenizer_state(datamodule: Any) -> dict[str, Any] | None:
    """State of the data module's tokeniser, None for data without text."""
    return datamodule.tokenizer_state() if hasattr(datamodule, "tokenizer_state") else None
