from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sp_edge.data.cache import SCHEMA, prepared
from sp_edge.data.folder import FolderSource
from sp_edge.data.listing import Listing
from sp_edge.data.sets import open_source
from sp_edge.errors import DataError, ImageError
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess
from sp_edge.settings.settings import DataSettings

SMALL = Preprocess(16, 1.1)
Make = Callable[..., Listing]


@pytest.fixture
def reads() -> Counter[str]:
    return Counter()


@pytest.fixture
def make(tmp_path: Path, reads: Counter[str]) -> Make:
    """Lists the pictures that are there now; `reads` counts how often each is read."""
    for number in range(7):
        write(tmp_path / "pictures" / f"{number}.png", number)

    def listing(title: str = "train of somewhere") -> Listing:
        files = sorted((tmp_path / "pictures").glob("*.png"))
        made = Listing.of_files(title, {"a": files[:3], "b": files[3:]})

        def read(row: int) -> np.ndarray:
            reads[files[row].name] += 1
            return made.read(row)

        return Listing(made.title, made.class_names, made.labels, made.pictures, made.stamps, read)

    return listing


def write(file: Path, seed: int, side: int = 20) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, 24, 3), dtype=np.uint8)).save(file)


def arrays(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def expected(listing: Listing, preprocess: Preprocess = SMALL) -> np.ndarray:
    return np.stack([preprocess(load_image(Path(picture))) for picture in listing.pictures])


def test_pictures_are_prepared_once_and_mapped(make: Make, reads: Counter[str], tmp_path: Path) -> None:
    listing = make()
    first = prepared(listing, SMALL, tmp_path / "cache")
    second = prepared(make(), SMALL, tmp_path / "cache")
    assert set(reads.values()) == {1}
    for images in (first, second):
        assert isinstance(images, np.memmap)
        assert (images.dtype, images.shape) == (np.uint8, (7, 16, 16, 3))
        np.testing.assert_array_equal(images, expected(listing))


def test_a_choice_of_pictures_is_ordinary_memory_that_torch_takes(make: Make, tmp_path: Path) -> None:
    images = prepared(make(), SMALL, tmp_path / "cache")
    chosen = images[np.array([5, 0, 5])]
    assert type(chosen) is np.ndarray
    np.testing.assert_array_equal(chosen[0], chosen[2])
    part = torch.from_numpy(images[2:5])  # a warning here would fail the test
    part += 1
    assert (part.numpy() == images[2:5]).all(), "this process's own copy"
    np.testing.assert_array_equal(prepared(make(), SMALL, tmp_path / "cache"), expected(make()))


def test_a_record_says_what_a_file_holds(make: Make, tmp_path: Path) -> None:
    prepared(make(), SMALL, tmp_path / "cache")
    (file,) = arrays(tmp_path / "cache")
    record = json.loads(file.with_suffix(".json").read_text())
    assert record["data"] == "train of somewhere"
    assert (record["pictures"], record["classes"], record["schema"]) == (7, 2, SCHEMA)
    assert record["preprocess"] == SMALL.to_json()
    assert file.stat().st_size == 128 + 7 * 16 * 16 * 3


def change(file: Path) -> None:
    write(file, 99)


def touch(file: Path) -> None:
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def rename(file: Path) -> None:
    file.rename(file.with_name("9.png"))


def add(file: Path) -> None:
    write(file.with_name("33.png"), 33)


@pytest.mark.parametrize("act", [change, touch, rename, add, Path.unlink])
def test_what_has_changed_is_prepared_anew_and_takes_the_place_of_the_old(
    make: Make, tmp_path: Path, act: Callable[[Path], object]
) -> None:
    old = prepared(make(), SMALL, tmp_path / "cache")
    kept = np.array(old)
    (file,) = arrays(tmp_path / "cache")
    act(tmp_path / "pictures" / "3.png")
    images = prepared(make(), SMALL, tmp_path / "cache")
    np.testing.assert_array_equal(images, expected(make()))
    (new,) = arrays(tmp_path / "cache")
    assert new.name != file.name
    assert new.name.partition("-")[0] == file.name.partition("-")[0]
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1
    np.testing.assert_array_equal(old, kept)


def test_however_the_path_is_typed_the_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    for number, split in enumerate(("train", "val", "test")):
        (root / split / f"mug {number}").mkdir(parents=True)
        write(root / split / f"mug {number}" / "0.png", number)
    (tmp_path / "link").symlink_to("set")
    monkeypatch.chdir(root / "train")
    kept = set()
    for typed in (root, Path("../../set"), Path("../../link"), Path("..")):
        prepared(FolderSource(typed).listing("train"), SMALL, tmp_path / "cache")
        kept |= {(file.name, file.stat().st_ino) for file in arrays(tmp_path / "cache")}
    assert len(kept) == 1


def test_two_divisions_of_one_folder_leave_each_others_files_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("cup", "mug", "pan")):
        (tmp_path / "set" / name).mkdir(parents=True)
        write(tmp_path / "set" / name / "0.png", number)
    divisions = [{"cup": "train", "mug": "val", "pan": "test"}, {"cup": "val", "mug": "train", "pan": "test"}]
    for number, division in enumerate(divisions):
        (tmp_path / f"{number}.json").write_text(json.dumps(division))
    for number in (0, 1, 0):
        data = DataSettings(source=str(tmp_path / "set"), split=str(tmp_path / f"{number}.json"))
        prepared(open_source(data).listing("train"), SMALL, tmp_path / "cache")
    assert len(arrays(tmp_path / "cache")) == 2


