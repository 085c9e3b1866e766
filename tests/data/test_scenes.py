from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from sp_edge.data import scenes
from sp_edge.data.scenes import (
    COLOURS,
    GROUPS,
    PATTERNS,
    SHAPES,
    SPLIT_SIZES,
    SceneClass,
    draw_background,
    draw_object,
    draw_scene,
    draw_split,
    split_classes,
)
from sp_edge.errors import SettingsError

PINNED = ["plain yellow ring", "plain green square", "plain green bolt"]

Picture = np.ndarray
GREY = 120.0


def alone(what: SceneClass, *, angle: float = 0.0, radius: float = 40, centre: tuple[float, float] = (60, 60)) -> Picture:
    """An object on plain grey, float32 (120, 120, 3)."""
    canvas = np.full((120, 120, 3), GREY, np.float32)
    draw_object(canvas, what, centre, radius, angle)
    return canvas


def painted(canvas: Picture) -> Picture:
    """Where something was painted, bool (H, W)."""
    return (canvas != GREY).any(axis=-1)


def scene(what: SceneClass, seed: int, distractor: SceneClass | None = None, size: int = 96) -> Picture:
    return draw_scene(what, np.random.default_rng(seed), size, distractor).astype(int)


# --- classes ---


def test_every_combination_is_a_class_of_exactly_one_split() -> None:
    splits = split_classes()
    names = [c.name for classes in splits.values() for c in classes]
    assert {split: len(classes) for split, classes in splits.items()} == SPLIT_SIZES
    assert len(names) == len(set(names)) == len(PATTERNS) * len(COLOURS) * len(SHAPES)
    assert set(names) == {f"{p} {c} {s}" for p in PATTERNS for c in COLOURS for s in SHAPES}


def test_the_splits_never_change() -> None:
    """A checkpoint's base classes may not become novel ones with another release of ours or of NumPy."""
    splits = split_classes()
    assert [c.name for c in splits["val"][:3]] == PINNED
    assert split_classes() == splits


@pytest.mark.parametrize(("attribute", "values"), [("pattern", PATTERNS), ("colour", COLOURS), ("shape", SHAPES)])
def test_every_word_of_a_name_is_learned_on_the_base_classes(attribute: str, values: Any) -> None:
    assert {getattr(c, attribute) for c in split_classes()["train"]} == set(values)


# --- objects ---


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_object_has_its_colour_within_its_radius(shape: str, colour: str) -> None:
    canvas = alone(SceneClass("plain", colour, shape))
    mask = painted(canvas)
    assert 0.15 < mask.mean() * 120 * 120 / 80**2 < 0.95, "share of its square that it fills"
    inside = (np.abs(canvas - COLOURS[colour]) < 0.5).all(axis=-1)
    assert inside.sum() > 0.8 * mask.sum(), "but for the soft edge"
    y, x = np.nonzero(mask)
    assert np.hypot(x - 60, y - 60).max() <= 1.15 * 40
    assert (x.max() - x.min(), y.max() - y.min()) > (40, 40)


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p != "plain"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_pattern_has_two_tones_and_both_are_seen(pattern: str, colour: str) -> None:
    plain, patterned = alone(SceneClass("plain", colour, "square")), alone(SceneClass(pattern, colour, "square"))
    np.testing.assert_array_equal(painted(plain), painted(patterned))
    inside = (np.abs(plain - COLOURS[colour]) < 0.5).all(axis=-1)
    distance = np.abs(patterned - COLOURS[colour]).max(axis=-1)[inside]
    assert (distance < 20).mean() > 0.15, "the colour itself"
    assert (distance > 60).mean() > 0.08, "the ink"


@pytest.mark.parametrize("pair", [*combinations(PATTERNS, 2)])
def test_patterns_differ(pair: tuple[str, str]) -> None:
    one, other = (alone(SceneClass(pattern, "red", "square")) for pattern in pair)
    assert (np.abs(one - other).max(axis=-1) > 40).mean() > 0.04


