"""What the sinks' tests share: a recognizer and results of it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import toy
from mosquitto import Broker
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Smoothing
from sp_edge_runtime.streams.stream import results


@pytest.fixture(scope="session")
def recognizer(toy_bundle: Path) -> Iterator[Recognizer]:
    with Recognizer.load(toy_bundle, device="cpu") as loaded:
        for name, taught in zip(toy.COLOURS, ("red", "Zürcher Kaffeetasse", "赤い 自転車"), strict=True):
            loaded.enroll(taught, [toy.picture(name)])
        yield loaded


@pytest.fixture(scope="session")
def found(recognizer: Recognizer, toy_video: Path) -> list[FrameResult]:
    with open_source(str(toy_video)) as source:
        return list(results(recognizer, source, StreamOptions(smoothing=Smoothing(0))))


@pytest.fixture
def result(found: list[FrameResult]) -> FrameResult:
    return replace(found[0], source="camera")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    one = Broker(tmp_path)
    yield one
    one.stop()
    assert not any("paho" in thread.name.lower() for thread in threading.enumerate())
