"""Splits of data sets of the Hugging Face hub with the columns that labelled data need."""

from collections.abc import Sequence

import datasets

from lcsm.data.paths import local_path
from lcsm.errors import UsageError, first_line


def load_split(dataset: str, subset: str | None, split: str, columns: Sequence[str]) -> datasets.Dataset:
    """One split of a data set; the hub's own cache keeps it.

    Args:
        dataset: name on the hub.
        subset: configuration, or None.
        columns: that it must have.
    Raises:
        UsageError: it cannot be reached, or has not these columns.
    """
    if local_path("data.dataset", dataset).exists():
        raise UsageError(f"data.dataset={dataset} is a local path; use data.root={dataset}")
    name = f"data.dataset={dataset}" + (f" ({subset})" if subset else "")
    try:
        table = datasets.load_dataset(dataset, subset, split=split)
    except ConnectionError as error:
        raise UsageError(
            f"{name} cannot be reached ({first_line(error)});\nis there a network? With the files on disk set data.root"
        ) from error
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"{name}, split {split}, cannot be loaded: {first_line(error)}") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise UsageError(f"{name} has no column {', '.join(missing)}; there is {', '.join(table.column_names)}")
    return table
