"""Prints the figures of the house: `python -m tests.house`; exit status 1 where one is beyond its bound."""

import sys

from tests.house.figures import FIGURES

if __name__ == "__main__":
    counts = {figure: len(figure.count()) for figure in FIGURES}
    for figure, count in counts.items():
        sys.stdout.write(f"{figure.name:<42}{count:>5}   at most {figure.most}\n")
    sys.exit(any(count > figure.most for figure, count in counts.items()))
