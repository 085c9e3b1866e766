import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.json_lines import JsonLinesSink, JsonStreamSink
from sp_edge_runtime.sinks.terminal import TerminalSink
from sp_edge_runtime.sinks.video import VideoSink
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Smoothing
from sp_edge_runtime.streams.stream import run_stream


def test_a_source_whose_name_is_no_text_is_valid_json(found: list[FrameResult], tmp_path: Path) -> None:
    odd = replace(found[0], source="r\udcf6t.png")  # how Python reads a file's name that is not UTF-8
    sink, printed = JsonLinesSink(tmp_path / "lines.jsonl"), io.BytesIO()
    sink.write(odd)
    sink.close()
    JsonStreamSink(printed).write(odd)
    for line in ((tmp_path / "lines.jsonl").read_text("utf-8"), printed.getvalue().decode()):
        assert json.loads(line)["source"] == odd.source


def test_json_lines(found: list[FrameResult], tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    sink = JsonLinesSink(path)
    for number, result in enumerate(found):
        sink.write(result)
        assert len(path.read_bytes().splitlines()) == number + 1  # no line waits in a buffer, or for the file's name
    sink.close()
    sink.close()
    assert [p.name for p in path.parent.iterdir()] == ["results.jsonl"]
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [r.to_json() for r in found]
    assert "Zürcher Kaffeetasse" in path.read_text(encoding="utf-8")


def test_an_event_is_a_line_of_its_own(recognizer: Recognizer, toy_video: Path, tmp_path: Path) -> None:
    path, printed = tmp_path / "results.jsonl", io.StringIO()
    with open_source(str(toy_video)) as source:
        options = StreamOptions(smoothing=Smoothing(seconds=0.1))
        run_stream(recognizer, source, [JsonLinesSink(path), TerminalSink(printed)], options)
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


def test_an_error_in_the_stream_keeps_the_lines_before_it(recognizer: Recognizer, toy_pictures: Path, tmp_path: Path) -> None:
    class Failing:
        def write(self, result: FrameResult) -> None:
            if result.frame.frame_id == 1:
                raise SourceError("stopped")

        event = close = lambda *_: None

    path = tmp_path / "results.jsonl"
    with open_source(toy_pictures) as source, pytest.raises(SourceError, match="stopped"):
        run_stream(recognizer, source, [Failing(), JsonLinesSink(path)])
    assert json.loads(path.read_text(encoding="utf-8"))["name"] == "red"


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


@pytest.mark.parametrize("name", ["lines.jsonl", "video.mp4"])
def test_a_folder_in_the_files_place_is_known_before_the_first_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match="cannot write"):
        JsonLinesSink(tmp_path / name) if name.endswith("l") else VideoSink(tmp_path / name, 25)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def in_a_process(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = f"""
import os, signal, sys
from pathlib import Path
from sp_edge_runtime.sinks.json_lines import JsonLinesSink, JsonStreamSink
class Result:
    def to_json(self):
        return {{"name": "grüner Bär"}}
{text}
"""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)


LINE = '{"name": "grüner Bär"}\n'


def test_a_program_that_is_killed_loses_no_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    ran = in_a_process(
        "sink = JsonLinesSink(Path(sys.argv[1])); sink.write(Result()); os.kill(os.getpid(), signal.SIGKILL)", path
    )
    assert ran.returncode == -signal.SIGKILL
    assert path.read_text("utf-8") == LINE
    assert list(tmp_path.iterdir()) == [path]


def test_standard_output_is_utf_8_whatever_the_locale() -> None:
    ran = in_a_process("JsonStreamSink().write(Result())")
    assert (ran.stdout, ran.stderr) == (LINE, "")


def test_what_an_earlier_run_wrote_stays(found: list[FrameResult], tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for result in found[:2]:
        sink = JsonLinesSink(path)
        sink.write(result)
        sink.close()
    assert [json.loads(line)["frame_id"] for line in path.read_bytes().splitlines()] == [0, 1]


def test_half_a_line_of_a_run_that_was_killed_is_ended_first(result: FrameResult, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"frame_id": 7}\n{"fra')
    sink = JsonLinesSink(path)
    assert path.read_bytes().endswith(b'{"fra'), "nothing is written before there is a result"
    sink.write(result)
    sink.write(result)
    sink.close()
    first, half, *new = path.read_bytes().splitlines()
    assert (first, half) == (b'{"frame_id": 7}', b'{"fra')
    assert [json.loads(line)["frame_id"] for line in new] == [0, 0]


def test_a_link_is_followed(result: FrameResult, tmp_path: Path) -> None:
    link, real = tmp_path / "link.jsonl", tmp_path / "real.jsonl"
    link.symlink_to("real.jsonl")
    for count in (1, 2):  # the first run makes the file that the link leads to
        sink = JsonLinesSink(link)
        sink.write(result)
        sink.close()
        assert link.is_symlink()
        assert len(real.read_bytes().splitlines()) == count


def test_a_fifo_is_written_to(result: FrameResult, tmp_path: Path) -> None:
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    sink = JsonLinesSink(path)
    sink.write(result)
    sink.close()
    reader.join()
    assert json.loads(got[0])["frame_id"] == 0
    assert path.is_fifo()


def test_a_fifo_whose_reader_has_gone_is_an_error(result: FrameResult, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonLinesSink(path)
    os.close(reader)
    with pytest.raises(SourceError, match="cannot write"):
        sink.write(result)
    sink.close()


def test_a_device_is_written_to(result: FrameResult) -> None:
    sink = JsonLinesSink(Path("/dev/null"))
    sink.write(result)
    sink.close()
    assert Path("/dev/null").is_char_device()
    full = JsonLinesSink(Path("/dev/full"))
    with pytest.raises(SourceError, match="cannot write"):
        full.write(result)
    full.close()


def test_a_full_disk_leaves_an_earlier_file_whole(result: FrameResult, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"earlier": 1}\n{"ha')
    sink = JsonLinesSink(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        for _ in range(2):
            with pytest.raises(SourceError, match="cannot write"):
                sink.write(result)
            assert path.read_bytes() == b'{"earlier": 1}\n{"ha'
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.write(result)  # there is room again
    sink.close()
    assert [line[:4] for line in path.read_bytes().splitlines()] == [b'{"ea', b'{"ha', b'{"na']
