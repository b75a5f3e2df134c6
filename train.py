"""Train a model: `python train.py [group=option] [key=value]`; the same as `lcsm train`."""

import sys

from lcsm.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
