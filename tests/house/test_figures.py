"""The house stays as simple as it is; `python -m tests.house` prints its figures."""

import pytest

from tests.house.figures import FIGURES, Figure


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_keeps_its_bound(figure: Figure):
    found = figure.count()
    assert len(found) <= figure.most, found
