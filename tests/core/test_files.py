from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.errors import BankError, BundleError, PromptError
from sp_edge.files import atomic_file, beside, inside, locked, read_json, remove_leftovers, sha256, write_bytes, write_json
from sp_edge.tensors import save_tensors

OLD, NEW = b"old" * 1000, b"new" * 2000


class Interrupted(BaseException):
    """Stands for a KeyboardInterrupt, which pytest takes for its own."""


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def umask(mask: int) -> object:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# --- atomic_file ---


def test_a_file_is_written_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.bin"
    write_bytes(target, OLD)
    assert content(tmp_path) == {"new/folder/a.bin": OLD}
    write_bytes(target, NEW)
    assert content(tmp_path) == {"new/folder/a.bin": NEW}


def test_the_file_keeps_its_name_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(OLD)
    with atomic_file(target) as temporary:
        assert temporary.parent == target.parent, "a rename is atomic only within one file system"
        assert temporary.suffix == ".png", "writers choose the format by the suffix"
        assert temporary.name.startswith("."), "whoever lists the folder passes over it"
        temporary.write_bytes(NEW)
        assert target.read_bytes() == OLD
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, Interrupted])
@pytest.mark.parametrize("there", [True, False])
def test_a_failed_block_leaves_the_old_file_and_no_temporary(tmp_path: Path, error: type[BaseException], there: bool) -> None:
    target = tmp_path / "a.bin"
    if there:
        target.write_bytes(OLD)

    def fail() -> None:
        with atomic_file(target) as temporary:
            temporary.write_bytes(NEW)
            raise error

    with pytest.raises(error):
        fail()
    assert content(tmp_path) == ({"a.bin": OLD} if there else {})


def test_a_disk_that_fills_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(OLD)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(target, NEW)
    assert content(tmp_path) == {"a.bin": OLD}


def test_a_disk_that_reports_its_failure_only_on_sync_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(OLD)

    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="Input/output"):
        write_bytes(target, NEW)
    assert content(tmp_path) == {"a.bin": OLD}


def test_the_new_name_is_on_the_disk_when_the_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a file system may have the content of a file, and still the old name for it."""
    synced: list[tuple[bool, str]] = []
    original = os.fsync

    def seen(number: int) -> None:
        synced.append((os.path.samestat(os.fstat(number), tmp_path.stat()), (tmp_path / "file").read_text()))
        original(number)

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", seen)
    write_bytes(tmp_path / "file", b"new")
    assert synced == [(False, "old"), (True, "new")]


def test_a_truly_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    script = tmp_path / "fill.py"
    script.write_text("""
import errno, pathlib, sys
from sp_edge.files import write_bytes
target = pathlib.Path(sys.argv[1]) / "a.bin"
write_bytes(target, b"old")
try:
    write_bytes(target, bytes(1 << 20))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else:
    raise SystemExit("the disk never filled")
assert [p.name for p in target.parent.iterdir()] == ["a.bin"], list(target.parent.iterdir())
assert target.read_bytes() == b"old"
""")
    disk = tmp_path / "disk"
    disk.mkdir()
    # A mount namespace of its own: the small disk is gone with the process.
    command = 'mount -t tmpfs -o size=64k tmpfs "$1" && touch "$1.mounted" && exec "$2" "$3" "$1"'
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", command, "sh", str(disk), sys.executable, str(script)],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("this machine has no unshare")
    if not (tmp_path / "disk.mounted").exists():
        pytest.skip(f"may not mount a small disk here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def test_kill_9_in_the_middle_of_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(OLD)
    script = """
