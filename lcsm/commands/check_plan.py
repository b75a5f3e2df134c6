"""The checks of all jobs of a command line, before the first one runs; imports torch, and Lightning at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from lcsm.commands.check_model import check_combination, check_forward, check_learning, check_memory
from lcsm.config import schemas
from lcsm.config.compose import Plan, in_job
from lcsm.errors import UsageError

# The parts of a configuration that make the model, and those that train it.
MODEL = ("model", "mixers", "block", "channel", "release", "allow_targets", *schemas.MIXER_GROUPS)
TRAINING = ("data", "task", "optim", "schedule", "trainer", "allow_targets")


def check_plan(plan: Plan) -> None:
    """Check every job: the models, then everything else about training, which takes Lightning.

    Raises:
        UsageError: a job cannot be built or trained as asked; the text names it where there are several.
    """
    check_jobs(plan, (*MODEL, "task"), check_learning)
    if plan.here:
        check_jobs(plan, (*MODEL, "data"), check_memory)
    check_jobs(plan, MODEL, check_forward)

    from lcsm.commands.assemble import check_groups, check_training

    check_jobs(plan, TRAINING, check_training)
    check_jobs(plan, (*MODEL, *TRAINING), check_groups)


def check_models(plan: Plan) -> None:
    """Check each distinct model of a plan.

    Raises:
        UsageError: a model cannot be built as asked; the text names the job where there are several.
    """
    check_jobs(plan, MODEL, check_combination)


def check_jobs(plan: Plan, parts: Sequence[str], check: Callable[[dict[str, Any]], object]) -> None:
    """Run one check on the jobs of a plan, once where these parts of the configuration are the same."""
    seen: set[str] = set()
    for number, job in enumerate(plan.jobs):
        key = json.dumps([job.config[part] for part in parts], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        try:
            check(job.config)
        except UsageError as error:
            raise in_job(error, number, [job.overrides for job in plan.jobs]) from error
