"""The forms of `sp-edge stream`: which arguments are sources and which the OUTPUT, and what goes where."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toy
from mosquitto import Broker
from threads import until

Call = Callable[..., tuple[int, str, str]]


def size_and_frames(video: Path) -> tuple[tuple[int, int], int]:
    cv2 = pytest.importorskip("cv2")
    capture, count, size = cv2.VideoCapture(str(video)), 0, (0, 0)
    while (found := capture.read())[0]:
        count, size = count + 1, (found[1].shape[1], found[1].shape[0])
    capture.release()
    return size, count


def test_json_lines_are_all_that_is_printed(taught: Path, call: Call, toy_video: Path) -> None:
    assert taught.is_dir()
    code, out, err = call("stream", toy_video, "--json", "-")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    frames = [line for line in lines if "event" not in line]
    assert [(line["frame_id"], line["name"]) for line in frames] == [
        (3 * place + i, name) for place, name in enumerate(toy.COLOURS) for i in range(3)
    ]
    assert {line["source"] for line in lines} == {str(toy_video)}
    assert {line["event"] for line in lines if "event" in line} == {"appeared", "left"}
    assert "9 frames" in err


def test_home_assistant_is_told_of_each_source(
    taught: Path, call: Call, toy_video: Path, toy_pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("paho.mqtt.client")
    broker = Broker(tmp_path)
    broker.start()
    try:
        until(broker.answers)
        names = ("--source-name", "door", "--source-name", "yard")
        mqtt = ("--mqtt", f"mqtt://127.0.0.1:{broker.port}/shop", "--home-assistant", "--smoothing", 0)
        code, _, err = call("stream", toy_video, toy_pictures, *names, *mqtt)
        assert code == 0, err
        kept = broker.kept()
        (announced,) = (json.loads(payload) for topic, payload in kept.items() if topic.endswith("/config"))
        assert sorted(component["name"] for key, component in announced["components"].items() if "label" in key) == [
            "door",
            "yard",
        ]
        assert kept["shop/status"] == b"offline", "the stream has ended"
        assert json.loads(kept["shop/door/state"])["label"] == list(toy.COLOURS)[-1]
    finally:
        broker.stop()
    code, _, err = call("stream", toy_video, "--home-assistant")
    assert code == 2
    assert "expected: --mqtt URL" in err


def test_a_video_that_breaks_off_gives_what_it_has_and_ends_with_an_error(taught: Path, call: Call) -> None:
    av = pytest.importorskip("av")
    video, results = taught / "cut.mkv", taught / "results.jsonl"
    noise = np.random.default_rng(0)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        for _ in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise.integers(0, 256, (48, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    code, _, err = call("stream", video, "--json", results)
    assert code == 2
    read = sum("event" not in json.loads(line) for line in results.read_text("utf-8").splitlines())
    assert 5 < read < 40
    assert "is damaged or breaks off" in err
    assert "expected: about 40 frames" in err
    assert f"got: {read} frames" in err


def test_several_sources_take_turns(taught: Path, call: Call, toy_video: Path, toy_pictures: Path) -> None:
    shutil.copy(toy_video, taught / "second.mp4")
    code, out, err = call("stream", "second.mp4", toy_video, toy_pictures, "--json", "-")
    assert code == 0
    assert "21 frames" in err
    frames = [line for line in map(json.loads, out.splitlines()) if "event" not in line]
    sources = ["second.mp4", str(toy_video), str(toy_pictures)]
    assert [line["source"] for line in frames[:9]] == sources * 3, "one frame of each in every batch"
    assert [line["source"] for line in frames[9:]] == sources[:2] * 6, "the pictures are over"
    assert [line["name"] for line in frames if line["source"] == sources[2]] == list(toy.COLOURS)
    assert ["smoothed" in line for line in frames[:3]] == [True, True, False], "pictures have no time"
    code, out, _ = call("stream", toy_pictures, "second.mp4", toy_pictures, "--smoothing", 0)
    assert code == 0
    assert f"{toy_pictures}: frame 0: red" in [line.split(" (")[0] for line in out.splitlines()], "lines say of which source"


def test_where_each_argument_has_a_name_all_are_sources(taught: Path, call: Call, toy_video: Path) -> None:
    shutil.copy(toy_video, taught / "second.mp4")
    code, out, err = call("stream", toy_video, "second.mp4", "--source-name", "one", "--source-name", "two", "--json", "-")
    assert code == 0, err
    assert {json.loads(line)["source"] for line in out.splitlines()} == {"one", "two"}
    code, _, err = call("stream", toy_video, "missing.mp4", "--source-name", "one", "--source-name", "two")
    assert (code, "no source at missing.mp4" in err) == (2, True)


def test_an_output_that_exists_is_written_over_on_demand_alone(taught: Path, call: Call, toy_video: Path) -> None:
    output = taught / "out.mp4"
    output.write_bytes(b"somebody's")
    code, out, err = call("stream", toy_video, "out.mp4")
    assert (code, out) == (2, "")
    assert "out.mp4 exists: is it a source, or the video to write?" in err
    assert "next: --out out.mp4 writes over it; to read it, call every source by a --source-name" in err
    assert output.read_bytes() == b"somebody's"
    assert call("stream", toy_video, "--out", "out.mp4", "--headless")[:2] == (0, "")
    assert size_and_frames(output) == ((64, 48), 9)


def test_one_video_cannot_show_several_sources(taught: Path, call: Call, toy_video: Path, toy_pictures: Path) -> None:
    for arguments in ([toy_pictures, toy_video, "new.mp4"], [toy_pictures, toy_video, "--out", "new.mp4"]):
        code, out, err = call("stream", *arguments)
        assert (code, out) == (2, "")
        assert "one video cannot show several sources" in err
    assert not (taught / "new.mp4").exists()


def test_a_camera_delivers_the_size_that_was_asked_for(taught: Path, call: Call) -> None:
    pytest.importorskip("cv2")
    code, _, err = call("stream", "test://", "out.mp4", "--size", "320x240", "--max-frames", 2)
    assert code == 0
    assert "2 frames" in err
    assert size_and_frames(taught / "out.mp4") == ((320, 240), 2)


@pytest.mark.parametrize(
    ("size", "problem"), [("320", "this is no size"), ("0x240", "out of range"), ("320x240", "size and rate are for cameras")]
)
def test_a_size_that_cannot_be(taught: Path, call: Call, toy_pictures: Path, size: str, problem: str) -> None:
    code, out, err = call("stream", toy_pictures, "--size", size, "--json", "frames.jsonl")
    assert (code, out) == (2, "")
    assert problem in err
    assert not (taught / "frames.jsonl").exists()


def test_a_window_needs_a_screen(taught: Path, call: Call, toy_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    code, out, err = call("stream", toy_pictures, "--window", "--json", "frames.jsonl")
    assert (code, out) == (2, "")
    assert "there is no screen for a window" in err
    assert "next: an OUTPUT.mp4 shows the same afterwards" in err
    assert not (taught / "frames.jsonl").exists()


def test_threads_of_linear_algebra_leave_the_cores_alone_unless_the_user_says(
    taught: Path, call: Call, toy_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taught.is_dir()
    for given, expected in (("3", "3"), (None, "1")):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
        if given is None:
            monkeypatch.delenv("OPENBLAS_NUM_THREADS")
        assert call("stream", toy_pictures, "--headless")[0] == 0
        assert os.environ["OPENBLAS_NUM_THREADS"] == expected


def test_two_sources_are_told_apart_by_the_names_they_are_given(taught: Path, call: Call) -> None:
    assert taught.is_dir()
    code, out, err = call(
        "stream", "test://", "test://", "--source-name", "door", "--source-name", "yard", "--json", "-", "--max-frames", 8
    )
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["source"] for line in lines} == {"door", "yard"}
    assert "door, yard through" in err
    code, _, err = call("stream", "test://", "test://", "--source-name", "door")
    assert (code, "every source needs a name" in err) == (2, True)


def test_each_source_has_its_crop(taught: Path, call: Call) -> None:
    halves = [toy.picture(name, side=60)[:40] for name in ("red", "blue")]
    for name in ("one.png", "two.png"):
        Image.fromarray(np.concatenate(halves, axis=1)).save(taught / name)

    def labels(*crops: str) -> dict[str, str]:
        code, out, _ = call(
            "stream", "one.png", "two.png", "--json", "-", *(each for crop in crops for each in ("--crop", crop))
        )
        assert code == 0
        return {line["source"]: line["label"] for line in map(json.loads, out.splitlines())}

    assert labels("0,0,0.5,1", "0.5,0,0.5,1") == {"one.png": "red", "two.png": "blue"}
    assert labels("60,0,60,40") == {"one.png": "blue", "two.png": "blue"}
    code, _, err = call("stream", "one.png", *["--crop", "0,0,0.5,1"] * 2)
    assert code == 2
    assert "do not go together" in err


def test_regions_with_names_are_sources_of_their_own(taught: Path, call: Call) -> None:
    halves = [toy.picture(name, side=60)[:40] for name in ("red", "blue")]
    for name in ("one.png", "two.png"):
        Image.fromarray(np.concatenate(halves, axis=1)).save(taught / name)
    code, out, _ = call("stream", "one.png", "--json", "-", "--region", "left=0,0,0.5,1", "--region", "right=60,0,60,40")
    assert code == 0
    found = {line["source"]: line["label"] for line in map(json.loads, out.splitlines())}
    assert found == {"one.png": found["one.png"], "left": "red", "right": "blue"}
    code, out, _ = call("stream", "one.png", "--headless", "--region", "left=one.png:0,0,0.5,1")
    assert code == 0
    code, out, _ = call("stream", "one.png", "--region", "left=0,0,0.5,1")
    assert "left: frame 0: red" in out, "the terminal says which source"
    code, _, err = call("stream", "one.png", "two.png", "--region", "left=0,0,0.5,1")
    assert (code, "with one of these sources: one.png, two.png" in err) == (2, True)
    code, _, err = call("stream", "one.png", "out.mp4", "--region", "left=0,0,0.5,1")
    assert (code, "one video cannot show several regions" in err) == (2, True)
    code, _, err = call("stream", "one.png", "--region", "0,0,0.5,1")
    assert (code, "NAME=X,Y,W,H" in err) == (2, True)
