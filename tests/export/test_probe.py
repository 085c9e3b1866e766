"""What a conversion is searched on, and what judges it, are other pictures where there are enough."""

from __future__ import annotations

import numpy as np
import pytest

from sp_edge_export.probe import Reference
from sp_edge_export.verify import GraphFeatures, Probe


def reference(*counts: int) -> Reference:
    """So many pictures of each class; each picture's number is in its pixels, its prompt and its features."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    numbers = np.arange(len(labels))
    images = np.broadcast_to(numbers[:, None, None, None], (len(labels), 2, 2, 3)).astype(np.uint8)
    vectors = numbers[:, None].astype(np.float32)
    probe = Probe(images, labels, vectors, n_way=2, n_query=min(5, min(counts) - 1))
    scores = vectors[:, :, None]  # a map of one column
    return Reference(probe, GraphFeatures(vectors, vectors + 0.5, vectors, scores))


@pytest.mark.parametrize("counts", [(4, 5), (7, 12, 9)])
def test_the_halves_have_no_picture_in_common_and_every_class(counts: tuple[int, ...]) -> None:
    whole = reference(*counts)
    halves = whole.halves()
    assert halves is not None
    seen = []
    for half in halves:
        numbers = half.probe.images[:, 0, 0, 0]
        seen += numbers.tolist()
        np.testing.assert_array_equal(half.probe.prompts[:, 0], numbers)
        np.testing.assert_array_equal(half.features.query[:, 0], numbers)
        np.testing.assert_array_equal(half.features.support[:, 0], numbers + 0.5)
        assert half.features.scores is not None
        np.testing.assert_array_equal(half.features.scores[:, 0, 0], numbers)
        np.testing.assert_array_equal(half.probe.labels, whole.probe.labels[numbers])
        found = np.bincount(half.probe.labels, minlength=len(counts))
        assert (found >= np.array(counts) // 2).all()
        assert half.probe.n_query == min(whole.probe.n_query, found.min() - 1)
        assert len(half.probe.scores(half.features)) == 600, "episodes can be drawn"
    assert sorted(seen) == list(range(sum(counts)))


def test_too_few_pictures_have_no_halves() -> None:
    assert reference(6, 3, 9).halves() is None
