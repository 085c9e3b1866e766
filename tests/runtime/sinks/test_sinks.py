import gc
import io
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import toy
from sp_edge.errors import SourceError
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.sinks import JsonLinesSink, JsonStreamSink, TerminalSink, VideoSink
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Smoothing
from sp_edge_runtime.streams.stream import results, run_stream


@pytest.fixture(scope="module")
def recognizer(toy_bundle: Path) -> Iterator[Recognizer]:
    with Recognizer.load(toy_bundle, device="cpu") as loaded:
        for name, taught in zip(toy.COLOURS, ("red", "Zürcher Kaffeetasse", "赤い 自転車"), strict=True):
            loaded.enroll(taught, [toy.picture(name)])
        yield loaded


@pytest.fixture(scope="module")
def found(recognizer: Recognizer, toy_video: Path) -> list[FrameResult]:
    with open_source(str(toy_video)) as source:
        return list(results(recognizer, source))


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_source_whose_name_is_no_text_is_valid_json(found: list[FrameResult], tmp_path: Path) -> None:
    odd = replace(found[0], source="r\udcf6t.png")  # how Python reads a file's name that is not UTF-8
    sink, printed = JsonLinesSink(tmp_path / "lines.jsonl"), io.StringIO()
    sink.write(odd)
    sink.close()
    JsonStreamSink(printed).write(odd)
    for line in ((tmp_path / "lines.jsonl").read_text("utf-8"), printed.getvalue().encode().decode()):
        assert json.loads(line)["source"] == odd.source


def test_json_lines(found: list[FrameResult], tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    sink = JsonLinesSink(path)
    for number, result in enumerate(found):
        sink.write(result)
        (temporary,) = path.parent.iterdir()
        assert len(temporary.read_bytes().splitlines()) == number + 1  # no line waits in a buffer
    assert not path.exists()
    sink.close()
    sink.close()
    assert [p.name for p in path.parent.iterdir()] == ["results.jsonl"]
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [r.to_json() for r in found]
    assert "Zürcher Kaffeetasse" in path.read_text(encoding="utf-8")


def test_an_event_is_a_line_of_its_own(recognizer: Recognizer, toy_video: Path, tmp_path: Path) -> None:
    path, printed = tmp_path / "results.jsonl", io.StringIO()
    with open_source(str(toy_video)) as source:
        run_stream(recognizer, source, [JsonLinesSink(path), TerminalSink(printed)], smoothing=Smoothing(seconds=0.1))
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    events = [(at, line["event"], line["name"]) for at, line in enumerate(lines) if "event" in line]
    names = ("red", "Zürcher Kaffeetasse", "赤い 自転車")
    assert events == [
        *((1, "appeared", names[0]), (5, "left", names[0]), (6, "appeared", names[1]), (10, "left", names[1])),
        *((11, "appeared", names[2]), (14, "left", names[2])),
    ]
    assert [line["frame_id"] for line in lines if "event" not in line] == list(range(9))
    assert [line.split(" (")[0] for line in printed.getvalue().splitlines()] == [
        f"frame {3 * number}: {name}" for number, name in enumerate(names)
    ]


def test_what_stood_there_stays_until_the_new_file_is_complete(found: list[FrameResult], tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("old")
    sink = JsonLinesSink(path)
    sink.write(found[0])
    assert path.read_text() == "old"
    sink.close()
    assert json.loads(path.read_text(encoding="utf-8"))["frame_id"] == 0


def test_an_error_in_the_stream_keeps_the_lines_before_it(recognizer: Recognizer, toy_pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a.png").write_bytes((toy_pictures / "0 red.png").read_bytes())
    (tmp_path / "shots" / "b.png").write_bytes(b"broken")
    path = tmp_path / "results.jsonl"
    with open_source(str(tmp_path / "shots")) as source, pytest.raises(Exception, match=r"b\.png"):
        run_stream(recognizer, source, [JsonLinesSink(path)])
    assert json.loads(path.read_text(encoding="utf-8"))["name"] == "red"


def test_a_sink_that_nobody_closed_keeps_its_lines(found: list[FrameResult], tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "results.jsonl")
    sink.write(found[0])
    del sink
    gc.collect()
    assert visible(tmp_path) == ["results.jsonl"]


def test_a_program_that_ends_on_an_error_keeps_its_lines(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from sp_edge_runtime.sinks.sinks import JsonLinesSink
class Result:
    def to_json(self):
        return {"frame_id": 0}
sink = JsonLinesSink(Path(sys.argv[1]))
sink.write(Result())
raise SystemExit("the end")
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "results.jsonl")], capture_output=True, text=True, check=False
    )
    assert ran.stderr == "the end\n"
    assert (tmp_path / "results.jsonl").read_text() == '{"frame_id": 0}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot write"):
        JsonLinesSink(tmp_path / "file" / "results.jsonl")


def test_a_full_disk_is_an_error_and_keeps_whole_lines(found: list[FrameResult], tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    sink = JsonLinesSink(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(json.dumps(found[0].to_json(), ensure_ascii=False).encode())
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * 2.5), limits[1]))
    try:
        sink.write(found[0])
        sink.write(found[0])
        with pytest.raises(SourceError, match="cannot write"):
            sink.write(found[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.close()
    assert [json.loads(line)["frame_id"] for line in path.read_text(encoding="utf-8").splitlines()] == [0, 0]


def test_terminal_prints_a_line_whenever_the_label_changes(found: list[FrameResult]) -> None:
    stream = io.StringIO()
    sink = TerminalSink(stream)
    for result in found:
        sink.write(result)
    sink.close()
    lines = stream.getvalue().splitlines()
    assert [line.split(" (")[0] for line in lines] == ["frame 0: red", "frame 3: Zürcher Kaffeetasse", "frame 6: 赤い 自転車"]
    assert all(line.endswith("%)") for line in lines)


def test_terminal_prints_to_standard_output(found: list[FrameResult], capsys: pytest.CaptureFixture[str]) -> None:
    TerminalSink().write(found[0])
    assert capsys.readouterr().out.startswith("frame 0: red (")


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "OUT.MP4"])
def test_video(found: list[FrameResult], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    sink = VideoSink(path, fps=12)
    for number, colour in enumerate(toy.COLOURS):
        sink.write(FrameResult(VideoFrame(toy.picture(colour, side=160), number, 0.0), found[0].prediction, 0.0))
    assert visible(tmp_path) == []
    sink.close()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with open_source(str(path)) as source:
        assert source.fps == pytest.approx(12)
        frames = [frame.image_rgb for frame in source]
    assert [frame.shape for frame in frames] == [(160, 160, 3)] * 3
    for frame, rgb in zip(frames, toy.COLOURS.values(), strict=True):
        np.testing.assert_allclose(frame[:60].mean(axis=(0, 1)), rgb, atol=25)
        assert frame[-60:].mean() < frame[:60].mean()  # the band is drawn over the foot


def test_a_video_of_frames_of_different_sizes(found: list[FrameResult], tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", fps=5)
    for side in (64, 200, 32):
        frame = VideoFrame(toy.picture("red", side=side), 0, 0.0)
        sink.write(FrameResult(frame, found[0].prediction, 0.0))
    sink.close()
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert [frame.image_rgb.shape for frame in source] == [(64, 64, 3)] * 3


def test_a_video_without_frames_is_no_file(tmp_path: Path) -> None:
    VideoSink(tmp_path / "out.mp4", fps=5).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "fps"), [("out.avi", 5.0), ("out", 5.0), ("out.mp4", 0.0), ("out.mp4", float("nan"))])
