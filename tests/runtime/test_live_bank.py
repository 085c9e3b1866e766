import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import toy
from sp_edge.bank import head as bank_head
from sp_edge.bank.bank import Bank
from sp_edge.bank.file import KEPT, BankFile
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, SettingsError
from sp_edge_runtime.live_bank import LiveBank
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.frames import Source, VideoFrame


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.spbank"


@pytest.fixture
def recognizer(toy_bundle: Path, path: Path) -> Iterator[Recognizer]:
    """Kept in a file, which is not there yet."""
    with Recognizer.load(toy_bundle, bank=path, device="cpu") as loaded:
        yield loaded


@pytest.fixture
def other(toy_bundle: Path, path: Path) -> Iterator[Recognizer]:
    """Another program with the same file."""
    with Recognizer.load(toy_bundle, bank=path, device="cpu") as loaded:
        yield loaded


def red(seed: int = 0) -> list:
    return [toy.picture("red", seed=seed)]


# --- in memory ---


def test_a_bank_in_memory_is_changed_and_taken_back(bundle: Bundle) -> None:
    bank = Bank.empty(bundle)
    live = LiveBank(bank)
    with pytest.raises(BankError, match="no change to take back"):
        live.undo()
    for count in range(KEPT + 2):
        live.change(lambda bank, count=count: replace(bank, version=100 + count))
    for count in range(KEPT):
        live.undo()
        assert live.bank.version == 100 + KEPT + 2 + count
    with pytest.raises(BankError, match="no change to take back"):
        live.undo()
    live.look()
    live.close()


def test_what_a_new_bank_makes_necessary_is_done_before_it_counts(bundle: Bundle) -> None:
    live = LiveBank(Bank.empty(bundle))
    heard: list[tuple[int, int]] = []
    live.prepare_with(lambda bank: heard.append((bank.version, live.bank.version)))
    live.change(lambda bank: replace(bank, version=1))
    live.undo()
    assert heard == [(0, 0), (1, 0), (2, 1)]


def test_what_a_recognizer_was_taught_is_taken_back(toy_bundle: Path) -> None:
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        recognizer.enroll("red", red())
        recognizer.enroll("green", [toy.picture("green")])
        recognizer.forget("red")
        recognizer.undo()
        assert recognizer.bank.names == ("red", "green")
        assert recognizer.classify(red(9)[0]).label == "red"
        recognizer.undo()
        recognizer.undo()
        assert recognizer.bank.names == ()
        assert recognizer.classify(red(9)[0]).bank_version == 6


# --- in a file ---


def test_every_change_is_in_the_file_at_once(recognizer: Recognizer, path: Path, bundle: Bundle) -> None:
    assert not path.exists()
    recognizer.enroll("red", red())
    assert Bank.load(path, bundle).names == ("red",)
    recognizer.set_strength("red", 0.5)
    assert Bank.load(path, bundle).strengths.tolist() == [0.5]
    recognizer.undo()
    assert Bank.load(path, bundle).strengths.tolist() == [1.0]
    recognizer.forget("red")
    assert Bank.load(path, bundle).names == recognizer.bank.names == ()


def test_nobodys_classes_are_lost(recognizer: Recognizer, other: Recognizer) -> None:
    recognizer.enroll("red", red())
    other.enroll("green", [toy.picture("green")])
    recognizer.enroll("blue", [toy.picture("blue")])
    assert recognizer.bank.names == ("red", "green", "blue")
    assert other.bank.names == ("red", "green")
    other.undo()
    assert other.bank.names == ("red", "green"), "the file's last change, whoever made it"


def test_a_file_that_cannot_be_used_fails_the_change_and_not_the_bank(recognizer: Recognizer, path: Path) -> None:
    recognizer.enroll("red", red())
    path.write_bytes(b"rubbish")
    with pytest.raises(BankError, match="cannot read"):
        recognizer.enroll("green", [toy.picture("green")])
    assert recognizer.bank.names == ("red",)
    assert path.read_bytes() == b"rubbish"


def test_what_is_in_memory_is_kept_where_the_file_has_vanished(recognizer: Recognizer, path: Path, bundle: Bundle) -> None:
    recognizer.enroll("red", red())
    path.unlink()
    recognizer.enroll("green", [toy.picture("green")])
    assert Bank.load(path, bundle).names == ("red", "green")


def test_a_bank_is_saved_to_a_file(toy_bundle: Path, path: Path, bundle: Bundle) -> None:
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        recognizer.enroll("red", red())
        recognizer.save(str(path))
        assert Bank.load(path, bundle).names == ("red",)
        recognizer.enroll("green", [toy.picture("green")])
        assert Bank.load(path, bundle).names == ("red",), "in memory until it is saved"
        recognizer.save(path)
        assert BankFile(path, bundle).undo()[1].names == ("red",)
        path.write_bytes(b"a letter")
        with pytest.raises(BankError):
            recognizer.save(path)
        assert path.read_bytes() == b"a letter"


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_a_change_that_the_classifier_cannot_take_is_not_written(
    toy_bundle: Path, path: Path, bundle: Bundle, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank_head, "MOST_FITTED", 2)
    with Recognizer.load(toy_bundle, bank=path if kept == "file" else None, device="cpu", classifier="lr") as recognizer:
        recognizer.enroll("red", red())
        recognizer.enroll("green", [toy.picture("green")])
        before = path.read_bytes() if kept == "file" else b""
        with pytest.raises(SettingsError, match="too many classes for logistic regression"):
            recognizer.enroll("blue", [toy.picture("blue")])
        assert recognizer.bank.names == recognizer.head.names == ("red", "green")
        if kept == "file":
            assert path.read_bytes() == before
        assert recognizer.classify(red(9)[0]).label == "red"
        recognizer.undo()
        assert recognizer.bank.names == ("red",), "the change that failed is none that could be taken back"


