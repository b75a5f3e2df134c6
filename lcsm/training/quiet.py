"""Silences a few messages of the libraries that say nothing about a run."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# beginnings of log lines: advertisements, devices that are not there, and what our own lines say better
LINES = ("💡 Tip", "GPU available", "TPU available", "`Trainer.fit` stopped", "Restoring states", "Restored all states")
LOGGER = "lightning.pytorch.utilities.rank_zero"
WARNINGS = (
    # batches are made faster than they are used; the number of workers is a setting of the data
    ".*does not have many workers.*",
    # a callback was switched on or off since the checkpoint; `resume` reports changed settings
    "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided.*",
    # metrics are added over the ranks before they are reported
    "It is recommended to use `self.log.*sync_dist=True.*",
    # inside Lightning
    ".*treespec, LeafSpec.*is deprecated.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Leave these messages out for the time of the block."""
    source = logging.getLogger(LOGGER)

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(LINES)

    def report(ended: threading.ExceptHookArgs) -> None:
        # TensorBoard's writer hands its error over to the logger, which says it in a line
        if not (isinstance(ended.exc_value, OSError) and type(ended.thread).__name__ == "_AsyncWriterThread"):
            previous(ended)

    previous, threading.excepthook = threading.excepthook, report
    source.addFilter(wanted)
    try:
        with warnings.catch_warnings():
            for pattern in WARNINGS:
                warnings.filterwarnings("ignore", pattern)
            yield
    finally:
        source.removeFilter(wanted)
        threading.excepthook = previous
