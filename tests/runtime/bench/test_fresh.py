from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import toy
from sp_edge.errors import BackendError
from sp_edge_runtime.bench import fresh
from sp_edge_runtime.bench.fresh import Job, resident_mb, start
from sp_edge_runtime.recognizer import Recognizer


@pytest.fixture
def job(toy_bundle: Path, tmp_path: Path) -> Job:
    bank, picture = tmp_path / "a.spbank", tmp_path / "red.png"
    with Recognizer.load(toy_bundle, bank=bank, device="cpu") as recognizer:
        recognizer.enroll("red", [toy.picture("red")])
    Image.fromarray(toy.picture("red")).save(picture)
    return Job(str(toy_bundle), str(bank), str(picture), "cpu", "fp32")


def test_a_fresh_process_gives_a_label_and_streams(job: Job) -> None:
    found = start(job)
    assert 0 < found.label_s < fresh.TIMEOUT
    assert found.memory_mb > 10
    assert found.capture_mb > 10


def test_what_a_process_says_when_it_fails_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"got: cannot read .*nowhere\.png"):
        start(replace(job, picture="nowhere.png"))
    monkeypatch.setattr(fresh, "TIMEOUT", 0.01)
    with pytest.raises(BackendError, match="no label"):
        start(job)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('a library says\n{"labelled": 1e9, "memory_mb": 3, "capture_mb": 2}\n', True),
        ("", False),
        ("no JSON", False),
        ("[1]", False),
        ('{"labelled": 3}', False),
    ],
)
def test_the_last_line_is_what_was_found(job: Job, said: str, found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, ""))
    if found:
        assert start(job).memory_mb == 3
        return
    with pytest.raises(BackendError, match="gave no figures"):
        start(job)


def test_memory_is_of_a_process_that_runs() -> None:
    assert resident_mb() > 10
    assert resident_mb("0") == 0.0
