from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from banks import prompt, same, shots, taught
from sp_edge.bank import file as bank_file
from sp_edge.bank.bank import Bank
from sp_edge.bank.file import KEPT, BankFile, digest
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.files import beside


@pytest.fixture
def file(bundle: Bundle, tmp_path: Path) -> BankFile:
    return BankFile(tmp_path / "classes.spbank", bundle)


def teach(name: str, seed: int = 0) -> Any:
    return lambda bank: bank.add(name, prompt(0), *shots(1, seed), threshold=0.5)


def kept(file: BankFile) -> list[Path]:
    return sorted(file.path.parent.glob(".classes.spbank.undo/*"))


def test_a_file_that_is_not_there_yet_is_an_empty_bank(file: BankFile, bundle: Bundle) -> None:
    same(file.read(), Bank.empty(bundle))
    assert file.stamp() is None
    assert not file.path.exists()
    assert file.change(teach("a")).names == ("a",)
    assert file.read().names == ("a",)
    assert file.stamp() is not None


def test_each_change_is_made_to_what_the_file_holds(file: BankFile, bundle: Bundle) -> None:
    other = BankFile(file.path, bundle)
    file.change(teach("a"))
    other.change(teach("b"))
    assert file.change(teach("c")).names == ("a", "b", "c")
    assert other.read().version == 3


@pytest.mark.parametrize("absolute", [True, False])
def test_through_a_link_the_shared_bank_is_changed_and_taken_back(tmp_path: Path, bundle: Bundle, absolute: bool) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "link.spbank").symlink_to(shared / "classes.spbank" if absolute else "shared/classes.spbank")
    direct, linked = BankFile(shared / "classes.spbank", bundle), BankFile(tmp_path / "link.spbank", bundle)
    direct.change(teach("a"))
    linked.change(teach("b"))
    assert (direct.read().names, direct.undoable(), linked.undoable()) == (("a", "b"), 2, 2)
    linked.undo()
    assert direct.read().names == ("a",)
    direct.undo()
    assert linked.path.is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.spbank", "shared"]
    assert sorted(entry.name for entry in shared.iterdir()) == [".classes.spbank.undo", "classes.spbank"]


