from __future__ import annotations

import numpy as np
import pytest

from sp_edge.matching.evidence import evidence


def test_the_mean_of_the_five_highest() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(49, dtype=np.float32)).reshape(7, 7)
    assert evidence(scores) == 46
    found = evidence(np.stack([scores, scores - 1]))
    assert (found.dtype, found.tolist()) == (np.float32, [46, 45])


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (1, 5)])
def test_few_places_count_all(grid: tuple[int, int]) -> None:
    scores = np.random.default_rng(1).normal(size=(3, *grid)).astype(np.float32)
    np.testing.assert_allclose(evidence(scores), scores.mean(axis=(1, 2)), rtol=1e-5)
