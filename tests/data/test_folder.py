from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.data.episodes import EpisodeSampler
from sp_edge.data.folder import FolderSource
from sp_edge.errors import DataError, PromptError
from sp_edge.pictures import load_image


def fill(root: Path, **classes: int) -> Path:
    """Pictures of noise: `fill(root, train__fox=3)` makes three in train/fox; the number tells them apart."""
    for place, count in classes.items():
        folder = root.joinpath(*place.split("__"))
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng([number, len(place)]).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_pictures_come_by_class_and_by_file_name(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=3, train__bear=2)
    listing = FolderSource(tmp_path).listing("train")
    assert listing.class_names == ("bear", "fox")
    assert listing.labels.tolist() == [0, 0, 1, 1, 1]
    assert listing.labels.dtype == np.int64
    files = [tmp_path / "train" / f for f in ("bear/0.png", "bear/1.png", "fox/0.png", "fox/1.png", "fox/2.png")]
    assert listing.pictures == tuple(map(str, files))
    for row, file in enumerate(files):
        np.testing.assert_array_equal(listing.read(row), load_image(file))
        assert listing.stamps[row] == (file.stat().st_size, file.stat().st_mtime_ns)


def test_folder_names_are_class_names(tmp_path: Path) -> None:
    long = "x" * 200
    fill(tmp_path, train__polar_bear=1, **{f"train__{long}": 1, "train__赤い_自転車": 1, "train__Zürcher Kaffeetasse": 1})
    expected = {"polar bear", long, "赤い 自転車", "Zürcher Kaffeetasse"}
    assert set(FolderSource(tmp_path).class_names("train")) == expected
    assert set(FolderSource(tmp_path).listing("train").class_names) == expected


def test_a_table_of_names_goes_before_the_folders(tmp_path: Path) -> None:
    fill(tmp_path, train__n02119789=1, train__n01614925=2, train__owl=1)
    names = {"n02119789": "kit_fox", "n01614925": "bald  eagle", "n00000000": "nothing here"}
    listing = FolderSource(tmp_path, names=names).listing("train")
    assert listing.class_names == ("bald eagle", "kit fox", "owl"), "in the order of the folders"
    assert listing.labels.tolist() == [0, 0, 1, 2]
    with pytest.raises(DataError, match=r"two classes in .* are called 'owl'"):
        FolderSource(tmp_path, names={"n02119789": "owl"}).class_names("train")
    with pytest.raises(DataError, match="names none of the class folders") as raised:
        FolderSource(tmp_path, names={"kit": "fox"})
    assert "n01614925, n02119789, owl" in raised.value.expected


def test_what_is_no_class_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "readme.txt").write_text("")
    (tmp_path / "train" / "fox" / "notes.txt").write_text("")
    (tmp_path / "train" / "fox" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "fox" / "sub.png").mkdir()
    assert len(FolderSource(tmp_path).listing("train")) == 1


@pytest.mark.parametrize(("one", "other"), [("polar_bear", "polar bear"), ("cafe\u0301", "caf\u00e9"), ("a  b", "a_b")])
def test_two_folders_with_one_name_are_refused(tmp_path: Path, one: str, other: str) -> None:
    fill(tmp_path, **{f"train__{one}": 1, f"train__{other}": 1})
    if len(list((tmp_path / "train").iterdir())) == 1:
        pytest.skip("this file system knows one spelling only")
    with pytest.raises(DataError, match="two classes") as raised:
        FolderSource(tmp_path).class_names("train")
    assert unicodedata.normalize("NFC", one.replace("_", " ").replace("  ", " ")) in raised.value.what
    assert one in raised.value.got
    assert other in raised.value.got
    assert "data.names" in raised.value.next_step


def test_a_folder_whose_name_says_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "_").mkdir(parents=True)
    with pytest.raises(PromptError, match="needs a name"):
        FolderSource(tmp_path).class_names("train")


def test_a_class_in_two_splits_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, train__polar_bear=1, train__fox=1, val__owl=1, **{"test__polar bear": 1})
    source = FolderSource(tmp_path)
    for split, other in (("train", "test"), ("test", "train")):
        with pytest.raises(DataError, match=f"both {split}/ and {other}/") as raised:
            source.listing(split)
        assert raised.value.got == "polar bear"
    assert source.listing("val").class_names == ("owl",)


def test_a_class_without_pictures_is_listed(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1, train__owl=0, train__yak=1)
    listing = FolderSource(tmp_path).listing("train")
    assert listing.class_names == ("fox", "owl", "yak")
    assert listing.labels.tolist() == [0, 2]


@pytest.mark.parametrize("made", [[], ["train"], ["train/.hidden"]])
def test_a_split_without_classes_is_refused(tmp_path: Path, made: list[str]) -> None:
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match="no classes in" if made else "has no train/"):
        FolderSource(tmp_path).listing("train")


def test_a_data_set_that_is_not_there_is_refused_with_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder") as raised:
        FolderSource(tmp_path / "nowhere").listing("train")
    assert "train/, val/ and test/" in raised.value.expected
    assert raised.value.got == "nothing"


