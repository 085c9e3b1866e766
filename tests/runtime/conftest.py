"""What the runtime's tests share: nothing that one starts outlives it; a taught recognizer; GStreamer in Python."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.features import Features
from sp_edge_runtime.recognizer import Recognizer
from threads import PATIENCE, children


@pytest.fixture(autouse=True)
def _nothing_outlives_its_test() -> Iterator[None]:
    threads, processes = set(threading.enumerate()), children()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) <= threads
    assert children() <= processes


@pytest.fixture
def pygobject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's PyGObject for this Python, where it fits: a capture's process gets this one's path."""
    place = Path("/usr/lib/python3/dist-packages/gi")
    if not place.exists():
        pytest.skip("PyGObject (python3-gi) is not installed")
    folder = tmp_path / "pygobject"
    folder.mkdir()
    (folder / "gi").symlink_to(place)
    monkeypatch.syspath_prepend(folder)
    probe = "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False).returncode:
        pytest.skip("PyGObject is of another Python")


@pytest.fixture
def recognizer(toy_bundle: Path) -> Iterator[Recognizer]:
    with Recognizer.load(toy_bundle, device="cpu") as loaded:
        yield loaded


@pytest.fixture
def taught(recognizer: Recognizer) -> Recognizer:
    for name in toy.COLOURS:
        recognizer.enroll(name, [toy.picture(name, seed=seed) for seed in (1, 2)])
    return recognizer


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


@pytest.fixture(scope="module")
def features(bundle: Bundle) -> Iterator[Features]:
    with open_backend(bundle, "cpu") as backend:
        yield Features(bundle, backend)
