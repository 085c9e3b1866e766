from __future__ import annotations

import numpy as np
import pytest

from sp_edge.training.directions import fit_directions


def test_the_map_is_the_ridge_regressions_by_hand() -> None:
    """Two names at x = -1 and 1 with rows -3 and 3: the scatter is 2, so that lambda is 2 and A = 6 / (2 + 2)."""
    weight, bias = fit_directions(np.array([[4.0], [6.0]]), np.array([[7.0], [13.0]]))
    assert weight == pytest.approx(np.array([[1.5]]))
    assert bias == pytest.approx([-7.5])  # so that the mean name says nothing


def test_names_whose_looks_follow_from_their_vectors_are_found() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(6, 4))
    text = random.normal(size=(500, 4)) + 3
    weight, bias = fit_directions(text[:400], text[:400] @ true.T + 5, ridge=1e-6)
    assert weight == pytest.approx(true, abs=1e-4)
    expected = (text[400:] - text[:400].mean(axis=0)) @ true.T
    assert text[400:] @ weight.T + bias == pytest.approx(expected, abs=1e-3)


def test_names_that_are_all_alike_say_nothing() -> None:
    weight, bias = fit_directions(np.ones((3, 2)), np.eye(3))
    assert np.isfinite(weight).all()
    assert not weight.any()
    assert not bias.any()
