import io

import pytest

from sp_edge_runtime.sinks.terminal import TerminalSink
from sp_edge_runtime.streams.result import FrameResult


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