@pytest.mark.parametrize("pair", [*combinations(SHAPES, 2)])
def test_shapes_differ(pair: tuple[str, str]) -> None:
    one, other = (painted(alone(SceneClass("plain", "red", shape))) for shape in pair)
    assert (one ^ other).sum() > 0.08 * (one | other).sum()


@pytest.mark.parametrize("pair", [*combinations(COLOURS, 2)])
def test_colours_differ(pair: tuple[str, str]) -> None:
    assert np.abs(np.subtract(COLOURS[pair[0]], COLOURS[pair[1]])).max() >= 40


@pytest.mark.parametrize(("angle", "ahead"), [(0, (0, -1)), (np.pi / 2, (1, 0)), (np.pi, (0, 1)), (-np.pi / 2, (-1, 0))])
def test_an_object_turns_clockwise(angle: float, ahead: tuple[int, int]) -> None:
    mask = painted(alone(SceneClass("plain", "red", "arrow"), angle=angle))
    x, y = ahead
    for side in (-26, 26):  # the head is this broad, the shaft is not
        assert mask[60 + 6 * y + side * x, 60 + 6 * x + side * y]
        assert not mask[60 - 6 * y + side * x, 60 - 6 * x + side * y]


@pytest.mark.parametrize("centre", [(0, 0), (119, 60), (60, 119), (-30, 60), (60, 140)])
def test_an_object_is_cut_off_at_the_edge(centre: tuple[float, float]) -> None:
    mask = painted(alone(SceneClass("plain", "red", "circle"), centre=centre))
    y, x = np.indices(mask.shape)
    distance = np.hypot(x - centre[0], y - centre[1])
    assert mask[distance < 34].all()
    assert not mask[distance > 38].any()


@pytest.mark.parametrize("centre", [(-100, 60), (300, 60), (60, -100), (60, 300), (1e4, 1e4)])
def test_an_object_outside_is_not_seen(centre: tuple[float, float]) -> None:
    assert not painted(alone(SceneClass("plain", "red", "circle"), centre=centre)).any()


# --- scenes ---


@pytest.mark.parametrize("size", [32, 33, 96])
def test_a_scene_is_a_busy_rgb_picture(size: int) -> None:
    picture = draw_scene(SceneClass("plain", "red", "star"), np.random.default_rng(0), size)
    assert (picture.shape, picture.dtype) == ((size, size, 3), np.uint8)
    ground = draw_background(np.random.default_rng(0), size, size + 7)
    assert (ground.shape, ground.dtype) == ((size, size + 7, 3), np.float32)
    assert ground.std() > 10
    assert (np.abs(np.diff(ground, axis=1)) > 1).mean() > 0.5, "grain"


def test_the_object_is_in_the_scene_in_its_own_colour() -> None:
    """With one stream of chance, scenes of two colours differ where the object is, and there only."""
    found = 0
    for seed in range(12):
        white = scene(SceneClass("plain", "white", "circle"), seed)
        for colour in ("red", "green", "blue"):
            picture = scene(SceneClass("plain", colour, "circle"), seed)
            where = (picture != white).any(axis=-1)
            assert 0.05 < where.mean() < 0.25
            brightness = np.median(white[where]) / 245
            if brightness < 1.03:  # otherwise white is cut at 255 and does not tell how bright the picture is
                found += 1
                np.testing.assert_allclose(np.median(picture[where], axis=0) / brightness, COLOURS[colour], atol=4)
    assert found >= 12


def test_a_distractor_stands_elsewhere_and_leaves_the_object_alone() -> None:
    what, other = SceneClass("plain", "red", "circle"), SceneClass("plain", "blue", "square")
    for seed in range(12):
        clean, cluttered = scene(what, seed), scene(what, seed, other)
        changed = (clean != cluttered).any(axis=-1)
        object_at = (clean != scene(SceneClass("plain", "white", "circle"), seed)).any(axis=-1)
        assert 0.05 < changed.mean() < 0.3, "as large as the object"
        assert (changed & object_at).sum() < 0.25 * object_at.sum()
        repainted = (cluttered != scene(what, seed, SceneClass("plain", "yellow", "square"))).any(axis=-1)
        assert repainted.mean() > 0.05, "the distractor is what was asked for"
        assert (repainted & ~changed).mean() < 0.01


