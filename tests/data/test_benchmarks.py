from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from sp_edge.data import benchmarks
from sp_edge.data.benchmarks import load, open_benchmark
from sp_edge.errors import DataError
from sp_edge.prompts.table import clean_name

SIZES = {
    "mini-imagenet": (64, 16, 20),
    "tiered-imagenet": (351, 97, 160),
    "cifar-fs": (64, 16, 20),
    "fc100": (60, 20, 20),
    "cub": (140, 30, 30),
}
SPLITS = ("train", "val", "test")
MINI = load("mini-imagenet").classes


@pytest.mark.parametrize("name", benchmarks.NAMES)
def test_a_benchmark_has_its_classes_once_each_with_a_name_of_its_own(name: str) -> None:
    classes = load(name).classes
    assert tuple(len(classes[split]) for split in SPLITS) == SIZES[name]
    folders = [folder for split in SPLITS for folder in classes[split]]
    names = [word for split in SPLITS for word in classes[split].values()]
    assert len(set(folders)) == sum(SIZES[name])
    assert len({word.lower() for word in names}) == sum(SIZES[name])
    assert all(clean_name(word) == word for word in names)
    assert all(list(classes[split]) == sorted(classes[split]) for split in SPLITS)


@pytest.mark.parametrize("name", ["mini-imagenet", "tiered-imagenet"])
def test_classes_of_imagenet_are_known_by_their_wordnet_id(name: str) -> None:
    spec = importlib.util.find_spec("timm")  # whose list of synsets is read without the seconds that importing it takes
    if spec is None or spec.origin is None:
        pytest.skip("timm is not installed")
    lines = (Path(spec.origin).parent / "data/_info/imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    known = dict(line.split("\t") for line in lines)
    for split in SPLITS:
        for folder, word in load(name).classes[split].items():
            assert re.fullmatch(r"n\d{8}", folder)
            words = known[folder].lower()
            assert any(part in words for part in word.lower().split()), f"{folder}: {word} is none of {words}"


def test_the_two_sets_of_imagenet_call_a_class_alike() -> None:
    tiered = {folder: word for classes in load("tiered-imagenet").classes.values() for folder, word in classes.items()}
    mini = {folder: word for classes in MINI.values() for folder, word in classes.items()}
    shared = tiered.keys() & mini.keys()
    assert len(shared) == 58
    assert all(tiered[folder] == mini[folder] for folder in shared)
    assert tiered["n02012849"] == "crane bird"
    assert tiered["n03710721"] == "tank suit"


def test_both_sets_of_cifar_have_all_of_its_classes() -> None:
    words = [{w: name for classes in load(b).classes.values() for w, name in classes.items()} for b in ("cifar-fs", "fc100")]
    assert words[0] == words[1]
    assert len(words[0]) == 100


def test_fc100_is_split_by_superclass() -> None:
    classes = load("fc100").classes
    aquatic, insects = (
        ("beaver", "dolphin", "otter", "seal", "whale"),
        ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    )
    medium, people = ("fox", "porcupine", "possum", "raccoon", "skunk"), ("baby", "boy", "girl", "man", "woman")
    assert set(classes["test"]) == {*aquatic, *insects, *medium, *people}
    carnivores, omnivores = (
        ("bear", "leopard", "lion", "tiger", "wolf"),
        ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    )
    invertebrates, small = ("crab", "lobster", "snail", "spider", "worm"), ("hamster", "mouse", "rabbit", "shrew", "squirrel")
    assert set(classes["val"]) == {*carnivores, *omnivores, *invertebrates, *small}


def test_the_novel_classes_of_mini_imagenet() -> None:
    names = "nematode, king crab, golden retriever, malamute, dalmatian, African hunting dog, lion, ant, black-footed ferret, "
    names += (
        "bookshop, crate, cuirass, electric guitar, hourglass, mixing bowl, school bus, scoreboard, theater curtain, vase, "
    )
    assert set(MINI["test"].values()) == set(f"{names}trifle".split(", "))


def test_cub_has_every_bird_by_its_number() -> None:
    numbers = sorted(int(folder[:3]) for classes in load("cub").classes.values() for folder in classes)
    assert numbers == list(range(1, 201))


# --- where the pictures lie ---


def put(file: Path) -> None:
    """A file that has a picture's name: nothing here looks into it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def folders(root: Path, form: str, name: str = "mini-imagenet") -> Path:
    for split, classes in load(name).classes.items():
        for folder in classes:
            put(root / form.format(split=split) / folder / f"{folder}_1.JPEG")
    return root


@pytest.mark.parametrize("form", [".", "{split}", "images"])
def test_folders_by_wordnet_id_are_found(tmp_path: Path, form: str) -> None:
    folders(tmp_path, form)
    (tmp_path / form.format(split="test") / "n99999999").mkdir()  # not of the benchmark
    source = open_benchmark("mini-imagenet", tmp_path, {})
    assert source.splits == SPLITS
    for split in SPLITS:
        listing = source.listing(split)
        assert listing.class_names == source.class_names(split) == tuple(MINI[split].values())
        assert listing.labels.tolist() == list(range(len(MINI[split])))
        assert [Path(picture).parent.name for picture in listing.pictures] == list(MINI[split])


def test_cub_is_found_as_it_is_unpacked(tmp_path: Path) -> None:
    folders(tmp_path, "CUB_200_2011/images", "cub")
    listing = open_benchmark("cub", tmp_path, {}).listing("test")
    assert listing.class_names[:2] == ("Rhinoceros Auklet", "Brewer Blackbird")
    assert len(listing) == 30


def test_splits_by_folder_go_before_everything_in_one(tmp_path: Path) -> None:
    folders(tmp_path, "images")
    folders(tmp_path, "{split}")
    listing = open_benchmark("mini-imagenet", tmp_path, {}).listing("val")
    assert {Path(picture).parent.parent.name for picture in listing.pictures} == {"val"}


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    folders(tmp_path, ".")
    gone = tmp_path / "n01930112"
    (gone / "n01930112_1.JPEG").unlink()
    source = open_benchmark("mini-imagenet", tmp_path, {})
    assert len(source.listing("test")) == 19, "an empty class is for the check to tell"
    gone.rmdir()
    with pytest.raises(DataError, match="1 of the 20 test classes of miniImageNet are not in") as raised:
        source.listing("test")
    assert raised.value.got == "no n01930112"
    assert len(source.listing("train")) == 64


@pytest.mark.parametrize("name", ["mini-imagenet", "tiered-imagenet", "cub"])
def test_a_folder_with_nothing_in_it_is_refused(tmp_path: Path, name: str) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=f"{SIZES[name][0]} of the {SIZES[name][0]} train classes"):
            open_benchmark(name, root, {}).listing("train")


def test_names_of_ones_own_go_before_the_benchmarks(tmp_path: Path) -> None:
    source = open_benchmark("mini-imagenet", tmp_path, {"n01930112": "round_worm", "n99999999": "nothing"})
    assert source.class_names("test")[:2] == ("round worm", "king crab")
    with pytest.raises(DataError, match="have one name") as raised:
        open_benchmark("mini-imagenet", tmp_path, {"n01930112": "goose"})
    assert raised.value.got == "goose"


# --- csv splits ---


def csv_split(root: Path, header: str, form: str, where: str = ".") -> list[str]:
    """Two pictures of each novel class, the second of which lies there and is not listed."""
    lines = []
    for folder in MINI["test"]:
        for number in (1, 2):
            put(root / form.format(folder=folder, file=f"{folder}_{number}.jpg"))
        columns = {"filename": f"{folder}_1.jpg", "image_name": f"{folder}_1.jpg", "label": folder, "class_name": folder}
        lines.append(",".join(columns[column] for column in header.split(",")))
    (root / where).mkdir(parents=True, exist_ok=True)
    (root / where / "test.csv").write_text("\n".join([header, *lines]))
    return lines


@pytest.mark.parametrize("form", ["images/{file}", "images/{folder}/{file}", "{folder}/{file}", "{file}"])
@pytest.mark.parametrize("header", ["filename,label", "class_name,image_name"])
def test_a_csv_says_which_pictures_count(tmp_path: Path, header: str, form: str) -> None:
    csv_split(tmp_path, header, form)
    listing = open_benchmark("mini-imagenet", tmp_path, {}).listing("test")
    expected = [str(tmp_path / form.format(folder=folder, file=f"{folder}_1.jpg")) for folder in MINI["test"]]
    assert list(listing.pictures) == expected
    assert listing.class_names == tuple(MINI["test"].values())


def test_csv_files_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    csv_split(tmp_path, "filename,label", "images/{file}", where="split")
    assert len(open_benchmark("mini-imagenet", tmp_path, {}).listing("test")) == 20


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("n01930112_1.jpg,n99999999", "they differ in n01930112, n99999999"),
        ("n01930112_1.jpg,", "they differ in n01930112"),
        (",", "they differ in n01930112"),
    ],
)
def test_a_csv_of_other_classes_is_refused(tmp_path: Path, first: str, said: str) -> None:
    lines = csv_split(tmp_path, "filename,label", "images/{file}")
    (tmp_path / "test.csv").write_text("\n".join(["filename,label", first, *lines[1:]]))
    with pytest.raises(DataError, match="does not list miniImageNet's split") as raised:
        open_benchmark("mini-imagenet", tmp_path, {}).listing("test")
    assert said in raised.value.got


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"filename,label\n", b"\xff", b'filename,label\n"a'])
def test_what_is_no_such_csv_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"test\.csv"):
        open_benchmark("mini-imagenet", tmp_path, {}).listing("test")


def test_a_listed_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    csv_split(tmp_path, "filename,label", "images/{file}")
    (tmp_path / "images" / "n02110063_1.jpg").unlink()
    with pytest.raises(DataError, match="is not there") as raised:
        open_benchmark("mini-imagenet", tmp_path, {}).listing("test")
    assert "n02110063_1.jpg" in raised.value.got


@pytest.mark.parametrize("place", ["../secret.jpg", "/etc/passwd"])
def test_a_csv_does_not_lead_out_of_its_folder(tmp_path: Path, place: str) -> None:
    put(tmp_path / "secret.jpg")
    lines = csv_split(tmp_path / "mini", "filename,label", "{file}")
    (tmp_path / "mini" / "test.csv").write_text("\n".join(["filename,label", *lines, f"{place},n01930112"]))
    with pytest.raises(DataError, match="leads out of its folder"):
        open_benchmark("mini-imagenet", tmp_path / "mini", {}).listing("test")


def test_pictures_may_be_links_to_a_copy_elsewhere(tmp_path: Path) -> None:
    csv_split(tmp_path / "imagenet", "filename,label", "images/{file}")
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "images").symlink_to(tmp_path / "imagenet" / "images")
    (tmp_path / "mini" / "test.csv").symlink_to(tmp_path / "imagenet" / "test.csv")
    assert len(open_benchmark("mini-imagenet", tmp_path / "mini", {}).listing("test")) == 20
