from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sp_edge.errors import PromptError
from sp_edge.prompts.text_prototype import TextPrototype
from sp_edge.tensors import load_tensors, save_tensors

WEIGHT = np.array([[1, 0], [0, 2], [0, 0]], np.float32)
BIAS = np.array([0, 0, 3], np.float32)
MEAN = np.array([0.5, 0.5, 0], np.float32)
PROMPTS = np.array([[4, 0], [0, 2]], np.float32)


def test_the_linear_form_by_hand() -> None:
    found = TextPrototype(WEIGHT, BIAS)
    assert (found.feature_dim, found.text_dim) == (3, 2)
    features = found(PROMPTS)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, [[4, 0, 3], [0, 4, 3]])
    assert found(PROMPTS[:0]).shape == (0, 3)


def test_the_directed_form_by_hand() -> None:
    found = TextPrototype(WEIGHT, BIAS, MEAN, reach=0.5, length=10.0)
    expected = [[5 + 5 * 0.8, 5, 5 * 0.6], [5, 5 + 5 * 0.8, 5 * 0.6]]
    np.testing.assert_allclose(found(PROMPTS), expected, rtol=1e-6)
    nothing = TextPrototype(0 * WEIGHT, 0 * BIAS, MEAN, reach=0.5, length=10.0)
    np.testing.assert_allclose(nothing(PROMPTS), [10 * MEAN] * 2, rtol=1e-6)


@pytest.mark.parametrize("written", [TextPrototype(WEIGHT, BIAS), TextPrototype(WEIGHT, BIAS, MEAN, 0.25, 8.0)])
def test_a_file_gives_it_back(tmp_path: Path, written: TextPrototype) -> None:
    written.save(tmp_path / "file")
    found = TextPrototype.read((tmp_path / "file").read_bytes(), "file")
    np.testing.assert_array_equal(found(PROMPTS), written(PROMPTS))
    assert (found.reach, found.length) == (written.reach, written.length)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weight": np.zeros(3, np.float32)}, "weight does not fit"),
        ({"weight": np.zeros((3, 0), np.float32)}, "weight does not fit"),
        ({"weight": np.zeros((3, 2))}, "weight does not fit"),
        ({"bias": np.zeros(2, np.float32)}, "bias does not fit"),
        ({"mean": np.zeros((3, 1), np.float32)}, "mean does not fit"),
        ({"mean": np.full(3, np.nan, np.float32)}, "impossible numbers"),
        ({"reach": 0}, "impossible numbers"),
        ({"length": -1.0}, "impossible numbers"),
        ({"reach": "1"}, "does not hold"),
        ({"length": None}, "does not hold"),
        ({"kind": "familiarity"}, "does not hold"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    TextPrototype(WEIGHT, BIAS, MEAN).save(tmp_path / "file")
    tensors, described = load_tensors(tmp_path / "file", PromptError)
    for key, value in change.items():
        (tensors if isinstance(value, np.ndarray) else described)[key] = value  # type: ignore[index]
    save_tensors(tmp_path / "file", tensors, described)
    with pytest.raises(PromptError, match=problem):
        TextPrototype.read((tmp_path / "file").read_bytes(), "file")


def test_a_file_without_a_part_or_none(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="cannot read a file"):
        TextPrototype.read(b"", "a file")
    save_tensors(tmp_path / "file", {"weight": WEIGHT}, {"kind": "text prototype", "reach": 1.0, "length": 1.0})
    with pytest.raises(PromptError, match="does not hold"):
        TextPrototype.read((tmp_path / "file").read_bytes(), "file")
