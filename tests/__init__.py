"""The tests; `check` is how their import hook checks signatures: types, and shapes that agree within a call."""

from beartype import BeartypeConf, beartype

# an int is a float, as PEP 484 has it
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
