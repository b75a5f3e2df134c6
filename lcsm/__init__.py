"""lcsm: a workbench for linear-complexity sequence models built as Expand, Oscillation, Shrink."""

__version__ = "0.2.0"
