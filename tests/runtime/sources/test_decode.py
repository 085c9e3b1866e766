"""Packets to frames: at once for live sources, never a damaged one, upright, with square pixels."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.decode import Decoder
from videos import COUNT, held, make, number_in

av = pytest.importorskip("av")

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def test_a_live_frame_is_there_with_its_packet(tmp_path: Path) -> None:
    # Threads that decode frames side by side would hold one back for each of them.
    path = make(tmp_path / "clip.mkv", *H264, "-bf", "0", "-tune", "zerolatency")
    with av.open(str(path)) as container:
        decoder = Decoder(container.streams.video[0], "clip", live=True)
        packets = [packet for packet in container.demux(video=0) if packet.size]
        given = [[arrived for _, arrived in decoder.frames(packet, float(n))] for n, packet in enumerate(packets)]
    assert given == [[float(n)] for n in range(COUNT)]


def test_frames_that_are_reordered_keep_when_their_own_packet_arrived(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mkv", *H264, "-bf", "3", "-b_strategy", "0")
    shown = {}
    with av.open(str(path)) as container:
        decoder = Decoder(container.streams.video[0], "clip", live=True)
        for packet in container.demux(video=0):
            for frame, arrived in decoder.frames(packet, float(packet.pts or -1)):
                shown[frame.pts] = arrived
    assert len(shown) == COUNT
    assert all(arrived in (pts, -1.0) for pts, arrived in shown.items())


def test_a_cut_jpeg_is_not_filled_with_the_frame_before(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.avi", "-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p", "-vf", "noise=alls=10:allf=t")
    numbers = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream, "clip", live=True)
        for n, packet in enumerate(container.demux(video=0)):
            whole = packet
            if n == 5:
                whole = av.Packet(bytes(packet)[: packet.size // 2])
                whole.stream, whole.pts, whole.dts, whole.time_base = stream, packet.pts, packet.dts, packet.time_base
            numbers += [number_in(decoder.rgb(frame), tolerance=20) for frame, _ in decoder.frames(whole)]
    assert numbers == [n for n in range(COUNT) if n != 5]
    assert decoder.damaged == 1


def test_what_is_built_on_a_lost_frame_is_left_out_until_the_next_key_frame(tmp_path: Path) -> None:
    path = make(tmp_path / "clip.mkv", *H264, "-bf", "0", "-g", "6", "-x264-params", "scenecut=0")
    numbers = []
    with av.open(str(path)) as container:
        decoder = Decoder(container.streams.video[0], "clip")
        for n, packet in enumerate(container.demux(video=0)):
            if n == 8:
                packet.is_corrupt = True
            numbers += [number_in(decoder.rgb(frame)) for frame, _ in decoder.frames(packet)]
    assert numbers == [n for n in range(COUNT) if not 8 <= n < 12]
    assert decoder.damaged == 4


def test_a_video_that_is_mirrored(tmp_path: Path) -> None:
    path = held(make(tmp_path / "clip.mp4", *H264, "-vf", "hflip", count=3), 0)
    content = path.read_bytes()
    place = content.index(b"tkhd") + 44
    mirrored = np.frombuffer(content[place : place + 36], ">i4").copy()
    mirrored[0], mirrored[6] = -mirrored[0], 96 << 16
    path.write_bytes(content[:place] + mirrored.tobytes() + content[place + 36 :])
    with av.open(str(path)) as container:
        decoder = Decoder(container.streams.video[0], "clip")
        frames = [frame for packet in container.demux(video=0) for frame, _ in decoder.frames(packet)]
    assert [number_in(decoder.rgb(frame)) for frame in frames] == [0, 1, 2]


def test_pixels_that_cannot_be_converted_are_our_error() -> None:
    stream = SimpleNamespace(codec_context=SimpleNamespace(name="h264", extradata=None), sample_aspect_ratio=None)
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.colorspace = 8  # YCgCo
    with pytest.raises(SourceError, match="not supported") as caught:
        Decoder(stream, "clip").rgb(frame)
    assert "yuv420p, color space 8" in caught.value.got
