from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sp_edge import runs
from sp_edge.errors import BankError, BundleError, CheckpointError


def test_runs_are_numbered_from_one(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "runs"
    assert [runs.new_run(root) for _ in range(3)] == [root / "1", root / "2", root / "3"]
    assert all((root / str(number)).is_dir() for number in (1, 2, 3))


def test_the_next_run_comes_after_the_last_even_where_some_are_gone(tmp_path: Path) -> None:
    for name in ("2", "10", "9", "07", "0", "11a", "-4", "٣", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "50").write_text("a file is no run")
    assert runs.new_run(tmp_path).name == "11"


def test_a_file_in_the_way_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("")
    (tmp_path / "2").write_text("")
    assert runs.new_run(tmp_path).name == "3"


def test_commands_that_start_at_once_get_runs_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: runs.new_run(tmp_path), range(40)))
    assert sorted(int(folder.name) for folder in folders) == list(range(1, 41))


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_root_that_cannot_hold_runs_is_an_error_of_the_system(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "runs"
    if kind == "file":
        root.write_text("")
    else:
        root.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="runs"):
        runs.new_run(root)


def test_the_newest_run_that_has_the_part_counts(tmp_path: Path) -> None:
    for number in (2, 9, 10, 11):
        (tmp_path / str(number)).mkdir()
    for number in (2, 9, 10):
        (tmp_path / str(number) / runs.CHECKPOINT).write_text("")
    (tmp_path / "9" / runs.BUNDLE).mkdir()
    assert runs.newest(runs.CHECKPOINT, CheckpointError, tmp_path) == tmp_path / "10" / runs.CHECKPOINT
    assert runs.newest(runs.BUNDLE, BundleError, tmp_path) == tmp_path / "9" / runs.BUNDLE


@pytest.mark.parametrize(
    ("part", "error", "command"),
    [
        (runs.CHECKPOINT, CheckpointError, "sp-edge train"),
        (runs.BUNDLE, BundleError, "sp-edge export"),
        (runs.BANK, BankError, "sp-edge enroll"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_where_no_run_has_the_part_the_error_says_what_makes_it(
    tmp_path: Path, part: str, error: type[CheckpointError], command: str, exists: bool
) -> None:
    root = tmp_path / "runs"
    if exists:
        runs.new_run(root)
    with pytest.raises(error, match=part) as raised:
        runs.newest(part, error, root)
    assert raised.value.next_step == command