def test_what_the_classifier_cannot_take_is_not_taken_back_to(
    toy_bundle: Path, path: Path, bundle: Bundle, other: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in toy.COLOURS:
        other.enroll(name, [toy.picture(name)])
    other.forget("blue")
    monkeypatch.setattr(bank_head, "MOST_FITTED", 2)
    with Recognizer.load(toy_bundle, bank=path, device="cpu", classifier="lr") as recognizer:
        before = path.read_bytes()
        with pytest.raises(SettingsError, match="too many classes"):
            recognizer.undo()
        assert path.read_bytes() == before
        assert recognizer.bank.names == ("red", "green")
    other.undo()
    assert Bank.load(path, bundle).names == ("red", "green", "blue")


def test_what_could_not_be_written_does_not_decide(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer.enroll("red", red())

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Bank, "save", full)
    with pytest.raises(OSError, match="no space"):
        recognizer.enroll("green", [toy.picture("green")])
    assert recognizer.bank.names == recognizer.head.names == ("red",)


# --- taken up ---


def test_a_file_that_changed_is_taken_up(recognizer: Recognizer, other: Recognizer, caplog: pytest.LogCaptureFixture) -> None:
    live = recognizer._live
    live.look()
    assert recognizer.bank.names == ()
    other.enroll("red", red())
    other.enroll_not("red", [toy.picture("blue")])
    with caplog.at_level(logging.INFO, "sp_edge_runtime"):
        live.look()
        assert recognizer.bank.classes == ("red",)
        taken = recognizer.bank
        live.look()
        assert recognizer.bank is taken
        recognizer.enroll("green", [toy.picture("green")])
        own = recognizer.bank
        live.look()
    assert recognizer.bank is own, "its own change is no news"
    assert [record.getMessage() for record in caplog.records] == [f"took up {live._file.path}: version 2, 1 class"]
    assert recognizer.classify(red(9)[0]).label == "red"


@pytest.mark.parametrize("harm", ["rubbish", "foreign", "gone", "folder"])
def test_a_file_that_cannot_be_used_is_reported_once_and_the_old_bank_goes_on(
    recognizer: Recognizer, other: Recognizer, path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    recognizer.enroll("red", red())
    bank = recognizer.bank
    if harm == "rubbish":
        path.write_bytes(b"rubbish")
    elif harm == "foreign":
        replace(bank, fingerprint="0" * 64).save(path)
    else:
        path.unlink()
        if harm == "folder":
            path.mkdir()
    for _ in range(5):
        recognizer._live.look()
    assert recognizer.bank is bank
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    if harm == "foreign":
        assert "sp-edge bank renew" in record.getMessage()
    if harm == "folder":
        path.rmdir()
    path.unlink(missing_ok=True)
    other.enroll("green", [toy.picture("green")])
    recognizer._live.look()
    assert recognizer.bank.names == ("green",)
    assert len(caplog.records) == 1


def test_a_file_that_is_still_being_copied_is_no_trouble(
    recognizer: Recognizer, path: Path, bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Recognizer.load(bundle.path, bank=tmp_path / "whole", device="cpu") as source:
        source.enroll("red", red())
    content = (tmp_path / "whole").read_bytes()
    for length in (0, 5, 100, 5000, len(content)):
        path.write_bytes(content[:length])
        recognizer._live.look()
    assert recognizer.bank.names == ("red",)
    assert caplog.records == []


def test_a_file_that_is_cut_short_while_it_is_read_is_no_trouble(recognizer: Recognizer, path: Path) -> None:
    """A mapped file would end the process here."""
    recognizer.enroll("red", red())
    content, stop = path.read_bytes(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            path.write_bytes(content)
            os.truncate(path, 100)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(200):
        recognizer._live.look()
    stop.set()
    writer.join()
    assert recognizer.bank.names == ("red",)


def test_a_bank_that_cannot_be_prepared_is_reported_and_the_old_one_goes_on(
    recognizer: Recognizer, other: Recognizer, caplog: pytest.LogCaptureFixture
) -> None:
    live = recognizer._live

    def refuse(bank: Bank) -> None:
        if bank.names:
            raise SettingsError("too many classes")

    live.prepare_with(refuse)
    other.enroll("red", red())
    live.look()
    assert live.bank.names == ()
    live.look()
    (record,) = caplog.records
    assert "too many classes" in record.getMessage()


def test_following_ends_with_the_recognizer(toy_bundle: Path, path: Path) -> None:
    before = threading.active_count()
    with Recognizer.load(toy_bundle, bank=path, device="cpu", follow=True) as recognizer:
        recognizer._live.follow()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    recognizer.close()


def test_only_a_bank_in_a_file_can_be_followed(toy_bundle: Path) -> None:
    before = threading.active_count()
    with pytest.raises(BankError, match="no file to follow"):
        Recognizer.load(toy_bundle, device="cpu", follow=True)
    assert threading.active_count() == before


class Endless(Source):
    def __iter__(self) -> Iterator[VideoFrame]:
        number = 0
        while not self._closed.is_set():
            yield VideoFrame(toy.picture("red", side=40), number, number / 25)
            number += 1


def test_a_running_stream_takes_up_what_another_program_teaches(toy_bundle: Path, path: Path, other: Recognizer) -> None:
    with Recognizer.load(toy_bundle, bank=path, device="cpu") as recognizer:
        recognizer._live.follow(0.01)
        labels = []
        for result in recognizer.stream(Endless("red")):
            if not labels:
                other.enroll("red", red())
            labels.append(result.prediction.label)
            if labels[-1] == "red":
                break
    assert labels[0] == "unknown"
    assert set(labels) == {"unknown", "red"}
