"""Every named model on associative recall, each run for the same time; stop and start it again as you like.

python experiments/mqar_zoo/sweep.py --processes 2
python experiments/mqar_zoo/sweep.py --models gla mamba --seconds 10 --rates 1e-2 --seeds 1

Three learning rates at seed 1, then further seeds at the best of them; a model that has solved the task at one rate
is not run at those after it. Runs that have ended are left alone; one that was interrupted is made again. Words at
the end, after --, are handed to every run: -- source=convolved
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoo_runs import Run, best_rate, models

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]


def arguments(words: list[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=models(), help="named models; all causal ones without it")
    parser.add_argument("--seconds", type=int, default=60, help="time of a run")
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-2, 3e-3, 1e-3], help="learning rates")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds at the best rate")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, each on one thread")
    parser.add_argument("--root", type=Path, default=Path("runs/mqar_zoo"), help="folder of the runs")
    parser.add_argument("words", nargs="*", help="further words of lcsm train, after --")
    found = parser.parse_args(words)
    unknown = [name for name in found.models if name not in models()]
    if unknown:
        parser.error(f"--models {' '.join(unknown)}: choose from {' '.join(models())}")
    if min(found.seconds, found.seeds, found.processes, *found.rates) <= 0:
        parser.error("--seconds, --seeds, --processes and --rates must be positive")
    return found


def command(run: Run, options: argparse.Namespace) -> list[str]:
    """The words that start a run."""
    return [
        *(sys.executable, str(CHECKOUT / "train.py"), "task=mqar", f"model={run.model}", "name=mqar_zoo"),
        *(f"optim.lr={run.rate:g}", f"seed={run.seed}", "threads=1", f"hydra.run.dir={run.folder(options.root)}"),
        *(f"trainer.max_time={duration(options.seconds)}", "trainer.enable_progress_bar=false"),
        # more than the text of a run is not looked at
        # token mixers are compared, which channel mixers of their own would hide
        "channel=none",
        *("logger=csv", "callbacks.figures=null", "callbacks.checkpoint.every=null"),
        # the slowest models make no more than 200 steps in a minute
        "trainer.val_check_interval=50",
        *options.words,
    ]


def duration(seconds: int) -> str:
    """A time as days:hours:minutes:seconds."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours // 24:02}:{hours % 24:02}:{minutes:02}:{rest:02}"


def train(run: Run, options: argparse.Namespace) -> None:
    """Make a run that has not ended yet, in a folder of its own, and say what became of it."""
    if run.end(options.root) is not None:
        return
    folder = run.folder(options.root)
    # what an interrupted run has left
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.run(command(run, options), stdout=output, stderr=output, env=environment, check=False)
    end, accuracy = run.end(options.root), run.accuracy(options.root)
    # the weights of so many runs would fill a disk; the table needs the scores
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    if end is None:
        state = f"did not end (status {process.returncode}), see {folder / 'output.txt'}"
    else:
        state = f"accuracy {'none' if accuracy is None else f'{accuracy:.4f}'} in {end['step']} steps"
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {run.model} lr={run.rate:g} seed={run.seed}: {state}\n")
    sys.stdout.flush()


def train_all(runs: list[Run], options: argparse.Namespace) -> None:
    """Make several runs, some at a time."""
    missing = [run for run in runs if run.end(options.root) is None]
    minutes = len(missing) * options.seconds / options.processes / 60
    sys.stdout.write(f"{len(missing)} of {len(runs)} runs are missing: {minutes:.0f} minutes and what starting takes\n")
    sys.stdout.flush()
    with ThreadPoolExecutor(options.processes) as pool:
        futures = [pool.submit(train, run, options) for run in missing]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def main() -> int:
    """Rates first for all models, then seeds.

    Returns:
        The exit status: 1 where a run did not end.
    """
    options = arguments(sys.argv[1:])
    first: list[Run] = []
    for index, rate in enumerate(options.rates):
        earlier = options.rates[:index]
        solved = {model for model in options.models for each in earlier if Run(model, each, 1).solved(options.root)}
        runs = [Run(model, rate, 1) for model in options.models if model not in solved]
        train_all(runs, options)
        first += runs
    chosen = {model: best_rate(model, options.rates, options.root) for model in options.models}
    second = [
        Run(model, rate, seed)
        for seed in range(2, options.seeds + 1)
        for model, rate in chosen.items()
        if rate is not None
    ]
    train_all(second, options)
    return int(any(run.end(options.root) is None for run in [*first, *second]))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
