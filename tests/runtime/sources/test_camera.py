import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sp_edge.errors import SettingsError, SourceError
from sp_edge_runtime.sources import camera
from sp_edge_runtime.sources.camera import open_source, open_sources
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.live import LiveSource
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.scenes import PERIOD, scene


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_no_source(text: str) -> None:
    with pytest.raises(SourceError, match="no source was named"):
        open_source(text)


@pytest.mark.parametrize("text", ["ftp://user:secret@host/a.mp4", "file:///a.mp4"])
def test_addresses_that_are_not_supported(text: str) -> None:
    with pytest.raises(SourceError, match="not supported") as caught:
        open_source(text)
    assert "secret" not in str(caught.value)
    assert "rtsp://" in caught.value.expected


@given(st.text(max_size=400).filter(lambda text: "://" not in text and not text.isdigit() and not Path(text[:99]).exists()))
def test_a_path_that_leads_nowhere_is_our_error(text: str) -> None:
    with pytest.raises(SourceError):
        open_source("/nowhere/" + text)


def test_the_error_of_a_stream_holds_no_credentials(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="cannot open") as caught:
        open_source("rtsp://admin:secret@127.0.0.1:9/live", SourceOptions(timeout=2))
    assert "secret" not in str(caught.value)
    assert "***@127.0.0.1:9/live" in str(caught.value)
    assert "secret" not in "".join(capfd.readouterr())


def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/video99").exists():
        pytest.skip("this machine has a hundred cameras")
    with pytest.raises(SourceError, match="cannot open /dev/video99") as caught:
        open_source("99")
    assert "/dev/video" in caught.value.next_step
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["rtsp://admin:secret@127.0.0.1/live", "videotestsrc ! appsink", "shots"])
def test_size_and_rate_are_for_cameras(text: str) -> None:
    with pytest.raises(SettingsError, match="for cameras") as caught:
        open_source(text, SourceOptions(size_wh=(64, 48)))
    assert "secret" not in str(caught.value)


def test_long_texts_are_shown_by_their_first_two_hundred_letters() -> None:
    text = "videotestsrc name=" + "x" * 300 + " ! appsink"
    for options in (SourceOptions(size_wh=(64, 48)), SourceOptions(rate=5), SourceOptions(loop=True)):
        with pytest.raises(SettingsError) as caught:
            open_source(text, options)
        assert caught.value.got == text[:200]


@pytest.mark.parametrize("text", ["test://?fail=0", "test://?fail", "test://?x=1", "test://scenes", "test://?end=1&end=2"])
def test_a_test_source_that_is_none(text: str) -> None:
    with pytest.raises(SettingsError, match="no such test source"):
        open_source(text)


def test_a_test_source_delivers_what_was_asked_for() -> None:
    with open_source("test://?end=9", SourceOptions(size_wh=(64, 48), rate=200, flip="horizontal", vid_stride=4)) as source:
        assert source.fps == 200
        frames = list(source)
    assert {frame.frame_id for frame in frames} <= {0, 4, 8}
    for frame in frames:
        np.testing.assert_array_equal(frame.image_rgb, scene(frame.frame_id, (64, 48))[:, ::-1])


def test_scenes_move_and_begin_again() -> None:
    assert scene(0).shape == (480, 640, 3)
    assert not np.array_equal(scene(0), scene(1))
    np.testing.assert_array_equal(scene(3), scene(3 + PERIOD))


@pytest.mark.parametrize(
    ("flip", "expected"),
    [
        ("none", [[1, 2, 3], [4, 5, 6]]),
        ("horizontal", [[3, 2, 1], [6, 5, 4]]),
        ("vertical", [[4, 5, 6], [1, 2, 3]]),
        ("rotate-90", [[4, 1], [5, 2], [6, 3]]),
        ("rotate-180", [[6, 5, 4], [3, 2, 1]]),
        ("rotate-270", [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_flips(flip: str, expected: list[list[int]], tmp_path: Path) -> None:
    image = np.repeat(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[..., None], 3, axis=2)
    Image.fromarray(image).save(tmp_path / "a.png")
    with open_source(tmp_path / "a.png", SourceOptions(flip=flip)) as source:
        assert next(iter(source)).image_rgb[..., 1].tolist() == expected


@pytest.mark.parametrize("text", ["0", "rtsp://admin:secret@127.0.0.1:9/live"])
def test_a_live_source_cannot_loop(text: str) -> None:
    with pytest.raises(SettingsError, match="cannot loop") as caught:
        open_source(text, SourceOptions(loop=True))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 0, b"0", ["0"]])
def test_what_is_no_text(source: Any) -> None:
    with pytest.raises(SourceError, match="this is no source"):
        open_source(source)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served_video(toy_video: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(toy_video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{toy_video.name}?token=secret"
        server.shutdown()
        thread.join()


def test_a_stream_over_http(served_video: str) -> None:
    with open_source(served_video) as source:
        assert isinstance(source, LiveSource)
        assert source.live
        assert source.name.endswith("colours.mp4?***")
        assert source.fps == 10.0
        frame = next(iter(source))
        assert frame.image_rgb.shape == (48, 64, 3)


def test_sources_are_called_as_their_user_says(toy_pictures: Path) -> None:
    with open_sources([toy_pictures, toy_pictures], names=["door", "yard"]) as sources:
        assert [source.name for source in sources] == ["door", "yard"]
    for names in (["door"], ["door", "door"], ["door", " "], ["door", "y\n"], ["a", "b", "c"]):
        with pytest.raises(SettingsError), open_sources([toy_pictures, toy_pictures], names=names):
            pass


@pytest.mark.parametrize(("count", "asked", "waits"), [(1, False, False), (1, True, True), (2, False, True), (3, False, True)])
def test_of_several_sources_those_that_are_not_there_yet_are_waited_for(
    count: int, asked: bool, waits: bool, toy_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def opened(_: object, options: SourceOptions) -> Source:
        seen.append(options.wait)
        return open_source(toy_pictures)

    monkeypatch.setattr(camera, "open_source", opened)
    with open_sources([f"rtsp://cam/{number}" for number in range(count)], SourceOptions(wait=asked)):
        assert seen == [waits] * count


def test_several_sources_are_opened_and_closed_together(toy_pictures: Path) -> None:
    given = open_source(toy_pictures)
    with open_sources([given, str(toy_pictures), toy_pictures]) as sources:
        assert sources[0] is given
        assert [len(list(source)) for source in sources] == [3, 3, 3]
    assert [list(source) for source in sources] == [[], [], []], "closed, the given one, too"
    given = open_source(toy_pictures)
    with pytest.raises(SourceError, match="no source at"), open_sources([given, "nothing.mp4"]):
        pass
    assert list(given) == []
