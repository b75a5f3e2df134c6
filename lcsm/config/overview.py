"""The text of `lcsm train --help`, read from the names and first comments of the YAML files."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lcsm.config.locate import conf_directory, options

USAGE = """Train a model: python train.py or lcsm train, followed by any of

  group=option     choose an option of a group, listed below; * marks the default
  key=value        set a value, e.g. trainer.max_steps=500 oscillation.tau=32
  -m               run every combination of values separated by commas, e.g. -m oscillation=ones,diag seed=1,2
  --config-dir DIR add your own options from DIR/<group>/<option>.yaml
  --cfg job        print the configuration and stop
  --hydra-help     flags, launchers and sweepers of Hydra

examples
  python train.py model=lcsm expand=data_driven oscillation=diag
  python train.py -m oscillation=ones,diag,dense seed=1,2,3
  tensorboard --logdir runs

groups
"""
WIDTH = 120


def train_usage(argv: Sequence[str]) -> str:
    """The help text; options of a --config-dir in `argv` are listed too."""
    conf = conf_directory()
    groups = options(conf)
    for directory in extra_directories(argv):
        for group, described in options(directory).items():
            groups[group] = described | groups.get(group, {})
    defaults = default_options(conf / "train.yaml")
    lines = []
    for group in [*defaults, *sorted(set(groups) - set(defaults))]:
        if group not in groups or group == "hydra":
            continue
        lines.append(group)
        width = max(map(len, groups[group])) + 1
        for option, description in sorted(groups[group].items()):
            mark = "*" if defaults.get(group) == option else " "
            text = textwrap.shorten(description, WIDTH - width - 4, placeholder=" ...")
            lines.append(f"{mark} {option:<{width}} {text}".rstrip())
    return USAGE + "\n".join(lines) + "\n"


def extra_directories(argv: Sequence[str]) -> list[Path]:
    """The directories behind --config-dir."""
    found = []
    for position, word in enumerate(argv):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            directory = Path(value or next(iter(argv[position + 1 :]), ""))
            if directory.is_dir():
                found.append(directory)
    return found


def default_options(path: Path) -> dict[str, str]:
    """group -> default option, in the order of the defaults list of train.yaml."""
    listed = re.findall(r"^  - (?:optional )?(\w+): (\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(listed)
