import gc
import io
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.json_lines import JsonLinesSink, JsonStreamSink
from sp_edge_runtime.sinks.terminal import TerminalSink
from sp_edge_runtime.sinks.video import VideoSink
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.streams.result import FrameResult
from sp_edge_runtime.streams.smoothing import Smoothing
from sp_edge_runtime.streams.stream import run_stream


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
from sp_edge_runtime.sinks.json_lines import JsonLinesSink


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


@pytest.mark.parametrize("name", ["lines.jsonl", "video.mp4"])
def test_a_folder_in_the_files_place_is_known_before_the_first_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match="cannot write"):
        JsonLinesSink(tmp_path / name) if name.endswith("l") else VideoSink(tmp_path / name, 25)
    assert [path.name for path in tmp_path.iterdir()] == [name]
