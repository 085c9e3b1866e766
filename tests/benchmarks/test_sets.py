from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import characters
import compose
import emoji
import iconify
import icons
from compose import Drawings, Style, draw_picture, draw_set, fill_square, split_labels, write_set
from sp_edge.data.cache import prepared
from sp_edge.data.folder import FolderSource
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError, SettingsError
from sp_edge.preprocess import Preprocess

RED, GREEN = (255, 0, 0, 255), (0, 255, 0, 255)


def grey(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.float32)


def as_drawn(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return pixels


PLAIN = Style(as_drawn, grey, angle=0, mirror=False)


def blocks(count: int = 20, hands: int = 2) -> Drawings:
    """Full squares; class c by hand h has the colour (10 c, 100 h, 255)."""
    found = {
        f"block {c:02}": [np.tile(np.array([10 * c, 100 * h, 255, 255], np.uint8), (16, 16, 1)) for h in range(hands)]
        for c in range(count)
    }
    return Drawings.stack(found)


def archive(where: Path, package: str, members: dict[str, object]) -> None:
    with tarfile.open(where / f"{package}.tgz", "w:gz") as content:
        for name, value in members.items():
            written = json.dumps(value).encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(written)
            content.addfile(entry, io.BytesIO(written))


def test_splits_part_the_classes_and_stay_as_they_are() -> None:
    splits = split_labels(1000)
    assert [len(splits[s]) for s in ("train", "val", "test")] == [700, 100, 200]
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(1000))
    assert splits["test"][:4].tolist() == [2, 9, 11, 12]


def test_a_class_has_the_rows_of_its_drawings() -> None:
    drawings = Drawings.stack({"b": [np.zeros((2, 2), np.uint8)] * 3, "a": [np.ones((2, 2), np.uint8)]})
    assert drawings.names == ("a", "b")
    assert list(drawings.of(0)) == [0]
    assert list(drawings.of(1)) == [1, 2, 3]
    assert drawings.pixels[0].all()


def test_pictures_follow_from_the_seed_and_from_nothing_else() -> None:
    first, again = (draw_set(blocks(), PLAIN, "test", 32, 3, 0) for _ in range(2))
    clean = draw_set(blocks(), PLAIN, "test", 32, 3, 0, ("clean",))
    other = draw_set(blocks(), PLAIN, "test", 32, 3, 1)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.only("clean").images, clean.images)
    assert (first.images != other.images).any()


def test_labels_and_groups_say_what_was_drawn() -> None:
    drawings = blocks()
    pictures = draw_set(drawings, PLAIN, "test", 32, 2, 0)
    assert pictures.class_names == tuple(drawings.names[i] for i in split_labels(20)["test"])
    assert {name: len(rows) for name, rows in pictures.groups.items()} == {"clutter": 8, "clean": 8}
    assert np.bincount(pictures.labels[pictures.groups["clean"]]).tolist() == [2, 2, 2, 2]


def drawn_hands(pictures: PictureSet) -> list[set[int]]:
    """Which hands' blocks a picture shows: theirs are blue, with or without green; the ground is grey."""
    blue = pictures.images[..., 2].astype(int) > 1.6 * pictures.images[..., 1] + 30
    return [set((image[..., 1][block] > 30).astype(int)) for image, block in zip(pictures.images, blue, strict=True)]


def test_the_hands_take_turns_within_a_class() -> None:
    pictures = draw_set(blocks(), PLAIN, "val", 64, 4, 0, ("clean",))
    hands = drawn_hands(pictures)
    assert hands[:4] == [{0}, {1}, {0}, {1}]