def test_sets_and_preprocessings_live_side_by_side(make: Make, reads: Counter[str], tmp_path: Path) -> None:
    for _ in range(2):
        for title in ("train", "val"):
            for preprocess in (SMALL, Preprocess(16, 1.0), Preprocess(8, 1.1)):
                images = prepared(make(title), preprocess, tmp_path / "cache")
                np.testing.assert_array_equal(images, expected(make(), preprocess))
    assert len(arrays(tmp_path / "cache")) == 6
    assert set(reads.values()) == {6}


def test_another_release_of_pillow_prepares_anew(
    make: Make, reads: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(make(), SMALL, tmp_path / "cache")
    monkeypatch.setattr("PIL.__version__", "99.0")
    prepared(make(), SMALL, tmp_path / "cache")
    assert set(reads.values()) == {2}


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None], ids=["empty", "no header", "cut off"])
def test_a_damaged_file_is_made_anew(make: Make, tmp_path: Path, damage: bytes | None) -> None:
    prepared(make(), SMALL, tmp_path / "cache")
    (file,) = arrays(tmp_path / "cache")
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    np.testing.assert_array_equal(prepared(make(), SMALL, tmp_path / "cache"), expected(make()))


def test_of_two_that_want_the_same_one_prepares_it(make: Make, reads: Counter[str], tmp_path: Path) -> None:
    found: list[np.ndarray] = []
    both = threading.Barrier(2)

    def want() -> None:
        listing = make()
        both.wait()
        found.append(prepared(listing, SMALL, tmp_path / "cache"))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(reads.values()) == {1}
    for images in found:
        np.testing.assert_array_equal(images, expected(make()))


KILLED = """
import sys, time
from pathlib import Path
from sp_edge.data.cache import prepared
from sp_edge.data.listing import Listing
from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess
files = sorted(Path(sys.argv[1]).glob("*.png"))
whole = Listing.of_files("train of somewhere", {"a": files[:3], "b": files[3:]})
def read(row):
    if row == 4:
        print("reading", flush=True)
        time.sleep(600)
    return whole.read(row)
listing = Listing(whole.title, whole.class_names, whole.labels, whole.pictures, whole.stamps, read)
prepared(listing, Preprocess(16, 1.1), Path(sys.argv[2]))
"""


def test_what_a_killed_process_had_begun_is_never_read(make: Make, tmp_path: Path) -> None:
    listing = make()
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "pictures"), str(tmp_path / "cache")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not arrays(tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob(".*.part"))) == 1
    np.testing.assert_array_equal(prepared(listing, SMALL, tmp_path / "cache"), expected(listing))
    assert not list((tmp_path / "cache").glob(".*.part"))


# --- what can go wrong ---


def test_a_picture_that_cannot_be_read_leaves_nothing(make: Make, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "5.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"5\.png"):
        prepared(make(), SMALL, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    assert not list((tmp_path / "cache").glob(".*.part"))


def test_too_little_room_is_said_before_the_work(
    make: Make, reads: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 7 * 16 * 16 * 3
    monkeypatch.setattr("sp_edge.arrays.shutil.disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(DataError, match="is out of room") as raised:
        prepared(make(), SMALL, tmp_path / "cache")
    assert raised.value.expected == "room for 0.00 GB"
    assert "data.cache" in raised.value.next_step
    assert not reads
    monkeypatch.setattr("sp_edge.arrays.shutil.disk_usage", lambda _: SimpleNamespace(free=needed))
    assert len(prepared(make(), SMALL, tmp_path / "cache")) == 7


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "is out of room"), (errno.EDQUOT, "is out of room")])
def test_a_disk_that_fills_up_on_the_way(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("sp_edge.arrays.os.fsync", fsync)
    with pytest.raises(DataError, match=words):
        prepared(make(), SMALL, tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())


def test_a_write_that_fails_leaves_nothing(make: Make, tmp_path: Path) -> None:
    listing = make()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            prepared(listing, SMALL, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not any((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_made_is_said(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written") as raised:
        prepared(make(), SMALL, tmp_path / "file" / "cache")
    assert "data.cache" in raised.value.next_step


def test_the_place_follows_the_platform(monkeypatch: pytest.MonkeyPatch, default_folder: Callable[[], Path]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    assert default_folder() == Path("/scratch/cache/sp-edge/pictures")
    monkeypatch.setenv("HOME", "/home/me")
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert default_folder() == Path("/home/me", usual, "sp-edge/pictures")


def test_nobody_without_a_home_is_left_in_the_dark(monkeypatch: pytest.MonkeyPatch, default_folder: Callable[[], Path]) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # an account that the system does not know, as in containers
    with pytest.raises(DataError, match="no place for the cache of pictures"):
        default_folder()


def test_all_pictures_that_cannot_be_read_are_named_at_once(make: Make, tmp_path: Path) -> None:
    for number in (1, 5):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="2 of 7 pictures of train of somewhere cannot be read") as raised:
        prepared(make(), SMALL, tmp_path / "cache")
    assert "1.png" in raised.value.got
    assert "5.png" in raised.value.got
    assert "sp-edge data check" in raised.value.next_step
    assert arrays(tmp_path / "cache") == []