def test_videos_that_cannot_be(tmp_path: Path, name: str, fps: float) -> None:
    with pytest.raises(SourceError, match="no such video"):
        VideoSink(tmp_path / name, fps)


def test_a_video_in_a_folder_that_cannot_be(found: list[FrameResult], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = VideoSink(tmp_path / "file" / "out.mp4", 5)
    with pytest.raises(SourceError, match="cannot write"):
        sink.write(found[0])
    sink.close()


class DeafWriter:
    """Stands for a cv2.VideoWriter that does not open, or opens and writes nothing."""

    opens = False

    def __init__(self, *_: object) -> None:
        pass

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def write(self, _: np.ndarray) -> None:
        pass

    def release(self) -> None:
        pass


def test_no_encoder_opens(found: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoWriter", DeafWriter)
    sink = VideoSink(tmp_path / "out.webm", 5)
    with pytest.raises(SourceError, match="VP80 or VP90"):
        sink.write(found[0])
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_writes_nothing(found: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.VideoWriter", DeafWriter)
    monkeypatch.setattr(DeafWriter, "opens", True)
    sink = VideoSink(tmp_path / "out.mp4", 5)
    sink.write(found[0])
    with pytest.raises(SourceError, match="was not written"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_stream_keeps_the_video_up_to_it(found: list[FrameResult], tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", 5)
    try:
        for result in found[:4]:
            sink.write(result)
    finally:
        sink.close()
    with open_source(str(tmp_path / "out.mp4")) as source:
        assert len(list(source)) == 4


@pytest.mark.parametrize("name", ["lines.jsonl", "video.mp4"])
def test_a_folder_in_the_files_place_is_known_before_the_first_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match="cannot write"):
        JsonLinesSink(tmp_path / name) if name.endswith("l") else VideoSink(tmp_path / name, 25)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_video_that_a_full_disk_cut_short(found: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "short.webm"
    sink = VideoSink(path, 10)
    for result in found:
        sink.write(result)

    class Short:
        """Stands for a writer whose last writes failed, of which OpenCV says nothing."""

        def __init__(self, writer: Any) -> None:
            self.writer = writer

        def release(self) -> None:
            self.writer.release()
            # In front of the cues and the length, which are written last, when there is no more room.
            content = sink._temporary.read_bytes()
            sink._temporary.write_bytes(content[: content.rindex(bytes.fromhex("1c53bb6b"))].replace(b"\x44\x89", b"\xec\x89"))

    sink._writer = Short(sink._writer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(SourceError, match="not complete"):
        sink.close()
    assert path.exists(), "it can be played as far as it goes"