def test_splits_are_folders(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1)
    (tmp_path / "val").write_text("a file")
    assert FolderSource(tmp_path).splits == ("train",)


# --- one folder a class, and a split file ---

ASSIGNED = {"fox": "train", "owl": "test", "bear": "train"}


def test_a_split_file_divides_the_folders(tmp_path: Path) -> None:
    fill(tmp_path, fox=2, owl=1, bear=1)
    source = FolderSource(tmp_path, assigned=ASSIGNED, names={"owl": "barn owl"})
    assert source.splits == ("train", "test")
    assert source.class_names("train") == ("bear", "fox")
    assert source.class_names("test") == ("barn owl",)
    assert [Path(picture).relative_to(tmp_path).as_posix() for picture in source.listing("train").pictures] == [
        "bear/0.png",
        "fox/0.png",
        "fox/1.png",
    ]
    with pytest.raises(DataError, match="no classes in") as raised:
        source.class_names("val")
    assert raised.value.got == "none for val"


@pytest.mark.parametrize(
    ("change", "what", "got"),
    [
        ({"yak": "train"}, "classes that have no folder", "1, such as yak"),
        ({"owl": None}, "leaves out classes", "1, such as owl"),
        ({"owl": "validation"}, "names no split", "validation"),
        ({"fox": "Train", "owl": ""}, "names no split", ", Train"),
    ],
)
def test_a_split_file_that_does_not_fit_the_folders_is_refused(
    tmp_path: Path, change: dict[str, str | None], what: str, got: str
) -> None:
    fill(tmp_path, fox=1, owl=1, bear=1)
    assigned = {name: split for name, split in {**ASSIGNED, **change}.items() if split is not None}
    with pytest.raises(DataError, match=what) as raised:
        FolderSource(tmp_path, assigned=assigned)
    assert raised.value.got == got


def test_a_name_in_two_splits_of_a_split_file_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, fox=1, owl=1, bear=1)
    with pytest.raises(DataError, match="both train/ and test/"):
        FolderSource(tmp_path, assigned=ASSIGNED, names={"owl": "fox"}).listing("train")


def test_too_few_pictures_or_classes_for_an_episode_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=3, train__owl=4)
    labels = FolderSource(tmp_path).listing("train").labels
    EpisodeSampler(labels, n_way=2, n_shot=1, n_query=2, seed=0)
    with pytest.raises(DataError, match="too few pictures") as raised:
        EpisodeSampler(labels, n_way=2, n_shot=2, n_query=2, seed=0)
    assert (raised.value.expected, raised.value.got) == ("n_shot + n_query = 4", "3 pictures")
    with pytest.raises(DataError, match="fewer classes than ways") as raised:
        EpisodeSampler(labels, n_way=3, n_shot=1, n_query=1, seed=0)
    assert (raised.value.expected, raised.value.got) == ("at least 3 classes", "2")


# --- what is taken and what is not ---


@pytest.mark.parametrize("called", ["valid", "validation"])
def test_validation_may_be_called_otherwise(tmp_path: Path, called: str) -> None:
    fill(tmp_path, train__fox=1, **{f"{called}__owl": 2})
    source = FolderSource(tmp_path)
    assert source.splits == ("train", "val")
    listing = source.listing("val")
    assert (listing.class_names, len(listing)) == (("owl",), 2)
    assert listing.notes == (f"{tmp_path / called} is taken for val/",)
    (tmp_path / "val").symlink_to(called)
    assert FolderSource(tmp_path).listing("val").class_names == ("owl",), "one folder of two names"
    (tmp_path / "val").unlink()
    fill(tmp_path, val__elk=1)
    with pytest.raises(DataError, match="may be val/") as raised:
        FolderSource(tmp_path).listing("train")
    assert raised.value.got == f"val/, {called}/"


def test_folders_beside_the_splits_are_named(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1, test__owl=1, unlabeled__x=1, images__y=1)
    source = FolderSource(tmp_path)
    assert source.listing("train").notes == (f"not read in {tmp_path}: images/, unlabeled/",)
    assert source.listing("test").notes == (), "once is enough"


def test_a_class_may_lie_in_a_folder_of_its_folder(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1, train__owl__images=2, train__fox__more=1)
    listing = FolderSource(tmp_path).listing("train")
    assert listing.labels.tolist() == [0, 0, 1, 1]
    assert listing.notes == (f"{tmp_path / 'train'}: 4 pictures (3 in folders below)",)
    fill(tmp_path, train__owl__others=1)
    with pytest.raises(DataError, match=r"owl holds folders with pictures") as raised:
        FolderSource(tmp_path).listing("train")
    assert "owl itself, if it holds the class folders" in raised.value.next_step


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    fill(tmp_path, train__fox=1)
    clip = tmp_path / "train" / "fox" / "clip.mov"
    clip.write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    (tmp_path / "train" / "fox" / "notes.txt").write_text("")
    listing = FolderSource(tmp_path).listing("train")
    assert listing.left_out == {str(clip): "video"}
    assert listing.notes == (
        f"{tmp_path / 'train'}: 1 picture; left out 1 as video (such as {clip}); passed over 1 other file",
    )
