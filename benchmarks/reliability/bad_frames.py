"""Sends bad frames among good ones: no label may be wrong, and none may be of another frame than the one that it stands at.

    python benchmarks/reliability/bad_frames.py --count 10000

Every frame shows one of three colors, which are taught, and its own number in a column at its left. Over MJPEG, in files (MJPEG
and H.264) and over RTSP (H.264, where the system's Python has GStreamer's server) one frame in three is bad:

- cut: the rest of its bytes is missing, with the length told as it is, as it was, or not at all;
- grey: as at night, which no taught color is like;
- repeated: it is sent twice;
- late: it waits, and comes together with those after it;
- another size;
- other colors in the file: CMYK, RGB that is not YCbCr, Display P3 with its profile; right once they are converted;
- in videos also lost: the frame's packet is not there.

A frame that is cut or lost, and all that are built on it, must be left out, unless every block of it is right. Of every frame
that comes, number and label must be its own.
"""

from __future__ import annotations

import io
import random
import socket
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

import shared
import toy
from sp_edge.errors import SourceError
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.mjpeg import capture_pictures
from sp_edge_runtime.sources.network import capture_network
from sp_edge_runtime.sources.recorded import VideoFileSource
from sp_edge_runtime.sources.request import CaptureRequest

SIZE_WH = (64, 48)
CELLS, LEVELS = 6, (20, 90, 160, 230)
NUMBERS = len(LEVELS) ** CELLS
PICTURES = ("cut", "grey", "repeated", "late", "other size", "CMYK", "RGB", "Display P3")
PACKETS = ("cut", "grey", "repeated", "lost")
CLIP = 240  # frames of one video
SYSTEM_PYTHON = "/usr/bin/python3"

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class Sent:
    """A frame as it was sent: its number, what it is to be called, and its fault."""

    number: int
    label: str
    fault: str


