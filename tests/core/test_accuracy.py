import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.accuracy import Accuracy, Difference, Share


def test_an_accuracy_is_the_mean_with_the_interval_of_the_mean() -> None:
    scores = np.array([0.2, 0.4, 0.4, 1.0])  # squared deviations from 0.5: 0.09 + 0.01 + 0.01 + 0.25 = 0.36, / 3 = 0.12
    accuracy = Accuracy.of(scores)
    assert accuracy.mean == pytest.approx(0.5)
    assert accuracy.interval == pytest.approx(1.96 * 0.12**0.5 / 2)
    assert accuracy.episodes == 4
    assert Accuracy.of(np.array([0.75])) == Accuracy(0.75, 0.0, 1)


def test_a_difference_is_paired() -> None:
    """Episodes are easy or hard for both; their difference, 0.1, 0.1, 0.2, 0.2, hardly varies."""
    ours, theirs = np.array([0.2, 0.4, 0.7, 1.0]), np.array([0.1, 0.3, 0.5, 0.8])
    ahead = Difference.between(ours, theirs)
    assert ahead.mean == pytest.approx(0.15)
    assert ahead.interval == pytest.approx(1.96 * (0.01 / 3) ** 0.5 / 2)
    assert ahead.interval < Accuracy.of(ours).interval / 4
    assert Difference.between(theirs, ours).mean == pytest.approx(-0.15)


def test_behind_is_where_the_whole_interval_is() -> None:
    assert Difference(-0.02, 0.01, 9).behind
    assert not Difference(-0.02, 0.03, 9).behind
    assert not Difference(0.0, 0.0, 9).behind


def test_figures_read_as_in_a_paper() -> None:
    assert str(Accuracy(0.72345, 0.00456, 600)) == "72.3 ± 0.5"
    assert str(Difference(0.02345, 0.00456, 600)) == "+2.3 ± 0.5"
    assert str(Difference(-0.02345, 0.00456, 600)) == "-2.3 ± 0.5"


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # With z^2 = 3.8416 and p = 1: z^2 / (n + z^2) are missing.
        (10, 10, 1 - 3.8416 / 13.8416, 1.0),
        (0, 10, 0.0, 3.8416 / 13.8416),
        # p = 1/2 of 96: the centre stays, and the half-width is z sqrt(1 / (4 n) + z^2 / (4 n^2)) / (1 + z^2 / n).
        (48, 96, 0.5 - 1.96 * (1 / 384 + 3.8416 / 36864) ** 0.5 / (1 + 3.8416 / 96), None),
        # Brown, Cai and DasGupta, Statistical Science 16, 2001, give nothing for 1 of 1; by the formula:
        (1, 1, 1 / 4.8416, 1.0),
    ],
)
def test_a_share_has_wilsons_interval(count: int, total: int, low: float, high: float | None) -> None:
    share = Share(count, total)
    assert share.value == count / total
    assert share.interval == pytest.approx((low, 1 - low if high is None else high))


@given(st.data(), st.integers(1, 10**6))
def test_a_share_lies_in_its_interval(data: st.DataObject, total: int) -> None:
    share = Share(data.draw(st.integers(0, total)), total)
    low, high = share.interval
    assert 0 <= low <= share.value <= high <= 1
    assert high - low > 0, "nothing is certain from a finite number of pictures"


def test_a_share_reads_as_percentages() -> None:
    assert str(Share(10, 10)) == "100.0 % (72.2 to 100.0)"
    assert Share(0, 10).to_json() == {"count": 0, "total": 10, "share": 0.0, "interval": [0.0, pytest.approx(0.27754)]}
