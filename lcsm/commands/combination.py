"""The check that needs torch: every class is a component of its group, and the stages go together."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from lcsm.components import resolve
from lcsm.config import schemas
from lcsm.config.check import PROVIDED, check_fields, nested
from lcsm.config.compose import Plan, in_job
from lcsm.config.signatures import of_object
from lcsm.errors import UsageError
from lcsm.models.build import BASES, check_model
from lcsm.training.strategies import check_strategy


def check_plan(plan: Plan) -> None:
    """Check every job, each distinct model once.

    Raises:
        UsageError: a model cannot be built or trained as asked; the text names the job where there are several.
    """
    seen: set[str] = set()
    for number, job in enumerate(plan.jobs):
        parts = ("model", "mixers", "block", "channel", "allow_targets", *schemas.MIXER_GROUPS)
        key = json.dumps([job.config["trainer"]["strategy"], *(job.config[part] for part in parts)], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        try:
            check_strategy(job.config["trainer"])
            check_combination(job.config)
        except UsageError as error:
            raise in_job(error, number, [job.overrides for job in plan.jobs]) from error


def check_combination(config: dict[str, Any]) -> None:
    """The components of a configuration that `lcsm.config.check.check_config` has passed, and whether they go together.

    Raises:
        UsageError: a class is not a component of its group, or stages cannot be combined.
    """
    check_classes(config)
    check_model(config)


def stage_nodes(config: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, group and node of every component of the model."""
    for group in (*schemas.MIXER_GROUPS, "channel"):
        yield group, group, config[group]
    for name, groups in config["mixers"].items():
        for group, node in groups.items():
            yield f"mixers.{name}.{group}", group, node


def check_classes(config: dict[str, Any]) -> None:
    """Every class of the model belongs to its group; the user's own ones are checked against their signature as well.

    Imports nothing outside lcsm but the modules of allow_targets.

    Raises:
        UsageError: a class cannot be found, is not of its group's kind, or does not take a setting.
    """
    allowed = config["allow_targets"]
    if allowed:
        find_local_modules()
    for path, group, node in stage_nodes(config):
        if not node:
            continue
        component = resolve(path, node, BASES[group], allowed)
        for inner_path, inner in nested(path, node):
            if inner.get("_target_") in allowed:
                owner = component if inner is node else resolve(inner_path, inner, object, allowed)
                settings = {key: value for key, value in inner.items() if key != "_target_"}
                provided = PROVIDED.get(group, frozenset())
                check_fields(f"{inner_path}.", settings, of_object(owner), owner.__name__, provided)


def find_local_modules() -> None:
    """Let the user's own modules be found in the working directory, as `python train.py` finds them beside itself."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