import pathlib, sys, time
from sp_edge.files import atomic_file
with atomic_file(pathlib.Path(sys.argv[1])) as temporary:
    with temporary.open("wb") as half:
        half.write(b"half")
        half.flush()
        print("writing", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.kill()
    assert target.read_bytes() == OLD


def test_a_reader_never_sees_half_a_file_even_when_its_writer_is_killed(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    script = """
import itertools, pathlib, sys
from sp_edge.files import write_bytes
for value in itertools.cycle(b"ab"):
    write_bytes(pathlib.Path(sys.argv[1]), bytes([value]) * 300_000)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(target)]) as writer:
        deadline = time.monotonic() + 60
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = {target.read_bytes() for _ in range(200)}
        writer.kill()
    seen.add(target.read_bytes())
    assert seen <= {b"a" * 300_000, b"b" * 300_000}


def test_what_killed_writers_left_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.state.safetensors"
    left = [beside(path), beside(path)]
    alike = path.with_name("pretrain.state.safety.safetensors")  # whose name begins as long alike, and which is being written
    others = [
        tmp_path / name
        for name in (
            path.name,
            f".tune.state.safetensor.{'0' * 16}.safetensors",
            f".pretrain.state.safet.{'0' * 15}.safetensors",
            f".pretrain.state.safet.{'0' * 16}.json",
            ".pretrain.state.safetensors.lock",
            beside(alike).name,
        )
    ]
    for file in (*left, *others):
        file.write_text("mine")
    remove_leftovers(path)
    assert set(tmp_path.iterdir()) == set(others)
    remove_leftovers(tmp_path / "nowhere" / "x.json")


def test_what_is_removed_is_what_writers_make(tmp_path: Path) -> None:
    path = tmp_path / ("[a*?]" * 7 + ".json")
    with atomic_file(path) as temporary:
        assert temporary.exists()
        remove_leftovers(path)
        assert not temporary.exists()
        temporary.write_text("again, as the block's end expects it")


def test_the_users_umask_holds(tmp_path: Path) -> None:
    with umask(0o027):
        write_bytes(tmp_path / "a.bin", OLD)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_the_umask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(mask: int) -> int:
        raise AssertionError("the umask is the whole process's: another thread would write with the wrong one")

    monkeypatch.setattr(os, "umask", touched)
    write_bytes(tmp_path / "a.bin", OLD)


@pytest.mark.parametrize("name", ["é" * 120 + ".json", "熊" * 80 + ".bin", "a" * 250 + ".bin", "no suffix", ".hidden"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, OLD)
    assert content(tmp_path) == {name: OLD}


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with atomic_file(target) as first, atomic_file(target) as second:
        assert first != second
        first.write_bytes(OLD)
        second.write_bytes(NEW)
    assert content(tmp_path) == {"a.bin": OLD}, "the one that ends last counts"


def test_the_parent_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(OSError, match="file"), atomic_file(tmp_path / "file" / "a"):
        pass
    assert content(tmp_path) == {"file": OLD}


# --- links, modes, and what is no file ---


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path, absolute: bool, there: bool) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    if there:
        (shared / "a.bin").write_bytes(OLD)
    (tmp_path / "second").symlink_to(shared / "a.bin" if absolute else "shared/a.bin")
    (tmp_path / "link").symlink_to("second")
    write_bytes(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert content(shared) == {"a.bin": NEW}


def test_a_link_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(OLD)
    (tmp_path / "two").write_bytes(OLD)
    (tmp_path / "link").symlink_to("one")
    with atomic_file(tmp_path / "link") as temporary:
        temporary.write_bytes(NEW)
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("two")
    assert content(tmp_path) == {"one": NEW, "two": OLD, "link": OLD}


def test_a_link_into_a_folder_that_is_not_there_makes_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("not-mounted/a.bin")
    with pytest.raises(FileNotFoundError, match="not-mounted, which is not there"):
        write_bytes(tmp_path / "link", NEW)
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_loop_of_links_stays(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        write_bytes(tmp_path / "loop", NEW)
    assert (tmp_path / "loop").is_symlink()


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o4755, 0o444])
def test_a_file_that_is_replaced_hands_on_its_mode_owner_and_group(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(OLD)
    if os.geteuid() == 0:
        os.chown(target, 54320, 54321)
    target.chmod(mode)
    before = target.stat()
    with atomic_file(target) as temporary:
        assert not temporary.stat().st_mode & 0o077, "what is private is so while it is written"
        temporary.write_bytes(NEW)
    after = target.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert target.read_bytes() == NEW


def test_where_the_group_cannot_be_kept_another_group_gets_no_more_than_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(OLD)
    target.chmod(0o664)
    stat = Path.stat

    def refuse(*_: object) -> None:
        raise PermissionError

    def foreign(self: Path, **options: bool) -> os.stat_result:
        found = stat(self, **options)
        return os.stat_result([*found[:5], found.st_gid + 1, *found[6:]]) if self == target else found

    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(Path, "stat", foreign)
    write_bytes(target, NEW)
    assert stat(target).st_mode & 0o777 == 0o644


def test_a_fifo_is_written_to_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "link").symlink_to("fifo")
    for path in (fifo, tmp_path / "link"):
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(fifo.read_bytes)
            write_json(path, {"a": 1})
            assert json.loads(read.result()) == {"a": 1}
    assert fifo.is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "link"]


@pytest.mark.parametrize("write", [write_bytes, lambda path, data: save_tensors(path, {"a": np.zeros(1)}, {})])
def test_a_device_is_written_to_and_stays(write: Callable[[Path, bytes], None]) -> None:
    write(Path(os.devnull), NEW)
    assert Path(os.devnull).is_char_device()
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"), NEW)
    assert Path("/dev/full").is_char_device()


def test_a_block_that_fails_writes_nothing_to_a_device(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="within"), atomic_file(Path("/dev/full")) as temporary:
        temporary.write_bytes(NEW)
        raise RuntimeError("within")


@pytest.mark.parametrize("name", ["/dev/stdout", "{own}"])
def test_what_this_process_prints_to_is_written_to(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    script = """
import pathlib, sys
from sp_edge.files import write_bytes
print("before")
write_bytes(pathlib.Path(sys.argv[1]), b"written\\n")
print("after")
"""
    with out.open("wb") as file:
        subprocess.run([sys.executable, "-c", script, name.format(own=out)], stdout=file, check=True)
    assert out.read_text() == "before\nwritten\nafter\n"
    piped = subprocess.run([sys.executable, "-c", script, "/dev/stdout"], capture_output=True, check=True)
    assert piped.stdout == b"before\nwritten\nafter\n"


# --- JSON ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(value=st.dictionaries(st.text(), JSON, max_size=4).filter(encodable))
@settings(deadline=None, max_examples=40)
def test_json_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    write_json(path, value)
    assert read_json(path, BundleError) == value
    assert path.read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [{"a": -float("inf")}]])
def test_json_has_no_nan(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": value})
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1}{',
        b"\xff\xfe\x00",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"[" * 200_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b"[1, 2]",
        b"null",
        b'"text"',
    ],
)
def test_what_is_not_a_json_object_is_the_callers_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(PromptError, match=r"a\.json") as raised:
        read_json(path, PromptError)
    assert "JSON" in raised.value.expected
    assert raised.value.got


def test_a_missing_json_file_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(BankError, match=r"nothing\.json"):
        read_json(tmp_path / "nothing.json", BankError)
    with pytest.raises(BankError, match="cannot read"):
        read_json(tmp_path, BankError)


# --- hashes and names ---


@pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 9000])
def test_sha256_is_hashlibs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.delattr(hashlib, "file_digest", raising=False)  # Python 3.10, which JetPack 6 has, lacks it
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", ["a", "sub/a", "sub/../a", "./a", "…", "a" * 255, " ", "..a", "not there/b"])
def test_a_name_in_the_folder_is_allowed(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    assert inside(tmp_path, name, BundleError) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "sub/../../x",
        "/etc/passwd",
        "//etc/passwd",
        "\0",
        "a\0b",
        "\ud800",
        "out",
        "out/passwd",
        "../bundle2/x",
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (tmp_path / "bundle2").mkdir()
    (folder / "out").symlink_to("/etc")
    with pytest.raises(BundleError, match="out of its folder") as raised:
        inside(folder, name, BundleError)
    str(raised.value).encode()  # can be printed


def test_a_link_within_the_folder_is_allowed_and_a_loop_never_hangs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    assert inside(tmp_path, "link", BundleError).read_bytes() == OLD
    try:
        looping = inside(tmp_path, "loop", BundleError)
    except BundleError:
        return
    assert not looping.is_file()


def test_a_folder_reached_by_a_link_is_still_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    assert inside(tmp_path / "alias", "a", BundleError) == tmp_path / "alias" / "a"


# --- locked ---


def test_all_who_share_a_file_share_its_lock(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "link").symlink_to("shared/bank")
    with locked(tmp_path / "link") as place:
        assert place == tmp_path / "shared" / "bank"
        assert [entry.name for entry in (tmp_path / "shared").iterdir()] == [".bank.lock"]
    assert not any((tmp_path / "shared").iterdir())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=r"cannot be locked in its folder: .*bank'") as raised, locked(tmp_path / "bank"):
        pytest.fail("not locked")
    assert raised.value.errno == code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_another_account_waits_for_a_lock_that_is_not_its_own(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o777 if folder == tmp_path else folder.stat().st_mode | 0o055)
    lock = tmp_path / ".bank.lock"
    lock.touch(0o600)
    os.seteuid(54320)
    try:
        with pytest.raises(PermissionError, match="cannot be locked in its folder"), locked(tmp_path / "bank"):
            pytest.fail("not locked")
        os.seteuid(0)
        lock.chmod(0o644)
        os.seteuid(54320)
        with locked(tmp_path / "bank"):
            assert lock.exists()
    finally:
        os.seteuid(0)


def test_a_lock_goes_with_whoever_held_it(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "bank"):
        assert [entry.name for entry in (tmp_path / "new").iterdir()] == [".bank.lock"]
    assert not any((tmp_path / "new").iterdir())
    with pytest.raises(RuntimeError, match="within"), locked(tmp_path / "bank"):
        raise RuntimeError("within")
    assert not (tmp_path / ".bank.lock").exists()


def test_one_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with locked(tmp_path / "bank"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0)  # lets the others try
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert most == [1] * 200
    assert not any(tmp_path.iterdir())
