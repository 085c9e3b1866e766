"""What many tests share: a toy bundle, a short video, a folder of pictures."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from PIL import Image

import toy

if TYPE_CHECKING:
    from sp_edge.text import MiniLM
from sp_edge.data import cache
from sp_edge_runtime.backends import fastest, openvino_runtime

# As a process that trains: torch computes in many tests before one makes an accelerator, which would be too late.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

# Under nohup and in the background of a script they are ignored, and what the tests start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same inputs in every run and no limit of time, so that a commit passes or fails for everyone alike.
# `pytest --hypothesis-profile=default` draws others each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """Spares the garbage collector what imports have made: looking at it after each training took two fifths of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What our packages log in the test, progress included: `log.messages`."""
    for name in ("sp_edge", "sp_edge_calibration", "sp_edge_export", "sp_edge_runtime"):
        caplog.set_level(logging.INFO, name)
    return caplog


@pytest.fixture(autouse=True, scope="session")
def picture_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where pictures are kept prepared unless a test says otherwise: not among the developer's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "default_folder", lambda: folder)
        yield folder


@pytest.fixture(autouse=True, scope="session")
def compiled_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where OpenVINO keeps compiled graphs, and the choice of an engine what it measured, unless a test says otherwise."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        for module in (openvino_runtime, fastest):
            patch.setattr(module, "cache_folder", lambda name, error, *, next_step: folder / name)
        yield folder


@pytest.fixture(autouse=True, scope="session")
def nothing_to_compare() -> Iterator[None]:
    """Has `--device auto` find no OpenVINO, so that no test depends on what happens to be faster here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastest, "openvino_version", lambda: None)
        yield


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with fp32 graphs; not to be changed."""
    return toy.make_bundle(tmp_path_factory.mktemp("toy") / "bundle")


@pytest.fixture(scope="session")
def naming_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with a text encoder; not to be changed."""
    return toy.make_bundle(tmp_path_factory.mktemp("naming") / "bundle.spedge", text_encoder=True)


@pytest.fixture(scope="session")
def toy_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a red, a green and a blue picture, in this order, beside a text file; not to be changed."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(toy.COLOURS):
        Image.fromarray(toy.picture(name, side=48)).save(folder / f"{number} {name}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture(scope="session")
def toy_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of 64x48 at 10 a second: three red, three green, three blue; not to be changed."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "colours.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        for name in toy.COLOURS:
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(toy.picture(name, side=64)[:48], "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    """The encoder that needs no download; loading it takes seconds. Not to be changed."""
    from sp_edge.errors import MissingExtraError
    from sp_edge.text import MiniLM

    try:
        return MiniLM()
    except MissingExtraError as error:
        pytest.skip(str(error))