def draw(number: int, name: str, scale: int = 1) -> RGB:
    """A frame: uint8 (H, W, 3) RGB."""
    width, height = SIZE_WH
    image = toy.picture(name, side=width, seed=number)[:height].copy()
    for cell in range(CELLS):
        level = LEVELS[number // len(LEVELS) ** cell % len(LEVELS)]
        image[cell * height // CELLS : (cell + 1) * height // CELLS, :8] = level
    return np.asarray(image.repeat(scale, axis=0).repeat(scale, axis=1))


def number_in(image_rgb: RGB) -> int:
    """The number that a frame shows."""
    height, width = image_rgb.shape[:2]
    number = 0
    for cell in range(CELLS):
        top, left = (4 * cell + 1) * height // (4 * CELLS), width // 32
        seen = image_rgb[top : top + height // (2 * CELLS), left : left + width // 16].mean()
        number += int(np.abs(np.array(LEVELS) - seen).argmin()) * len(LEVELS) ** cell
    return number


def frames(count: int, faults: tuple[str, ...], chance: random.Random) -> Iterator[Sent]:
    for number in range(count):
        fault = chance.choice(faults) if chance.random() < 1 / 3 else ""
        yield Sent(number % NUMBERS, "unknown" if fault == "grey" else chance.choice(list(toy.COLOURS)), fault)


def _is_whole(image_rgb: RGB, sent: Sent) -> bool:
    """Whether every block of a frame that was cut shows what was drawn: what is missing may be padding."""
    width, height = SIZE_WH
    if image_rgb.shape != (height, width, 3):
        return False
    apart = np.abs(image_rgb.astype(int) - draw(sent.number, sent.label))
    return bool(apart.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3, 4)).max() < 20)


class Check:
    """Holds what comes to what was sent."""

    def __init__(self, recognizer: Recognizer, sent: list[Sent]) -> None:
        self.recognizer, self.sent = recognizer, sent
        self.at, self.came, self.wrong = 0, 0, list[str]()

    def __call__(self, image_rgb: RGB, what: str) -> None:
        self.came += 1
        number, label = number_in(image_rgb), self.recognizer.classify(image_rgb).label
        again = self.sent[self.at - 1] if self.at else None
        if again and again.number == number and again.fault == "repeated":
            found = again
        else:
            rest = range(self.at, len(self.sent))
            place = next((at for at in rest if self.sent[at].number == number), None)
            if place is None:
                self.wrong.append(f"{what}: frame {number} is stale, after {self.at} frames")
                return
            self.at, found = place + 1, self.sent[place]
        if found.fault in ("cut", "lost") and not _is_whole(image_rgb, found):
            self.wrong.append(f"{what}: frame {number} was {found.fault}, and is shown as {label}")
        elif found.label != label:
            self.wrong.append(f"{what}: frame {number} ({found.fault or 'good'}) is {found.label}, and is called {label}")


# ---- MJPEG


def jpeg(sent: Sent, color: str, p3: ImageCms.ImageCmsProfile | None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(draw(sent.number, color, 2 if sent.fault == "other size" else 1))
    options: dict[str, Any] = {"quality": 92}
    if sent.fault == "grey":
        image = image.convert("L")
    elif sent.fault == "CMYK":
        image = image.convert("CMYK")
    elif sent.fault == "RGB":
        options["keep_rgb"] = True
    elif sent.fault == "Display P3" and p3 is not None:
        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), p3, outputMode="RGB")
        options["icc_profile"] = ImageCms.ImageCmsProfile(p3).tobytes()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def serve(listening: socket.socket, every: list[Sent], colors: list[str], chance: random.Random) -> None:
    connection, _ = listening.accept()
    with connection, suppress(OSError):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        held = b""
        for sent, color in zip(every, colors, strict=True):
            content = jpeg(sent, color, None)
            told = b"Content-Length: %d\r\n" % len(content)
            if sent.fault == "cut":
                content = content[: int(len(content) * chance.uniform(0.3, 0.995))]
                told = chance.choice([told, b"Content-Length: %d\r\n" % len(content), b""])
            held += (b"--frame\r\nContent-Type: image/jpeg\r\n" + told + b"\r\n" + content + b"\r\n") * (
                1 + (sent.fault == "repeated")
            )
            if sent.fault != "late":
                connection.sendall(held)
                held = b""
        connection.sendall(held)


def over_mjpeg(recognizer: Recognizer, count: int, chance: random.Random) -> Check:
    every = list(frames(count, PICTURES, chance))
    colors = [sent.label if sent.label != "unknown" else chance.choice(list(toy.COLOURS)) for sent in every]
    check = Check(recognizer, every)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening, every, colors, chance], daemon=True)
        thread.start()
        opened = capture_pictures(CaptureRequest("stream", f"http://127.0.0.1:{listening.getsockname()[1]}/cam", timeout=10.0))
        assert opened is not None
        with suppress(SourceError):  # it broke off: how it ends
            for frame in opened[1]:
                assert frame is not None
                check(frame.image_rgb, "MJPEG")
        thread.join()
    return check


# ---- videos


