from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sp_edge import folders
from sp_edge.errors import BankError
from sp_edge.files import write_bytes
from sp_edge.folders import atomic_folder, holds_earlier

OLD, NEW = b"old" * 1000, b"new" * 2000


class Interrupted(BaseException):
    """Stands for a KeyboardInterrupt, which pytest takes for its own."""


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with atomic_folder(target) as temporary:
        assert temporary.parent == target.parent
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_bytes(OLD)
        (temporary / "only-old").write_bytes(OLD)
        assert not target.exists()
    assert content(tmp_path) == {"deep/bundle/sub/a": OLD, "deep/bundle/only-old": OLD}
    with atomic_folder(target) as temporary:
        (temporary / "a").write_bytes(NEW)
        assert content(target) == {"sub/a": OLD, "only-old": OLD}
    assert content(tmp_path) == {"deep/bundle/a": NEW}
    assert sorted(p.name for p in target.parent.iterdir()) == ["bundle"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, Interrupted])
@pytest.mark.parametrize("there", [True, False])
def test_a_failed_block_leaves_the_old_folder_and_no_temporary(tmp_path: Path, error: type[BaseException], there: bool) -> None:
    target = tmp_path / "bundle"
    if there:
        target.mkdir()
        (target / "a").write_bytes(OLD)

    def fail() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "b").write_bytes(NEW)
            raise error

    with pytest.raises(error):
        fail()
    assert content(tmp_path) == ({"bundle/a": OLD} if there else {})
    assert [p.name for p in tmp_path.iterdir()] == (["bundle"] if there else [])


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_be_renamed_leaves_the_old_one_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "a").write_bytes(OLD)
    replace, calls = Path.replace, []

    def refuse(self: Path, to: Path) -> Path:
        calls.append(self)
        if len(calls) == failing:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(self, to)

    def write() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "b").write_bytes(NEW)

    monkeypatch.setattr(folders, "_RENAMEAT2", None)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="Permission"):
        write()
    assert content(tmp_path) == {"bundle/a": OLD}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def swaps(folder: Path) -> bool:
    """Whether two folders can be swapped here; leaves them swapped."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    return folders._swap(folder / "one", folder / "two")


def test_a_folder_that_is_replaced_is_never_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not swaps(tmp_path):
        pytest.skip("this system or file system cannot swap folders")
    write_bytes(tmp_path / "one" / "a", OLD)
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("renamed away"))
    with atomic_folder(tmp_path / "one") as temporary:
        (temporary / "b").write_bytes(NEW)
    assert content(tmp_path) == {"one/b": NEW}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_what_cannot_be_swapped_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "bundle" / "a", OLD)
    monkeypatch.setattr(folders, "_RENAMEAT2", lambda *_: -1)
    with atomic_folder(tmp_path / "bundle") as temporary:
        (temporary / "b").write_bytes(NEW)
    assert content(tmp_path) == {"bundle/b": NEW}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(OLD)
    with pytest.raises(NotADirectoryError), atomic_folder(tmp_path / "a"):
        raise AssertionError("work is not begun that cannot end")
    assert content(tmp_path) == {"a": OLD}


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(tmp_path: Path, absolute: bool, there: bool) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    if there:
        write_bytes(shared / "bundle" / "a", OLD)
    (tmp_path / "link").symlink_to(shared / "bundle" if absolute else "shared/bundle")
    with atomic_folder(tmp_path / "link") as temporary:
        assert temporary.parent == shared, "a rename is atomic only within one file system"
        (temporary / "b").write_bytes(NEW)
    assert (tmp_path / "link").is_symlink()
    assert content(shared) == {"bundle/b": NEW}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "shared"]
    assert [p.name for p in shared.iterdir()] == ["bundle"]


def test_a_link_into_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("not-mounted/bundle")
    with pytest.raises(FileNotFoundError, match="not-mounted, which is not there"), atomic_folder(tmp_path / "link"):
        pytest.fail("work is not begun that cannot end")
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("mode", [0o2770, 0o750, 0o555])
def test_a_folder_that_is_replaced_hands_on_its_mode_and_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool, mode: int
) -> None:
    if not swap:
        monkeypatch.setattr(folders, "_RENAMEAT2", None)
    target = tmp_path / "bundle"
    target.mkdir()
    group = 54321 if os.geteuid() == 0 else target.stat().st_gid
    os.chown(target, -1, group)
    target.chmod(mode)
    with atomic_folder(target) as temporary:
        (temporary / "a").write_bytes(NEW)
    assert (target.stat().st_mode & 0o7777, target.stat().st_gid) == (mode, group)
    if mode & 0o2000:
        assert (target / "a").stat().st_gid == group, "what is made in it is the group's, too"
    target.chmod(0o750)


def test_a_new_folder_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("path", [".", "..", "/", "sub/.."])
def test_what_cannot_be_renamed_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="name of a folder in it"), atomic_folder(Path(path)):
        pytest.fail("work is not begun that cannot end")
    assert [p.name for p in tmp_path.iterdir()] == ["sub"]


def test_the_parent_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(OSError, match="file"), atomic_folder(tmp_path / "file" / "a"):
        pass
    assert content(tmp_path) == {"file": OLD}


@pytest.mark.parametrize("name", ["é" * 120 + ".json", "a" * 250 + ".bin", "no suffix", ".hidden"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    with atomic_folder(tmp_path / name) as temporary:
        (temporary / "a").write_bytes(NEW)
    assert content(tmp_path) == {f"{name}/a": NEW}


@pytest.mark.parametrize("swap", [True, False])
def test_many_writers_of_one_folder_leave_one_of_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    if not swap:
        monkeypatch.setattr(folders, "_RENAMEAT2", None)
    target = tmp_path / "bundle"

    def write(number: int) -> None:
        for turn in range(20):
            with atomic_folder(target) as temporary:
                for name in ("a", "b"):
                    (temporary / name).write_text(f"{number} {turn}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (target / "a").read_text() == (target / "b").read_text()
    assert (target / "a").read_text().endswith(" 19")


def earlier(path: Path) -> bool:
    return holds_earlier(path, "index.json", ("read*", "pictures"), BankError, what="an album", next_step="look elsewhere")


def test_a_path_is_free_or_holds_what_was_written_there(tmp_path: Path) -> None:
    assert not earlier(tmp_path / "nothing" / "here")
    album = tmp_path / "album"
    album.mkdir()
    assert not earlier(album)
    (album / "index.json").touch()
    assert earlier(album)
    (album / "readme.txt").touch()
    (album / "pictures").mkdir()
    (album / "pictures" / "cat.png").touch()
    assert earlier(album)


@pytest.mark.parametrize(
    ("names", "got"),
    [
        (["letter.txt"], "letter.txt"),
        (["index.json", "letter.txt", "pictures", ".hidden"], ".hidden, letter.txt"),
        (["readme"], "no index.json"),
        (["index.json", "old read"], "old read"),
        (None, "a file"),
    ],
)
def test_what_somebody_else_put_there_is_in_the_way(tmp_path: Path, names: list[str] | None, got: str) -> None:
    place = tmp_path / "place"
    if names is None:
        place.touch()
    else:
        for name in names:
            write_bytes(place / name, b"dear")
    with pytest.raises(BankError, match="place is in the way: it is not an album of sp-edge") as raised:
        earlier(place)
    assert (raised.value.got, raised.value.next_step) == (got, "look elsewhere")
