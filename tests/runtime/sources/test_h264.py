"""H.264 pictures that never arrived are noticed by their numbers, whatever the encoder did; whole streams have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.h264 import Gaps
from sp_edge_runtime.sources.recorded import VideoFileSource
from videos import COUNT, make, number_in

av = pytest.importorskip("av")

PLAIN = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12")
WAYS = {
    "plain.mkv": (*PLAIN, "-bf", "0"),
    "b-frames.mp4": (*PLAIN, "-bf", "3", "-b-pyramid", "normal"),
    "byte-stream.ts": (*PLAIN, "-bf", "2"),
    "raw.h264": (*PLAIN, "-bf", "0"),
    "fields.mkv": (*PLAIN, "-flags", "+ildct+ilme", "-x264-params", "tff=1", "-bf", "0"),
    "slices.mkv": (*PLAIN, "-x264-params", "slices=4:cqm=jvt", "-bf", "2"),
    "planes.mkv": ("-c:v", "libx264", "-pix_fmt", "yuv444p", "-g", "12", "-x264-params", "cqm=jvt", "-bf", "2"),
    "refresh.mkv": (*PLAIN, "-x264-params", "intra-refresh=1", "-bf", "0"),
    "baseline.mp4": (*PLAIN, "-profile:v", "baseline", "-bf", "0"),
}


def packets(path: Path) -> tuple[bytes, list[bytes]]:
    """The stream's parameter sets, and its packets."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        every = [bytes(packet) for packet in container.demux(video) if packet.size]
        return video.codec_context.extradata or b"", every


@pytest.mark.parametrize("name", WAYS)
def test_every_lost_picture_on_which_others_are_built_is_noticed(name: str, tmp_path: Path) -> None:
    extradata, every = packets(make(tmp_path / name, *WAYS[name]))
    whole = Gaps(extradata)
    assert not any(map(whole.before, every))
    unnoticed = []
    for lost in range(1, len(every) - 1):
        gaps = Gaps(extradata)
        told = [place for place, packet in enumerate(every) if place != lost and gaps.before(packet)]
        assert told in ([], [lost + 1])
        unnoticed += [] if told else [lost]
    if (
        WAYS[name][-1] == "0" or WAYS[name][WAYS[name].index("-bf") + 1] == "0"
    ):  # all others are built on each picture, until the next key frame
        assert unnoticed == ([] if "refresh" in name else [11])
    assert len(unnoticed) < 2 * COUNT // 3


def test_what_is_built_on_a_lost_picture_is_left_out(tmp_path: Path) -> None:
    path, holed = make(tmp_path / "whole.mkv", *WAYS["plain.mkv"]), tmp_path / "holed.mkv"
    with av.open(str(path)) as source, av.open(str(holed), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        for place, packet in enumerate(source.demux(video)):
            if packet.size and place != 5:
                packet.stream = copy
                target.mux(packet)
    seen = []
    with pytest.raises(SourceError, match="is damaged") as caught:
        for frame in VideoFileSource(holed):
            seen.append(number_in(frame.image_rgb))  # noqa: PERF401 - those before the error count
    assert seen == [*range(5), *range(12, COUNT)]
    assert "7 damaged ones left out" in caught.value.got


@given(st.binary(max_size=80), st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes(extradata: bytes, every: list[bytes]) -> None:
    for start in (b"", b"\x01\x64\x00\x1f\xff\xe1\x00\x09\x67", b"\0\0\1\x67"):
        gaps = Gaps(start + extradata)
        for packet in every:
            assert gaps.before(packet) in (True, False)
            gaps.before(b"\0\0\1\x67" + packet)
            gaps.before(b"\0\0\1\x41" + packet)