@pytest.mark.parametrize("links", [True, False])
def test_what_came_before_is_for_whoever_may_use_the_bank(file: BankFile, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(bank_file.os, "link", lambda *_: (_ for _ in ()).throw(OSError()))
    file.path.parent.chmod(0o2770)
    file.change(teach("a"))
    file.path.chmod(0o660)
    file.change(teach("b"))
    assert [entry.stat().st_mode & 0o7777 for entry in (file.path.parent / ".classes.spbank.undo", kept(file)[-1])] == [
        0o2770,
        0o660,
    ]


def test_a_change_that_changes_nothing_writes_nothing(file: BankFile) -> None:
    file.change(teach("a"))
    stamp = file.stamp()
    assert file.change(lambda bank: bank.with_strength("a", 0.8)).version == 1
    assert (file.stamp(), len(kept(file))) == (stamp, 1)


def test_what_to_begin_with_may_be_said(file: BankFile, bundle: Bundle) -> None:
    bank = file.change(teach("new"), absent=taught(bundle))
    assert bank.names == (*taught(bundle).names, "new")
    assert file.undo()[1].names == taught(bundle).names


def test_a_failure_leaves_the_file_as_it_was(file: BankFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.change(teach("a"))
    before = file.path.read_bytes()
    with pytest.raises(BankError, match="no class"):
        file.change(lambda bank: bank.remove("b"))

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            file.change(teach("b"))
    assert file.path.read_bytes() == before
    file.change(teach("c"))
    assert file.undo()[1].names == ("a",), "what was kept for the change that failed does no harm"
    assert file.undo()[1].names == ()


def test_a_bank_that_cannot_be_used_is_not_written_over(file: BankFile, bundle: Bundle) -> None:
    for content in (b"no bank", b""):
        file.path.write_bytes(content)
        for act in (file.read, file.undo, lambda: file.change(teach("a"))):
            with pytest.raises(BankError):
                act()
        assert file.path.read_bytes() == content
    replace(taught(bundle), fingerprint="0" * 64).save(file.path)
    with pytest.raises(BankError, match="another bundle"):
        file.change(teach("a"))


# --- taking back ---


def test_changes_are_taken_back_one_after_the_other(file: BankFile) -> None:
    for name in "abc":
        file.change(teach(name))
    assert file.undoable() == 3
    before, now = file.undo()
    assert (before.names, before.version) == (("a", "b", "c"), 3)
    assert (now.names, now.version) == (("a", "b"), 4)
    same(file.read(), now)
    assert file.undo()[1].names == ("a",)
    file.change(teach("d"))
    assert file.undo()[1].names == ("a",)
    assert file.undo()[1].names == ()
    assert file.undoable() == 0
    with pytest.raises(BankError, match="to take back"):
        file.undo()
    assert (file.read().names, file.read().version) == ((), 8)


def test_so_many_changes_are_kept_and_no_more(file: BankFile, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(KEPT + 3):
        file.change(teach("a", seed))
    assert len(kept(file)) == file.undoable() == KEPT
    monkeypatch.setattr(bank_file, "KEPT_BYTES", 1)
    file.change(teach("a", 99))
    assert len(kept(file)) == file.undoable() == 1
    assert file.undo()[1].shots("a") == KEPT + 3


def test_a_file_that_another_program_put_there_is_not_lost(file: BankFile, bundle: Bundle) -> None:
    file.change(teach("a"))
    taught(bundle).save(file.path)
    with pytest.raises(BankError, match="to take back"):
        file.undo()
    file.change(teach("b"))
    assert file.undo()[1].names == taught(bundle).names
    with pytest.raises(BankError, match="to take back"):
        file.undo()


def test_a_bank_that_was_removed_takes_its_past_along(file: BankFile) -> None:
    file.change(teach("a"))
    file.change(teach("b"))
    file.path.unlink()
    with pytest.raises(BankError, match="cannot read"):
        file.undo()
    file.change(teach("c"))
    assert file.undo()[1].names == ()
    assert file.undoable() == 0


def test_a_power_cut_between_keeping_and_writing_does_no_harm(file: BankFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.change(teach("a"))
    file.change(teach("b"))

    def cut(self: Bank, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bank, "save", cut)
        with pytest.raises(KeyboardInterrupt):
            file.change(teach("c"))
    assert (len(kept(file)), file.undoable()) == (3, 2)
    assert file.undo()[1].names == ("a",)
    assert len(kept(file)) == 1


def test_a_power_cut_after_taking_back_does_no_harm(file: BankFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.change(teach("a"))
    file.change(teach("b"))

    def cut(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cut)
        with pytest.raises(KeyboardInterrupt):
            file.undo()
    if file.read().names == ("a", "b"):  # the cut came before the file was written
        assert file.undo()[1].names == ("a",)
    assert file.undo()[1].names == ()


def test_what_killed_writers_left_goes_with_the_next_change(file: BankFile) -> None:
    file.change(teach("a"))
    past = kept(file)[0]
    other = beside(file.path.with_name("shop.spbank"))
    for left in (beside(file.path), beside(past), other):
        left.write_bytes(b"half")
    file.change(teach("b"))
    assert {entry.name for entry in file.path.parent.iterdir()} == {file.path.name, past.parent.name, other.name}
    assert set(past.parent.iterdir()) == set(kept(file))
    assert all(not entry.name.startswith(".") for entry in past.parent.iterdir())


def test_a_damaged_version_is_an_error_and_the_bank_stays(file: BankFile) -> None:
    file.change(teach("a"))
    file.change(teach("b"))
    kept(file)[-1].write_bytes(b"rubbish")
    with pytest.raises(BankError, match="cannot read"):
        file.undo()
    assert file.read().names == ("a", "b")


def test_what_else_lies_in_the_folder_is_left_alone(file: BankFile) -> None:
    file.change(teach("a"))
    folder = kept(file)[0].parent
    for name in ("notes.txt", "1-2.spbank", f"x-{'0' * 64}.spbank"):
        (folder / name).write_bytes(b"")
    file.change(teach("b"))
    assert file.undo()[1].names == ("a",)
    assert len(list(folder.iterdir())) == 4


def test_a_file_system_without_second_names(file: BankFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file.change(teach("a"))
    file.change(teach("b"))
    assert file.undo()[1].names == ("a",)


def test_what_a_bank_holds_has_one_digest(bundle: Bundle) -> None:
    bank = taught(bundle)
    assert digest(bank) == digest(replace(taught(bundle), version=7))
    others = [bank.remove("café"), bank.with_strength("café", 0.1), bank.with_threshold("café", 0.3)]
    others.append(replace(bank, names=("red fox", "polar bear", "cat")))
    others.append(replace(bank, query=bank.query + np.float32(1e-3)))
    others.append(replace(bank, descriptions={"café": ("Black.",)}))
    assert len({digest(other) for other in (bank, *others)}) == 7


# --- several writers ---


def test_threads_that_teach_at_once_all_count(file: BankFile, bundle: Bundle) -> None:
    def work(name: str) -> None:
        for seed in range(5):
            BankFile(file.path, bundle).change(teach(name, seed))

    workers = [threading.Thread(target=work, args=[name]) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    bank = file.read()
    assert ([bank.shots(name) for name in "abc"], bank.version) == ([5, 5, 5], 15)
    for _ in range(KEPT):
        file.undo()
    assert (len(file.read().owners), file.read().version) == (5, 25)


KILLED = """
import sys
from pathlib import Path
import numpy as np
from sp_edge.bank.file import BankFile
from sp_edge.bundle.bundle import Bundle
file, seed = BankFile(Path(sys.argv[2]), Bundle.load(Path(sys.argv[1]))), 0
print("ready", flush=True)
while True:
    seed += 1
    part = np.full((1, 6), seed, np.float32)
    file.change(lambda bank: bank.add("a", np.ones(4, np.float32), part, part, [b"crop %d" % seed], threshold=0.5))
"""


def test_a_writer_that_is_killed_leaves_a_whole_bank(file: BankFile, bundle: Bundle) -> None:
    chance = random.Random(0)  # noqa: S311
    for _ in range(3):
        command = [sys.executable, "-c", KILLED, str(bundle.path), str(file.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            before = file.read().version
            while file.read().version < before + 3:
                pass
            threading.Event().wait(chance.random() / 50)
            process.kill()
        shots_now = len(file.read().owners)
        assert len(file.undo()[1].owners) == shots_now - 1


# --- any order of changes, beside a plain list of states ---


class Writing(RuleBasedStateMachine):
    bundle: Bundle
    folder: Path
    runs = 0

    @initialize()
    def start(self) -> None:
        type(self).runs += 1
        self.file = BankFile(self.folder / f"{self.runs}.spbank", self.bundle)
        self.states: list[tuple[str, ...]] = [()]

    @rule(name=st.sampled_from("abcd"))
    def turn(self, name: str) -> None:
        """Teaches a class, or forgets it where it is known."""
        known = self.states[-1]
        self.file.change((lambda bank: bank.remove(name)) if name in known else teach(name))
        self.states.append(tuple(n for n in known if n != name) if name in known else (*known, name))
        self.states = self.states[-KEPT - 1 :]

    @rule()
    def take_back(self) -> None:
        if len(self.states) > 1:
            self.file.undo()
            self.states.pop()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "file"):
            assert self.file.read().names == self.states[-1]


def test_any_order_of_changes_and_taking_back(bundle: Bundle, tmp_path: Path) -> None:
    Writing.bundle, Writing.folder = bundle, tmp_path
    run_state_machine_as_test(Writing, settings=settings(deadline=None, max_examples=10, stateful_step_count=15))


@pytest.mark.parametrize("begin", ["x" * 90, "\N{CJK UNIFIED IDEOGRAPH-6771}" * 81])
def test_files_whose_long_names_begin_alike_have_earlier_versions_of_their_own(
    bundle: Bundle, tmp_path: Path, begin: str
) -> None:
    files = [BankFile(tmp_path / f"{begin}.{end}", bundle) for end in ("a", "b")]
    for seed, file in enumerate(files):
        file.change(lambda bank, seed=seed: bank.add("fox", prompt(0), *shots(1, seed)))
        file.change(lambda bank, seed=seed: bank.add("bear", prompt(1), *shots(1, 9 + seed)))
    assert [file.undoable() for file in files] == [2, 2]
    for file in files:
        assert [file.undo()[1].names for _ in range(2)] == [("fox",), ()]


def test_another_fit_is_another_bank(bundle: Bundle) -> None:
    assert digest(Bank.empty(bundle)) != digest(Bank.empty(bundle).with_fit("pad"))
