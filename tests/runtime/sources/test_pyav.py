"""What a video needs of PyAV, and what its header claims."""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from sp_edge.errors import MissingExtraError, SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.pyav import Extent, claimed_fps, pyav, video_of


@pytest.mark.parametrize("text", ["rtsp://127.0.0.1:9/live", "clip.mp4"])
def test_what_needs_pyav_says_so(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    # A live source's process has modules of its own; it gets this one's path.
    (tmp_path / "av.py").write_text("raise ModuleNotFoundError(\"No module named 'av'\", name='av')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingExtraError, match="needs PyAV") as caught:
        open_source(text)
    assert "the package av" in caught.value.expected
    assert caught.value.next_step == "pip install 'sp-edge[camera]'"


def test_pictures_need_no_pyav(toy_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with open_source(str(toy_pictures)) as source:
        assert len(list(source)) == 3


def test_a_pyav_that_lacks_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> ModuleType:
        raise ImportError("libavcodec.so.62: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(SourceError, match=r"libavcodec\.so\.62"):
        pyav("a video")


def stream(*, frames: int = 0, rate: float = 25, cover: bool = False) -> SimpleNamespace:
    disposition = SimpleNamespace(name="attached_pic" if cover else None)
    return SimpleNamespace(
        frames=frames, time_base=0.04, guessed_rate=rate, average_rate=rate, codec_context=object(), disposition=disposition
    )


def test_a_record_sleeve_is_no_video() -> None:
    cover, film = stream(cover=True), stream()
    assert video_of(SimpleNamespace(streams=SimpleNamespace(video=[cover, film]))) is film
    assert video_of(SimpleNamespace(streams=SimpleNamespace(video=[cover]))) is None


@pytest.mark.parametrize(("rate", "claimed"), [(25, 25.0), (None, None), (0, None), (90000, None)])
def test_a_rate_that_cannot_be_is_no_claim(rate: float | None, claimed: float | None) -> None:
    assert claimed_fps(SimpleNamespace(guessed_rate=rate, average_rate=rate)) == claimed


def extent(name: str, packets: int, *, frames: int = 0, seconds: float = 0.0) -> Extent:
    """Of a recording that claims so much, after so many packets of 25 a second."""
    video = stream(frames=frames)
    container = SimpleNamespace(format=SimpleNamespace(name=name), duration=round(seconds * 1e6), start_time=0)
    found = Extent(container, video)
    for number in range(packets):
        found.add(SimpleNamespace(stream=video, size=1, pts=number, dts=number, duration=1, time_base=0.04))
    return found


@pytest.mark.parametrize(
    ("name", "packets", "claims", "missing", "claim"),
    [
        ("mov,mp4", 250, {"frames": 250, "seconds": 10.0}, False, "250 frames"),
        ("mov,mp4", 249, {"frames": 250, "seconds": 10.0}, False, "250 frames"),
        ("mov,mp4", 132, {"frames": 250, "seconds": 10.0}, True, "250 frames"),
        ("matroska,webm", 250, {"seconds": 10.0}, False, "about 250 frames"),
        ("matroska,webm", 132, {"seconds": 10.0}, True, "about 250 frames"),
        ("avi", 250, {"frames": 250, "seconds": 10.0}, False, "about 250 frames"),
        ("avi", 132, {"frames": 250, "seconds": 5.3}, True, "about 250 frames"),
        # Of what FFmpeg only guessed, nothing is missing.
        ("mpegts", 132, {"seconds": 10.0}, False, ""),
        ("h264", 132, {}, False, ""),
    ],
)
def test_what_is_there_is_held_against_what_is_claimed(
    name: str, packets: int, claims: dict[str, float], missing: bool, claim: str
) -> None:
    found = extent(name, packets, **claims)  # type: ignore[arg-type]
    assert (found.missing, found.claim, found.declared) == (missing, claim, bool(claim))


def test_sound_that_goes_on_after_the_pictures_is_no_loss() -> None:
    found = extent("matroska,webm", 132, seconds=10.0)
    found.add(SimpleNamespace(stream=object(), size=1, pts=249, dts=249, duration=1, time_base=0.04))
    assert not found.missing