def test_clutter_shows_two_things_in_two_quarters() -> None:
    shown = [np.tile(np.array(colour, np.uint8), (16, 16, 1)) for colour in (RED, GREEN)]
    picture = draw_picture(shown, PLAIN, np.random.default_rng(0), 100).astype(int)
    centres = []
    for channel, others in ((0, (1, 2)), (1, (0, 2))):
        alone = (picture[..., channel] > 150) & (picture[..., others[0]] < 50) & (picture[..., others[1]] < 50)
        assert 30**2 < alone.sum() < 50**2
        centres.append(np.argwhere(alone).mean(0) // 50)
    assert tuple(centres[0]) != tuple(centres[1])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"split": "dev"}, "split"),
        ({"groups": ("crowd",)}, "group"),
        ({"groups": ()}, "group"),
        ({"size": 31}, "size"),
        ({"per_class": 0}, "nothing to draw"),
        ({"seed": -1}, "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, object], what: str) -> None:
    asked = {"split": "test", "size": 32, "per_class": 1, "seed": 0, "groups": ("clean",)} | change
    with pytest.raises(SettingsError, match=what):
        draw_set(blocks(), PLAIN, **asked)  # type: ignore[arg-type]


def test_a_drawing_is_cropped_and_centred() -> None:
    tall = np.zeros((40, 40), np.uint8)
    tall[5:25, 30:40] = 255
    square = fill_square(tall, 24)
    rows, columns = np.flatnonzero(square.max(1) > 127), np.flatnonzero(square.max(0) > 127)
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (1, 22, 6, 16)
    with pytest.raises(DataError, match="empty"):
        fill_square(np.zeros((8, 8, 4), np.uint8), 24)


def test_drawings_are_gathered_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def gather() -> Drawings:
        calls.append(1)
        return blocks(3)

    first, again = (compose.cached(tmp_path, emoji.__file__, gather) for _ in range(2))
    assert len(calls) == 1
    assert first.names == again.names == ("block 00", "block 01", "block 02")
    np.testing.assert_array_equal(again.pixels, blocks(3).pixels)
    compose.cached(tmp_path, icons.__file__, gather)
    assert len(calls) == 2


def test_a_written_set_is_one_that_sp_edge_reads(tmp_path: Path) -> None:
    def build(split: str, size: int, per_class: int, seed: int, groups: tuple[str, ...]) -> PictureSet:
        return draw_set(blocks(), PLAIN, split, size, per_class, seed, groups)

    out = tmp_path / "set"
    write_set(build, out, ("clutter", "clean"), size=32, per_class=2, seed=0)
    read = FolderSource(out).listing("test")
    images = prepared(read, Preprocess(32, 1.0), tmp_path / "cache")
    drawn = build("test", 32, 2, 0, ("clean",))
    assert read.class_names == drawn.class_names
    assert len(images) == 2 * len(drawn)
    np.testing.assert_array_equal(images[:2], drawn.images[:2])  # 'clean' sorts before 'clutter'
    with pytest.raises(DataError, match="exists"):
        write_set(build, out, ("clean",), size=32, per_class=2, seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot create"):
        write_set(build, tmp_path / "file" / "set", ("clean",), size=32, per_class=2, seed=0)


def test_icons_of_a_package_come_with_their_plain_aliases(tmp_path: Path) -> None:
    content = {
        "icons": {"cat": {"body": "<path/>"}, "wide": {"body": "<g/>", "width": 20}},
        "aliases": {"kitten": {"parent": "cat"}, "cat-turned": {"parent": "cat", "rotate": 1}, "lost": {"parent": "dog"}},
        "height": 24,
    }
    archive(tmp_path, "iconify-json-pets-1.0.0", {"icons.json": content})
    found = iconify.read_icons("pets", "1.0.0", tmp_path)
    assert set(found) == {"cat", "kitten", "wide"}
    assert found["kitten"] == found["cat"]
    assert 'viewBox="0 0 16 24"><path/></svg>' in found["cat"]
    assert 'viewBox="0 0 20 24"' in found["wide"]


def test_a_package_without_the_file_or_damaged_is_refused(tmp_path: Path) -> None:
    archive(tmp_path, "thing-1.0.0", {"a.json": {}})
    with pytest.raises(DataError, match=r"b\.json"):
        iconify.read_member("thing", "1.0.0", "b.json", tmp_path)
    (tmp_path / "thing-2.0.0.tgz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="remove"):
        iconify.read_member("thing", "2.0.0", "a.json", tmp_path)


def test_without_npm_the_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="npm"):
        iconify.read_member("@scope/thing", "1.0.0", "a.json", tmp_path)


@pytest.mark.parametrize(
    ("label", "group", "subgroup", "kept"),
    [
        ("fire engine", 5, 54, True),
        ("waxing crescent moon", 5, 59, True),
        ("waning crescent moon", 5, 59, False),
        ("three o\N{RIGHT SINGLE QUOTATION MARK}clock", 5, 58, False),
        ("alarm clock", 5, 58, True),
        ("red heart", 0, 14, True),
        ("grinning face", 0, 0, False),
        ("up arrow", 8, 85, False),
        ("white medium square", 8, 96, False),
        ("yellow square", 8, 96, True),
        ("flag: Iceland", 9, 98, False),
    ],
)
def test_emoji_are_things_with_a_look_of_their_own(label: str, group: int, subgroup: int, kept: bool) -> None:
    groups = {0: "smileys & emotion", 5: "travel & places", 8: "symbols", 9: "flags"}
    subgroups = {
        0: "smiling", 14: "hearts", 54: "ground transportation", 58: "time", 59: "weather", 85: "arrows",
        96: "shapes & colors", 98: "country flags",
    }  # fmt: skip
    assert emoji.wanted({"label": label, "group": group, "subgroup": subgroup}, groups, subgroups) is kept


def test_an_emoji_without_a_group_is_left_out() -> None:
    assert not emoji.wanted({"label": "regional indicator A"}, {}, {})


def test_names_of_emoji_have_plain_apostrophes() -> None:
    assert emoji.class_name("rescue worker\N{RIGHT SINGLE QUOTATION MARK}s  helmet") == "rescue worker's helmet"


def test_names_of_icons() -> None:
    icons_of_a_collection = ["washing-machine-outline", "cat-outline", "cat", "arrow-up-outline", "a-outline", "mp3-outline"]
    assert icons.named(icons_of_a_collection, "{}-outline") == {
        "washing machine": "washing-machine-outline",
        "cat": "cat-outline",
    }
    assert icons.class_name("calendar-day") is None
    assert icons.class_name("lightbulb") == "lightbulb"
    assert icons.class_name("file--x") is None


def test_letters_are_called_by_their_unicode_names() -> None:
    letters = characters.letters()
    assert letters["greek small letter xi"] == "\N{GREEK SMALL LETTER XI}"
    assert letters["latin capital letter a"] == "A"
    assert "hiragana letter small tu" not in letters
    assert not any(" with " in name for name in letters)
    assert len(set(letters.values())) == len(letters) > 900


def test_missing_fonts_are_named(tmp_path: Path) -> None:
    (tmp_path / "truetype/seto").mkdir(parents=True)
    (tmp_path / "truetype/seto/setofont.ttf").touch()
    with pytest.raises(DataError, match="apt install fonts-noto-core fonts-klee"):
        characters.font_files(tmp_path)


def test_a_drawing_is_new_unless_one_before_it_looks_the_same() -> None:
    upright, level = np.zeros((2, 32, 32), np.uint8)
    upright[:, 8:16] = 255
    level[8:16] = 255  # shares a quarter of the ink: cosine 0.25
    seen: list[np.ndarray] = []
    assert characters.is_new(upright, seen, 0.9)
    assert not characters.is_new(upright // 2, seen, 0.9)
    assert characters.is_new(level, seen, 0.9)
    assert not characters.is_new(level, seen, 0.2)
    assert len(seen) == 2


def test_a_font_that_copies_another_is_no_hand_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    copy = tmp_path / "copy.ttf"
    copy.write_bytes((fonts / "DejaVuSans.ttf").read_bytes())
    files = [fonts / "DejaVuSans.ttf", copy, *(fonts / f"DejaVu{name}.ttf" for name in ("Serif", "Sans-BoldOblique"))]
    monkeypatch.setattr(characters, "font_files", lambda: files)
    monkeypatch.setattr(characters, "SCRIPTS", ((0x41, 0x43),))
    drawings = characters.gather()
    assert drawings.names == ("latin capital letter a", "latin capital letter b", "latin capital letter c")
    assert [len(drawings.of(label)) for label in range(3)] == [3, 3, 3]
    monkeypatch.setattr(characters, "font_files", lambda: files[:3])
    monkeypatch.setattr(Drawings, "stack", dict)
    assert characters.gather() == {}, "two hands are too few"


def test_writing_bends_a_letter_but_keeps_it(tmp_path: Path) -> None:
    letter = np.zeros((48, 48), np.uint8)
    letter[6:42, 20:28] = 255
    first, second = (characters.write(letter, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == (60, 60, 4)
    assert (first[..., 3] != second[..., 3]).any()
    for written in (first, second):
        assert 0.6 < (written[..., 3] > 127).sum() / (letter > 127).sum() < 1.8
        assert written[..., :3].max() <= 128


def test_symbols_stand_out_from_a_mid_tone_ground() -> None:
    mask = np.full((4, 4), 200, np.uint8)
    painted = [icons.paint(mask, np.random.default_rng(seed)) for seed in range(20)]
    brightest = [int(p[..., :3].max()) for p in painted]
    assert all(b <= 64 or b >= 229 for b in brightest)
    assert len({b <= 64 for b in brightest}) == 2
    assert all((p[..., 3] == 200).all() for p in painted)
