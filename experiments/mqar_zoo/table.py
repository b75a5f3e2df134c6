"""Accuracy against the size of the state: a table in Markdown and CSV, and a plot.

python experiments/mqar_zoo/table.py runs/mqar_zoo --out experiments/mqar_zoo
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from omegaconf import OmegaConf
from zoo_runs import Run, found

from lcsm.commands.assemble import sizes
from lcsm.commands.describe import describe

COLUMNS = (
    "model", "median", "lowest", "highest", "seeds", "lr", "steps", "ms_per_step", "state", "parameters", "algorithm",
)  # fmt: skip
# Below it a model knows at most which values a text has, so that names would only cover each other.
NAMED_FROM = 0.3


def rows(root: Path) -> list[dict[str, Any]]:
    """One row per model: the learning rate with the best median, then the most seeds; best models first."""
    groups: dict[str, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in found(root):
        groups[run.model][run.rate].append(run)
    return sorted((row(model, rates, root) for model, rates in groups.items()), key=lambda row: -row["median"])


def row(model: str, rates: dict[float, list[Run]], root: Path) -> dict[str, Any]:
    """The row of a model; a run without a finite accuracy counts as zero."""
    scores = {rate: [run.accuracy(root) or 0.0 for run in runs] for rate, runs in rates.items()}
    # further seeds are run at the best rate of the first one
    rate = max(rates, key=lambda rate: (len(scores[rate]), statistics.median(scores[rate])))
    ends = [run.end(root) or {} for run in rates[rate]]
    config: Any = OmegaConf.to_container(OmegaConf.load(rates[rate][0].folder(root) / "config.yaml"))
    vocab_size, length, labels = sizes(config)
    card = describe(config, vocab_size, length, labels)
    steps = statistics.median(end["step"] for end in ends)
    seconds = statistics.median(end.get("seconds") or 0.0 for end in ends)
    return {
        "model": model,
        "median": statistics.median(scores[rate]),
        "lowest": min(scores[rate]),
        "highest": max(scores[rate]),
        "seeds": len(ends),
        "lr": rate,
        "steps": int(steps),
        "ms_per_step": round(1000 * seconds / max(1, steps), 1),
        "state": card["state_size"],
        "parameters": card["parameters"],
        "algorithm": card["layers"][0]["algorithm"],
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"| --- |{' ---: |' * (len(COLUMNS) - 2)} --- |"]
    for cells in rows:
        shown = [cells["model"], *(f"{cells[key]:.4f}" for key in ("median", "lowest", "highest"))]
        shown += [f"{cells['seeds']}", f"{cells['lr']:g}", f"{cells['steps']:,}", f"{cells['ms_per_step']:.0f}"]
        shown += [f"{cells['state']:,}", f"{cells['parameters']:,}", cells["algorithm"]]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def neighbours(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows whose points almost cover each other, best first, so that their names can stand below each other."""
    groups: list[list[dict[str, Any]]] = []
    for cells in sorted(rows, key=lambda cells: -cells["median"]):
        for group in groups:
            last = group[-1]
            if abs(math.log10(cells["state"] / last["state"])) < 0.1 and last["median"] - cells["median"] < 0.05:
                group.append(cells)
                break
        else:
            groups.append([cells])
    return groups


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over state size, with the range over seeds, a colour per algorithm and the names of those that learn."""
    figure, axes = pyplot.subplots(figsize=(10, 7), layout="constrained")
    for number, algorithm in enumerate(sorted({cells["algorithm"] for cells in rows})):
        group = [cells for cells in rows if cells["algorithm"] == algorithm]
        median = [cells["median"] for cells in group]
        ranges = [
            [cells["median"] - cells["lowest"] for cells in group],
            [cells["highest"] - cells["median"] for cells in group],
        ]
        axes.errorbar(
            [cells["state"] for cells in group],
            median,
            ranges,
            fmt="o",
            color=f"C{number}",
            markersize=5,
            label=algorithm,
        )
    for group in neighbours([cells for cells in rows if cells["median"] >= NAMED_FROM]):
        text = "\n".join(cells["model"] for cells in group)
        lowest = min(group, key=lambda cells: cells["median"])
        point = (lowest["state"], lowest["median"])
        axes.annotate(text, point, xytext=(4, -4), textcoords="offset points", fontsize=8, va="top")
    axes.legend(title="algorithm of the first layer", loc="center left")
    axes.set(
        xscale="log",
        xlabel="state: real numbers that a sequence carries, all layers",
        ylabel="validation accuracy, median and range over seeds",
        ylim=(-0.02, 1.02),
        title="Associative recall: 64 tokens, 4 pairs",
    )
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """Write table.md, table.csv and accuracy_by_state.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", default=Path("runs/mqar_zoo"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder of the results")
    options = parser.parse_args()
    table = rows(options.root)
    if not table:
        sys.exit(f"no run below {options.root} has ended: start sweep.py first")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(markdown(table), encoding="utf-8")
    with (options.out / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    plot(table, options.out / "accuracy_by_state.png")
    sys.stdout.write(markdown(table))


if __name__ == "__main__":
    main()
