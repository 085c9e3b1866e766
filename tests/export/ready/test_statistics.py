from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.matching.metric import Background
from sp_edge.matching.unknown import ByName, Calibration
from sp_edge.settings.settings import ModelSettings
from sp_edge_export.ready import statistics as module
from sp_edge_export.ready.statistics import Statistics, measure

FITTED = Calibration(-7, 7, 0.1, 0.2, 0.3, 0.4, -0.1, 0.05, ByName(0.1, 0.9, 0.4))


def statistics(dim: int = 8, **changes: Any) -> Statistics:
    random = np.random.default_rng(0)
    factor = random.normal(size=(dim, dim))
    covariance = (factor @ factor.T).astype(np.float32)
    mean = np.full(dim, 0.2, np.float32)
    values: dict[str, Any] = {
        "background": Background(mean, covariance / 100),
        "length": 15.5,
        "patch_mean": mean * 3,
        "patch_covariance": covariance,
        "origin": "somebody's photographs",
        "settings": {"text_share": 0.4, "place_threshold": 1.5},
        "calibration": FITTED,
    }
    return Statistics(**{**values, **changes})


def test_a_file_gives_back_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = statistics()
    saved.save(tmp_path / "timm-some.safetensors", "abc")
    monkeypatch.setattr(module, "_DATA", tmp_path)
    found = Statistics.shipped("timm/some", "abc")
    assert found is not None
    np.testing.assert_allclose(found.background.within, saved.background.within, atol=2e-3)
    np.testing.assert_allclose(found.patch_covariance, saved.patch_covariance, rtol=1e-2, atol=2e-2)
    np.testing.assert_array_equal(found.background.mean, saved.background.mean)
    np.testing.assert_array_equal(found.patch_mean, saved.patch_mean)
    for name in ("length", "origin", "settings", "calibration"):
        assert getattr(found, name) == getattr(saved, name)


def test_statistics_of_other_weights_or_of_no_file_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics().save(tmp_path / "some.safetensors", "abc")
    monkeypatch.setattr(module, "_DATA", tmp_path)
    assert Statistics.shipped("some", "another") is None
    assert Statistics.shipped("other", "abc") is None


def test_what_is_not_calibrated_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a calibration"):
        statistics(calibration=None).save(tmp_path / "some.safetensors", "abc")


def test_settings_are_those_of_a_model() -> None:
    found = statistics().model(ModelSettings(place_floor=0.1))
    assert (found.text_share, found.place_threshold, found.place_floor) == (0.4, 1.5, 0.1)
    with pytest.raises(DataError, match="no such setting"):
        statistics(settings={"backbone": 1.0})


def test_the_reach_is_what_is_left_of_length_one() -> None:
    assert statistics().reach == pytest.approx((1 - 8 * 0.04) ** 0.5)


def test_measured_statistics_are_those_of_all_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose feature is a picture's mean color."""
    monkeypatch.setattr(module, "_BATCH", 3)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 2, 2, 3), dtype=np.uint8)
    pictures = PictureSet(images, np.repeat(np.arange(4), 2), ("a", "b", "c", "d"), {})
    network: Any = SimpleNamespace(
        normalise=lambda batch: batch.float(), begin=lambda pixels: pixels, finish=lambda pixels: pixels.mean(dim=(1, 2))
    )
    found = measure(network, pictures, "here", {"text_share": 0.1})
    features = torch.from_numpy(images).float().mean(dim=(1, 2)).numpy()
    assert found.length == pytest.approx(np.linalg.norm(features, axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(found.patch_mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.patch_covariance, np.cov(features.T, bias=True), rtol=1e-3)
    assert found.calibration is None
    assert dataclasses.replace(found, origin="there").settings == {"text_share": 0.1}
