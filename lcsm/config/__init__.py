"""Composition and checks of the configuration; nothing here imports torch when it is imported."""
