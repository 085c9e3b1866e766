from __future__ import annotations

import numpy as np
import pytest

from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError


def pictures(**changes: object) -> PictureSet:
    fields = {
        "images": np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3),
        "labels": np.array([0, 1, 0, 1]),
        "class_names": ("a", "b"),
        "groups": {"first": np.array([0, 1]), "odd": np.array([3, 1])},
    }
    return PictureSet(**{**fields, **changes})  # type: ignore[arg-type]


def test_it_knows_how_many_pictures_it_has() -> None:
    assert len(pictures()) == 4
    nothing = pictures(images=np.zeros((0, 8, 8, 3), np.uint8), labels=np.zeros(0, np.int64), class_names=(), groups={})
    assert len(nothing) == 0


def test_a_group_is_a_set_of_its_own() -> None:
    whole = pictures()
    odd = whole.only("odd")
    np.testing.assert_array_equal(odd.images, whole.images[[3, 1]])
    assert odd.labels.tolist() == [1, 1]
    assert odd.class_names == ("a", "b")
    assert list(odd.groups) == ["odd"]
    np.testing.assert_array_equal(odd.only("odd").images, odd.images)
    assert odd.only("all") is odd


def test_an_unknown_group_is_refused_with_those_that_are() -> None:
    with pytest.raises(DataError, match="no such group") as raised:
        pictures().only("night")
    assert (raised.value.expected, raised.value.got) == ("first, odd", "night")


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 2, 2, 3), np.float32),
        np.zeros((4, 2, 2), np.uint8),
        np.zeros((4, 3, 2, 2), np.uint8),
        np.zeros((4, 2, 2, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((), np.uint8),
    ],
)
def test_pictures_of_another_form_are_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match="wrong form") as raised:
        pictures(images=images)
    assert raised.value.got == f"{images.dtype} {images.shape}"


@pytest.mark.parametrize("labels", [np.array([0, 1, 0]), np.array([[0, 1, 0, 1]]), np.array(0), np.zeros(0, np.int64)])
def test_every_picture_has_one_label(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="labels do not match"):
        pictures(labels=labels)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2], [-1, 0, 1, 1], [0.0, 0.5, 1.0, 1.0]])
def test_every_label_has_a_name(labels: list[float]) -> None:
    with pytest.raises(DataError, match="no class name") as raised:
        pictures(labels=np.array(labels))
    assert raised.value.expected == "0 to 1"


def test_a_class_may_have_no_picture() -> None:
    assert pictures(class_names=("a", "b", "c")).class_names == ("a", "b", "c")


def test_class_names_are_distinct() -> None:
    with pytest.raises(DataError, match="one name") as raised:
        pictures(class_names=("a", "b", "a", "b", "c"))
    assert raised.value.got == "a, b"
