"""Adapters that replay golden cases in the project's own operators, stages and mixers, one module per family."""
