import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.errors import SettingsError, SourceError
from sp_edge_runtime.camera import open_source, redact, source_kind
from sp_edge_runtime.live import LiveSource
from sp_edge_runtime.recorded import PictureSource, VideoFileSource


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0", "camera"),
        ("12", "camera"),
        ("/dev/video1", "camera"),
        ("rtsp://cam/1", "stream"),
        ("RTSPS://cam/1", "stream"),
        ("http://cam/video.mjpg", "stream"),
        ("https://cam", "stream"),
        ("./0", "file"),
        ("-1", "file"),
        ("0.mp4", "file"),
        ("2026", "file"),
        ("shots/*.jpg", "file"),
        ("c:/videos", "file"),
        ("½", "file"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert source_kind(text) == kind


@pytest.mark.parametrize("text", ["", "  ", "a\0b"])
def test_no_source(text: str) -> None:
    with pytest.raises(SourceError, match="no source was named"):
        open_source(text)


@pytest.mark.parametrize("text", ["ftp://user:secret@host/a.mp4", "csi://0", "file:///a.mp4"])
def test_addresses_that_are_not_supported(text: str) -> None:
    with pytest.raises(SourceError, match="not supported") as caught:
        open_source(text)
    assert "secret" not in str(caught.value)
    assert "rtsp://" in caught.value.expected


@given(st.text(max_size=400))
def test_any_text_is_a_kind_or_our_error(text: str) -> None:
    try:
        kind = source_kind(text)
    except SourceError:
        return
    assert kind in ("camera", "stream", "file")
    if kind == "file":
        assert redact(text) == text


@given(st.text(max_size=400).filter(lambda text: "://" not in text and not text.isdigit() and not Path(text[:99]).exists()))
def test_a_path_that_leads_nowhere_is_our_error(text: str) -> None:
    with pytest.raises(SourceError):
        open_source("/nowhere/" + text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.7:554/live", "rtsp://***@10.0.0.7:554/live"),
        ("rtsp://admin@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
        ("rtsp://10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("http://cam/v?user=admin&pwd=secret&c=1", "http://cam/v?***"),
        ("http://cam/v?secret", "http://cam/v?***"),
        ("http://u:se/cr@et@cam/v#secret", "http://***@cam/v#***"),
        ("http://u:se?cr@et@cam/v", "http://***"),
        ("http://cam/v?token=se@cret", "http://***"),
        ("http://cam/v;secret", "http://cam/v;***"),
        ("photo@home.jpg", "photo@home.jpg"),
        ("0", "0"),
    ],
)
def test_redact(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(password=st.text("0123456789:/?#@&=%.~;äß ", min_size=3), place=st.sampled_from(["user", "query", "both"]))
def test_no_password_survives(password: str, place: str) -> None:
    user = "" if place == "query" else f"admin:{password}@"
    query = "" if place == "user" else f"?token={password}"
    shown = redact(f"rtsp://{user}cam/live{query}")
    assert not set(shown) & set("0123456789%~äß ")
    assert "admin" not in shown


def test_the_error_of_a_stream_holds_no_credentials(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="cannot open") as caught:
        open_source("rtsp://admin:secret@127.0.0.1:9/live", timeout=2)
    assert "secret" not in str(caught.value)
    assert "***@127.0.0.1:9/live" in str(caught.value)
    assert "secret" not in "".join(capfd.readouterr())


def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/video99").exists():
        pytest.skip("this machine has a hundred cameras")
    with pytest.raises(SourceError, match="cannot open 99") as caught:
        open_source("99")
    assert "/dev/video" in caught.value.next_step
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options", [{"vid_stride": 0}, {"vid_stride": -1}, {"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}]
)
def test_options_out_of_range(toy_pictures: Path, options: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        open_source(str(toy_pictures), **options)


@pytest.mark.parametrize("text", ["0", "rtsp://admin:secret@127.0.0.1:9/live"])
def test_a_live_source_cannot_loop(text: str) -> None:
    with pytest.raises(SettingsError, match="cannot loop") as caught:
        open_source(text, loop=True)
    assert "secret" not in str(caught.value)


def test_a_folder(toy_pictures: Path) -> None:
    with open_source(str(toy_pictures)) as source:
        assert isinstance(source, PictureSource)
        assert (source.live, source.fps, source.name, source.dropped) == (False, None, str(toy_pictures), 0)
        assert [frame.frame_id for frame in source] == [0, 1, 2]


def test_one_picture(toy_pictures: Path) -> None:
    with open_source(str(toy_pictures / "1 green.png")) as source:
        frames = list(source)
    assert len(frames) == 1
    assert frames[0].image_rgb.mean(axis=(0, 1)).argmax() == 1


def test_a_glob_takes_its_pictures_sorted(toy_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_source(f"{toy_pictures}/*") as source:
        assert [frame.image_rgb.mean(axis=(0, 1)).argmax() for frame in source] == [0, 1, 2]
    monkeypatch.chdir(toy_pictures.parent)
    with open_source(f"{toy_pictures.name}/**/[12]*.png") as source:
        assert [frame.image_rgb.mean(axis=(0, 1)).argmax() for frame in source] == [1, 2]


def test_a_file_whose_name_looks_like_a_glob_or_a_camera(
    toy_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(toy_pictures / "0 red.png", tmp_path / "[1]*.png")
    shutil.copytree(toy_pictures, tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    with open_source("[1]*.png") as source:
        assert len(list(source)) == 1
    with open_source("./0") as source:
        assert len(list(source)) == 3


def test_a_video(toy_video: Path) -> None:
    with open_source(str(toy_video), vid_stride=4, loop=False) as source:
        assert isinstance(source, VideoFileSource)
        assert [frame.frame_id for frame in source] == [0, 4, 8]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no source at"):
        open_source(str(tmp_path / "nothing.mp4"))
    with pytest.raises(SourceError, match="no pictures in"):
        open_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello")
    for text in (tmp_path, tmp_path / "*", tmp_path / "*.png"):
        with pytest.raises(SourceError, match="no pictures in"):
            open_source(str(text))


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(SourceError, match="cannot look up"):
        open_source("x" * 5000)


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
