"""Constructors take the fields of the settings that they share, one level deep."""

import inspect

import pytest

from lcsm.data.settings import CachedLoading, Loading, flat


class Data:
    @flat
    def __init__(self, root: str, loading: CachedLoading, length: int) -> None:
        self.root, self.loading, self.length = root, loading, length


LOADING = {"batch_size": 8, "num_workers": 0, "seed": 1, "cache_dir": None}


def test_fields_stand_in_the_place_of_their_object():
    assert list(inspect.signature(Data).parameters) == ["root", *LOADING, "length"]
    assert inspect.signature(Data).parameters["cache_dir"].annotation == (str | None)


def test_the_object_is_made_of_its_fields():
    data = Data(root="a", length=2, **LOADING)
    assert (data.root, data.length, data.loading) == ("a", 2, CachedLoading(8, 0, 1, None))
    assert isinstance(data.loading, Loading)


@pytest.mark.parametrize("change", [{"seed": 1, "rows": 2}, {}])
def test_names_that_are_unknown_or_missing_are_errors_of_the_call(change: dict):
    settings = {name: value for name, value in LOADING.items() if name != "seed"} | change
    with pytest.raises(TypeError, match=r"seed|rows"):
        Data(root="a", length=2, **settings)
