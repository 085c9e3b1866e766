from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sp_edge.errors import PromptError
from sp_edge.prompts.familiarity import RIDGE, USUAL, Familiarity
from sp_edge.tensors import load_tensors, save_tensors


def direct(names: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, float]:
    """The inverse of the scatter, and the formula as it is printed, of a vector."""
    wide = names.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    penalty = RIDGE * np.square(centred).sum(axis=1).mean()
    inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(names.shape[1]))
    return inverse, float((away - wide.mean(axis=0)) @ inverse @ (away - wide.mean(axis=0)))


def left_out(names: np.ndarray) -> list[float]:
    """Each name's leverage where the others alone are known, at the penalty that all have."""
    wide = names.astype(np.float64)
    penalty = RIDGE * np.square(wide - wide.mean(axis=0)).sum(axis=1).mean()
    found = []
    for out in range(len(wide)):
        others = np.delete(wide, out, axis=0)
        centred, away = others - others.mean(axis=0), wide[out] - others.mean(axis=0)
        found.append(float(away @ np.linalg.solve(centred.T @ centred + penalty * np.eye(wide.shape[1]), away)))
    return found


def test_by_hand() -> None:
    """Names at -1 and 1 of the first axis: scatter 2, penalty 0.001, and nothing is known of the second axis."""
    familiarity = Familiarity.of(np.array([[-1, 0], [1, 0]], np.float32))
    found = familiarity.leverage(np.array([[0, 0], [1, 0], [0, 1]], np.float32))
    np.testing.assert_allclose(found, [0, 1 / 2.001, 1 / 0.001], rtol=1e-5)
    # With one of the two left out, the other is the mean, at distance 2, and no direction is known.
    assert familiarity.usual == pytest.approx(4 / 0.001, rel=1e-5)
    beyond = familiarity(np.array([[0, 3]], np.float32))
    np.testing.assert_allclose(beyond, (1 + 4000) / (1 + 9000), rtol=1e-5)


@pytest.mark.parametrize(("count", "dim"), [(30, 6), (12, 40), (3, 5)])
def test_against_the_formula(count: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    names = (rng.normal(size=(count, dim)) * np.geomspace(1, 0.01, dim) + 3).astype(np.float32)
    familiarity = Familiarity.of(names)
    queries = np.concatenate([names, rng.normal(size=(9, dim)).astype(np.float32)])
    expected = [direct(names, query)[1] for query in queries.astype(np.float64)]
    np.testing.assert_allclose(familiarity.leverage(queries), expected, rtol=1e-3, atol=1e-4)
    highest = max(direct(names, name)[1] for name in names.astype(np.float64))
    assert familiarity.usual == pytest.approx(max(np.quantile(left_out(names), USUAL), highest), rel=1e-3)


def test_base_names_and_their_like_are_familiar_and_what_lies_elsewhere_is_not() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 20))
    names = (rng.normal(size=(60, 3)) @ plane + 0.01 * rng.normal(size=(60, 20))).astype(np.float32)
    familiarity = Familiarity.of(names)
    np.testing.assert_allclose(familiarity(names), 1, rtol=1e-5)
    likes = (rng.normal(size=(400, 3)) @ plane + 0.01 * rng.normal(size=(400, 20))).astype(np.float32)
    assert (familiarity(likes) == 1).mean() > 0.8
    off = rng.normal(size=20).astype(np.float32)
    far = familiarity(names[0] + np.array([[0], [1], [10], [100], [1e6]], np.float32) * off)
    assert far[0] == pytest.approx(1)
    assert (np.diff(far[1:]) < 0).all()
    assert far[1] < 0.2
    assert far[-1] < 1e-6


VECTORS = hnp.arrays(
    np.float32, st.tuples(st.integers(2, 7), st.integers(1, 5)), elements=st.floats(-99, 99, width=32, allow_subnormal=False)
)


@given(names=VECTORS, data=st.data())
@settings(deadline=None, max_examples=60)
def test_what_holds_of_any_names(names: np.ndarray, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also where names coincide, or stand on a line."""
    familiarity = Familiarity.of(names)
    dim = names.shape[1]
    queries = data.draw(hnp.arrays(np.float32, (2, 3, dim), elements=st.floats(-1e6, 1e6, width=32)))
    leverage, found = familiarity.leverage(queries), familiarity(queries)
    assert leverage.shape == found.shape == (2, 3)
    assert (leverage >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert familiarity(queries[0, 0]) == pytest.approx(found[0, 0])
    path = tmp_path_factory.mktemp("familiarity") / "file"
    familiarity.save(path)
    np.testing.assert_array_equal(Familiarity.read(path.read_bytes(), "file")(queries), found)


def test_one_name_is_too_few() -> None:
    with pytest.raises(PromptError, match="one name"):
        Familiarity.of(np.ones((1, 4), np.float32))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mean": np.zeros(3)}, "mean does not fit"),
        ({"mean": np.zeros((), np.float32)}, "does not fit"),
        ({"mean": np.zeros(0, np.float32), "factor": np.zeros((0, 0), np.float32)}, "does not fit"),
        ({"factor": np.zeros((3, 4), np.float32)}, "factor does not fit"),
        ({"factor": np.full((3, 3), np.nan, np.float32)}, "impossible numbers"),
        ({"mean": np.full(3, np.inf, np.float32)}, "impossible numbers"),
        ({"other": np.zeros(1)}, "does not hold"),
        ({"kind": "bank"}, "does not hold"),
        ({"usual": "1"}, "does not hold"),
        ({"usual": None}, "does not hold"),
        ({"usual": -0.1}, "impossible numbers"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    Familiarity.of(np.eye(3, dtype=np.float32)).save(tmp_path / "file")
    tensors, described = load_tensors(tmp_path / "file", PromptError)
    for key, value in change.items():
        (tensors if isinstance(value, np.ndarray) else described)[key] = value  # type: ignore[index]
    save_tensors(tmp_path / "file", tensors, described)
    with pytest.raises(PromptError, match=problem):
        Familiarity.read((tmp_path / "file").read_bytes(), "file")


def test_no_tensors() -> None:
    with pytest.raises(PromptError, match="cannot read a file"):
        Familiarity.read(b"", "a file")