def test_objects_stand_in_every_quarter() -> None:
    quarters = set()
    for seed in range(30):
        one, other = (scene(SceneClass("plain", colour, "circle"), seed, size=32) for colour in ("white", "blue"))
        y, x = np.nonzero((one != other).any(axis=-1))
        quarters.add((bool(y.mean() > 16), bool(x.mean() > 16)))
    assert len(quarters) == 4


# --- splits ---


@pytest.fixture(scope="module")
def val() -> Any:
    return draw_split("val", size=32, per_class=2)


def test_a_split_has_so_many_pictures_of_every_class_and_group(val: Any) -> None:
    count = SPLIT_SIZES["val"]
    assert (val.images.shape, val.images.dtype) == ((count * 4, 32, 32, 3), np.uint8)
    assert val.class_names == tuple(c.name for c in split_classes()["val"])
    assert tuple(val.groups) == GROUPS
    for group in GROUPS:
        assert np.bincount(val.only(group).labels).tolist() == [2] * count
    assert sorted(np.concatenate(list(val.groups.values())).tolist()) == list(range(len(val)))


def test_drawing_again_gives_the_same_pictures(val: Any) -> None:
    again = draw_split("val", size=32, per_class=2)
    np.testing.assert_array_equal(again.images, val.images)
    np.testing.assert_array_equal(again.labels, val.labels)


def test_no_picture_comes_twice(val: Any) -> None:
    assert len({picture.tobytes() for picture in val.images}) == len(val)
    other_seed = draw_split("val", size=32, per_class=1, groups=("clean",), seed=1)
    other_split = draw_split("test", size=32, per_class=1, groups=("clean",))
    known = {picture.tobytes() for picture in val.images}
    assert not known & {picture.tobytes() for picture in [*other_seed.images, *other_split.images]}


def test_splits_do_not_share_their_grounds(val: Any) -> None:
    other = draw_split("test", size=32, per_class=1, groups=("clean",))
    mine = val.only("clean").images[::2]
    assert (mine == other.images[: len(mine)]).all(axis=-1).mean() < 0.1


def test_any_part_can_be_drawn_alone(val: Any) -> None:
    """A picture depends on (seed, class, index, cluttered), not on what else is drawn."""
    for group in GROUPS:
        first = draw_split("val", size=32, per_class=1, groups=(group,))
        np.testing.assert_array_equal(first.images, val.only(group).images[::2])
        assert list(first.groups) == [group]


def test_clutter_differs_from_clean(val: Any) -> None:
    clutter, clean = val.only("clutter"), val.only("clean")
    assert (clutter.labels == clean.labels).all()
    assert (clutter.images != clean.images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("split", SPLIT_SIZES)
def test_the_distractor_is_of_another_class_of_the_same_split(monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    drawn: list[tuple[SceneClass, SceneClass | None]] = []

    def record(what: SceneClass, rng: object, size: int, distractor: SceneClass | None = None) -> Picture:
        drawn.append((what, distractor))
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr(scenes, "draw_scene", record)
    classes = split_classes()[split]
    cluttered = draw_split(split, size=32, per_class=3, groups=("clutter",))
    assert [what.name for what, _ in drawn] == [cluttered.class_names[label] for label in cluttered.labels]
    assert all(other in classes and other != what for what, other in drawn)
    assert len({other for _, other in drawn}) > len(classes) // 2
    drawn.clear()
    draw_split(split, size=32, per_class=1, groups=("clean",))
    assert all(other is None for _, other in drawn)
    assert len(drawn) == len(classes)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ({"split": "novel"}, "novel"),
        ({"groups": ("clean", "dirty")}, "clean, dirty"),
        ({"size": 31}, "31"),
        ({"size": 0}, "0"),
        ({"size": -5}, "-5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, Any], got: str) -> None:
    with pytest.raises(SettingsError) as raised:
        draw_split(**{"split": "val", "size": 32, "per_class": 1, **wrong})
    assert raised.value.got == got
    assert raised.value.expected
