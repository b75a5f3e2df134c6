"""`python -m lcsm`: the same as `lcsm`."""

import sys

from lcsm.cli import main

if __name__ == "__main__":
    sys.exit(main())
