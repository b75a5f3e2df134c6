"""Faults thrown at lcsm, outside the tests: `make faults` prints how many were tried, survived and lost.

`server.py` imports everything once and forks a child for every command line; `forks.py` starts, watches and ends the
children; `conditions.py` is what a child may suffer; `guard.py` lets it write nowhere but in its own folder.
Command lines with what they have to lead to are in `cases/`, one file per kind; `test_command_lines.py` runs them all.
Every other file is one kind of fault. A test adds to the table at the end with the fixture `ledger`.
"""
