from __future__ import annotations

import http.client
import io
import json
import socket

import numpy as np
import pytest
from PIL import Image

import toy
from page_site import Opened, Showing, Site
from sp_edge.errors import BackendError, SourceError
from sp_edge_runtime.page import watch
from sp_edge_runtime.page.options import PageOptions
from sp_edge_runtime.page.server import _listening, paced
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import Part
from sp_edge_runtime.streams.result import FrameResult
from threads import until


def picture(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def test_the_newest_frame_and_what_the_network_sees_of_it(site: Site) -> None:
    site.show("green", side=80)
    frame = site.get("/api/sources/0/frame.jpg")
    assert frame.headers["content-type"] == "image/jpeg"
    assert picture(frame.body).shape == (80, 80, 3)
    assert picture(frame.body).mean(axis=(0, 1)).argmax() == 1
    assert picture(site.get("/api/sources/0/seen.jpg").body).shape == (toy.SIDE, toy.SIDE, 3)
    result = site.get("/api/sources/0/result").json
    assert (result["source"], result["label"]) == ("camera", "unknown")
    assert site.get("/api/sources/1/frame.jpg").status == 404


def test_a_large_frame_is_shown_smaller(site: Site) -> None:
    site.sources[0].image = np.tile(toy.picture("red", side=400), (1, 4, 1))
    until(lambda: picture(site.get("/api/sources/0/frame.jpg").body).shape == (240, 960, 3))


def test_viewers_of_a_frame_share_its_encoding(opened: Opened) -> None:
    site = opened()
    until(lambda: site.get("/api/sources/0/frame.jpg").status == 200)
    site.sources[0].paused.set()
    before = site.number()
    until(lambda: site.number() == before)
    connections = [http.client.HTTPConnection(site.host, timeout=10) for _ in range(4)]
    frames = []
    for connection in connections:
        connection.request("GET", "/api/sources/0/live.mjpeg")
        answer = connection.getresponse()
        assert answer.getheader("content-type") == "multipart/x-mixed-replace; boundary=frame"
        assert answer.readline() == b"--frame\r\n"
        assert answer.readline() == b"Content-Type: image/jpeg\r\n"
        size = int(answer.readline().split(b":")[1])
        assert answer.readline() == b"\r\n"
        frames.append(answer.read(size))
    assert len(set(frames)) == 1
    assert picture(frames[0]).shape == (64, 64, 3)
    for connection in connections:
        connection.close()


def test_viewers_get_fewer_frames_where_encoding_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def slow(_: np.ndarray) -> bytes:
        clock[0] += 0.02
        return b"jpeg"

    monkeypatch.setattr(watch, "jpeg", slow)
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    one = watch.Watched(Part("camera", 0), None, Showing())
    assert one.picture() is None
    seen = Prediction("red", "red", 1.0, 1.0, 1.0, (), 0, {}, 1)
    one.newest, one.number = FrameResult(VideoFrame(toy.picture("red"), 0, 0.0), seen, 0.0), 1
    assert one.picture() == one.picture() == (1, b"jpeg")
    assert clock[0] == pytest.approx(0.02), "it is encoded once"
    assert one.pause == pytest.approx(0.3)


def test_events_tell_results_and_changes(site: Site) -> None:
    connection = http.client.HTTPConnection(site.host, timeout=10)
    connection.request("GET", "/api/events")
    answer = connection.getresponse()
    found: dict[str, dict[str, object]] = {}
    taught = False
    while found.keys() < {"result", "changed", "event"}:
        kind, data = answer.readline().decode().strip(), answer.readline().decode().strip()
        assert answer.readline() == b"\n"
        found[kind.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
        if not taught and "changed" in found:
            taught = True
            site.recognizer.enroll("red", site.sources[0].image)
    connection.close()
    assert found["result"]["id"] == 0
    assert found["event"]["event"] == "appeared"
    assert found["event"]["name"] == "red"


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_head() -> None:
    with _listening(PageOptions(port=0)) as listening, socket.create_connection(listening.getsockname()):
        served, _ = listening.accept()
        with served:
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_health_is_that_of_the_sources(opened: Opened) -> None:
    site = opened([Showing("one"), Showing("two")])
    until(lambda: site.get("/health").status == 200)
    assert site.get("/health").json == {"healthy": True, "sources": ["running", "running"]}
    site.sources[1].failure = SourceError("the camera is gone")
    until(lambda: site.get("/health").status == 503)
    assert site.get("/health").json["sources"] == ["running", "error"]
    state = site.get("/api/state").json["sources"]
    assert (state[0]["state"], state[1]["state"], state[1]["reason"]) == ("running", "error", "the camera is gone")


def test_a_live_source_that_shows_nothing_new_is_not_healthy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sp_edge_runtime.page.watch.STALE", 0.2)
    site.sources[0].paused.set()
    until(lambda: site.get("/health").json == {"healthy": False, "sources": ["stale"]})
    assert site.ask("POST", "/api/teach", {"name": "red"}).status == 422
    refused = site.ask("POST", "/api/sources/0/boxes", {"boxes": [[0, 0, 1, 1]]})
    assert (refused.status, refused.json["error"]) == (422, "The camera shows nothing new")


def test_without_a_source_the_page_takes_pictures(opened: Opened) -> None:
    site = opened([])
    assert site.get("/health").json == {"healthy": True, "sources": []}
    assert site.get("/api/sources/0/frame.jpg").status == 404
    site.recognizer.enroll("red", toy.picture("red"))
    file = io.BytesIO()
    Image.fromarray(toy.picture("red", side=50)).save(file, "PNG")
    assert site.ask("POST", "/api/classify", file.getvalue(), Content_Type="image/png").json["label"] == "red"


def test_a_broken_engine_ends_the_server_with_its_error(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    site = opened()

    def fail(*_: object, **__: object) -> None:
        raise BackendError("the engine broke")

    monkeypatch.setattr(site.recognizer, "classify", fail)
    until(lambda: bool(site.failed))
    assert isinstance(site.failed[0], BackendError)


def test_a_source_that_ends_leaves_the_page_open(opened: Opened) -> None:
    site = opened([Showing(live=False)])
    until(lambda: site.get("/health").status == 200)
    site.sources[0].failure = SourceError("the video breaks off")
    until(lambda: site.get("/api/state").json["failure"] == "the video breaks off")
    assert site.get("/health").status == 503
    assert site.get("/api/sources/0/frame.jpg").status == 200


def test_files_are_played_at_their_own_pace() -> None:
    video, pictures = Showing(live=False), Showing(live=False)
    video.fps, pictures.timed = 12.5, False
    assert paced(StreamOptions(), [video]).max_fps == 12.5
    assert paced(StreamOptions(), [pictures]).max_fps == 1
    assert paced(StreamOptions(), [Showing()]).max_fps is None
    assert paced(StreamOptions(max_fps=3), [video]).max_fps == 3
