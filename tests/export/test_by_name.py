from __future__ import annotations

import numpy as np
import pytest

from sp_edge.matching.metric import Background
from sp_edge_export.by_name import fit_by_name

D, CLASSES, EACH = 24, 30, 12


def world() -> tuple[np.ndarray, np.ndarray, np.ndarray, Background]:
    """Pictures around their class's centre, and names that point near the centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, D))
    labels = np.repeat(np.arange(CLASSES), EACH)
    features = centres[labels] + 0.7 * rng.normal(size=(len(labels), D))
    looks = 5 * (centres + rng.normal(size=centres.shape))
    background = Background(np.zeros(D, np.float32), np.zeros((D, D), np.float32))
    return features.astype(np.float32), labels, looks.astype(np.float32), background


def test_pictures_and_names_compete_as_equals() -> None:
    features, labels, looks, background = world()
    found = fit_by_name(features, labels, looks, background)
    assert found is not None
    units, names = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, looks))
    plain = units @ names.T
    mapped = found(plain.astype(np.float32))
    # Half of the classes are taught from a picture, the others by name: of each half most are recognized.
    shots = units[np.arange(CLASSES) * EACH]
    asked = np.flatnonzero(np.arange(len(labels)) % EACH)
    for scores in (plain, mapped):
        bank = np.where(np.arange(CLASSES) < 15, units @ shots.T, scores)
        right = bank[asked].argmax(axis=1) == labels[asked]
        by_name = labels[asked] >= 15
        share = right[by_name].mean(), right[~by_name].mean()
        if scores is plain:
            before = share
    assert share[0] > before[0]
    assert sum(share) > sum(before)
    # Nine of ten strangers are not believed, in a bank of ten names as usual as any.
    rng, accepted = np.random.default_rng(5), []
    for _ in range(100):
        known = rng.choice(CLASSES, 10, replace=False)
        strangers = ~np.isin(labels, known)
        accepted.append((mapped[strangers][:, known].max(axis=1) >= found.threshold).mean())
    assert 0.05 < np.mean(accepted) < 0.2
    assert (mapped[np.arange(len(labels)), labels] >= found.threshold).mean() > 0.5


def test_names_that_tell_nothing_have_no_scale(caplog: pytest.LogCaptureFixture) -> None:
    features, labels, _, background = world()
    looks = np.tile(np.ones(D, np.float32), (CLASSES, 1))
    assert fit_by_name(features, labels, looks, background) is None
    assert "names do not tell" in caplog.text


def test_too_few_classes() -> None:
    features, labels, looks, background = world()
    assert fit_by_name(features[:30], labels[:30], looks, background) is None


def test_it_is_the_same_each_time() -> None:
    assert fit_by_name(*world()) == fit_by_name(*world())