def write_video(path: Path, every: list[Sent], codec: str, rate: int, chance: random.Random) -> None:
    """A video whose packets have the frames' faults."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg" if codec == "mjpeg" else codec, rate=rate)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec != "mjpeg":
            stream.options = {"g": "12", "bf": "0", "crf": "12", "preset": "ultrafast", "tune": "zerolatency"}
            stream.codec_context.thread_count = 1

        def mux(packets: list[Any], sent: Sent | None) -> None:
            for packet in packets:
                if sent is not None and sent.fault == "lost" and sent.number % CLIP:
                    continue
                if sent is not None and sent.fault == "cut" and sent.number % CLIP:
                    cut = av.Packet(bytes(packet)[: int(packet.size * chance.uniform(0.3, 0.9))])
                    cut.pts, cut.dts, cut.time_base, cut.is_keyframe = (
                        packet.pts,
                        packet.dts,
                        packet.time_base,
                        packet.is_keyframe,
                    )
                    cut.stream = packet.stream
                    packet = cut  # noqa: PLW2901
                container.mux(packet)

        place = 0
        for sent in every:
            name = sent.label if sent.label != "unknown" else "red"
            image = draw(sent.number, name)
            if sent.fault == "grey":
                image = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
            for _ in range(1 + (sent.fault == "repeated")):
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=stream.pix_fmt)
                frame.pts, frame.time_base = place, Fraction(1, rate)
                place += 1
                mux(stream.encode(frame), sent)
        mux(stream.encode(None), None)


def clips(folder: Path, count: int, codec: str, rate: int, chance: random.Random) -> Iterator[tuple[Path, list[Sent]]]:
    for number in range(0, count, CLIP):
        every = [
            Sent(sent.number, sent.label, "" if sent.number == 0 and sent.fault in ("cut", "lost") else sent.fault)
            for sent in frames(min(CLIP, count - number), PACKETS, chance)
        ]
        path = folder / f"{number}.mkv"
        write_video(path, every, codec, rate, chance)
        yield path, every
        path.unlink()


def in_files(recognizer: Recognizer, count: int, codec: str, chance: random.Random) -> list[Check]:
    checks = []
    with tempfile.TemporaryDirectory() as folder:
        for path, every in clips(Path(folder), count, codec, 25, chance):
            check = Check(recognizer, every)
            with suppress(SourceError):  # that frames were left out
                for frame in VideoFileSource(path):
                    check(frame.image_rgb, codec)
            checks.append(check)
    return checks


RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch("( filesrc location=%s ! matroskademux ! h264parse ! rtph264pay name=pay0 )" % sys.argv[2])
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
server.get_mount_points().add_factory("/cam", factory)
server.attach(None); print("ready", flush=True); GLib.MainLoop().run()
"""


def over_rtsp(recognizer: Recognizer, count: int, chance: random.Random) -> list[Check]:
    checks = []
    with tempfile.TemporaryDirectory() as folder:
        for path, every in clips(Path(folder), count, "libx264", 100, chance):
            check = Check(recognizer, every)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = [SYSTEM_PYTHON, "-c", RTSP, str(port), str(path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
                try:
                    assert server.stdout is not None
                    if server.stdout.readline() != "ready\n":
                        return []
                    with suppress(SourceError):
                        _, captured = capture_network(CaptureRequest("stream", f"rtsp://127.0.0.1:{port}/cam", timeout=3.0))
                        for frame in captured:
                            if frame is not None:
                                check(frame.image_rgb, "RTSP")
                finally:
                    server.kill()
            checks.append(check)
    return checks


def main() -> None:
    options = shared.arguments(__doc__, 10_000)
    warnings.simplefilter("ignore")
    chance = random.Random(options.seed)
    wrong, bad = [], 0
    with tempfile.TemporaryDirectory() as folder:
        bundle = toy.make_bundle(Path(folder) / "b.spedge")
        with Recognizer.load(bundle, device="cpu") as recognizer:
            recognizer.enroll_many({name: [toy.picture(name, seed=seed) for seed in (1, 2, 3)] for name in toy.COLOURS})
            three_tenths = 3 * options.count * 3 // 10  # one frame in three is bad
            found = {
                "MJPEG over HTTP": [over_mjpeg(recognizer, three_tenths, chance)],
                "MJPEG in a file": in_files(recognizer, three_tenths, "mjpeg", chance),
                "H.264 in a file": in_files(recognizer, three_tenths, "libx264", chance),
                "H.264 over RTSP": over_rtsp(recognizer, 3 * options.count // 10, chance),
            }
    for what, checks in found.items():
        here = [line for check in checks for line in check.wrong]
        faults = sum(sent.fault != "" for check in checks for sent in check.sent)
        sent, came = sum(len(check.sent) for check in checks), sum(check.came for check in checks)
        shared.row(what, faults, here, f"{came:,} of {sent:,} frames came")
        wrong, bad = wrong + here, bad + faults
    shared.row("all", bad, wrong)


if __name__ == "__main__":
    main()
