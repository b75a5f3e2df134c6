"""A table of the runs of this study: accuracy over seeds, steps, speed and parameters, in Markdown.

python experiments/lra_small/table.py runs/sweeps > experiments/lra_small/table.md
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

STUDY = "lra_small"
COLUMNS = ("data", "model", "seeds", "accuracy", "steps", "positions/s", "parameters")
ACCURACY = "best/val/accuracy"


def runs(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Data, model and end mark of every run of the study below a folder that has a score."""
    found = []
    for mark in sorted(folder.rglob("end.json")):
        end = json.loads(mark.read_text(encoding="utf-8"))
        config: Any = OmegaConf.load(mark.with_name("config.yaml"))
        if str(config.name).startswith(STUDY) and end.get(ACCURACY) is not None:
            found.append((str(config.name).removeprefix(f"{STUDY}_"), str(config.model.name), end))
    return found


def row(data: str, model: str, ends: list[dict[str, Any]]) -> tuple[str, ...]:
    """The cells of one data set and model."""
    accuracies = [100 * end[ACCURACY] for end in ends]
    spread = f" ± {statistics.stdev(accuracies):.1f}" if len(ends) > 1 else ""
    steps, speed = (statistics.mean(end[name] or 0 for end in ends) for name in ("step", "tokens_per_second"))
    return (
        data,
        model.removeprefix("small_"),
        str(len(ends)),
        f"{statistics.mean(accuracies):.1f}{spread}",
        f"{steps:,.0f}",
        f"{speed:,.0f}",
        f"{ends[0]['parameters']:,}",
    )


def main() -> None:
    """Write the table of the folders that the command line names."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for folder in sys.argv[1:] or ["runs"]:
        for data, model, end in runs(Path(folder)):
            groups[data, model].append(end)
    if not groups:
        sys.exit(f"no finished run of {STUDY} below {' '.join(sys.argv[1:]) or 'runs'}")
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(row(*key, ends) for key, ends in sorted(groups.items()))]
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))


if __name__ == "__main__":
    main()
