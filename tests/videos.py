"""Videos for tests, made by ffmpeg: every frame shows its own number, and which side is up."""

from __future__ import annotations

import functools
import itertools
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

BITS = 6
RED, BLUE = (200, 40, 40), (40, 60, 200)
RATE = 12.0
FFMPEG = shutil.which("ffmpeg") or ""
COUNT = 24


def picture(number: int, size_wh: tuple[int, int] = (96, 64)) -> np.ndarray:
    """The number's six bits in white and black above, red below them on the left and blue on the right: uint8 (H, W, 3) RGB."""
    width, height = size_wh
    image_rgb = np.empty((height, width, 3), np.uint8)
    for bit in range(BITS):
        image_rgb[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = (
            235 if number >> (BITS - 1 - bit) & 1 else 20
        )
    image_rgb[height // 2 :, : width // 2] = RED
    image_rgb[height // 2 :, width // 2 :] = BLUE
    return image_rgb


def number_in(image_rgb: np.ndarray, *, tolerance: float = 8.0) -> int:
    """The number that a decoded picture shows; fails where it is no such picture, upright and in its colours."""
    height, width = image_rgb.shape[:2]
    number = 0
    for bit in range(BITS):
        inner = image_rgb[height // 8 : 3 * height // 8, (3 * bit + 1) * width // 18 : (3 * bit + 2) * width // 18]
        number = 2 * number + int(inner.mean() > 128)
    below = image_rgb[5 * height // 8 : 7 * height // 8]
    left, right = below[:, width // 8 : 3 * width // 8], below[:, 5 * width // 8 : 7 * width // 8]
    for expected, shown in (((235,) * 3 if number & 1 else (20,) * 3, inner), (RED, left), (BLUE, right)):
        np.testing.assert_allclose(shown.mean(axis=(0, 1)), expected, atol=tolerance)
    return number


def make(
    path: Path, *options: str, count: int = COUNT, size_wh: tuple[int, int] = (96, 64), before: tuple[str, ...] = ()
) -> Path:
    """Encodes the pictures 0 to `count` - 1 at 12 a second; skips the test where ffmpeg or an encoder that it names is absent.

    Args:
        path: of the video; its ending is the container.
        options: of ffmpeg, for what it writes.
        before: further inputs, which come before the pictures.
    """
    for encoder in (chosen for name, chosen in itertools.pairwise(options) if name == "-c:v"):
        if encoder not in encoders():
            pytest.skip(f"ffmpeg with {encoder} is not installed")
    run_ffmpeg(
        *(*before, "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size_wh[0]}x{size_wh[1]}", "-r", f"{RATE:g}", "-i", "-"),
        *(*options, str(path)),
        given=b"".join(picture(number, size_wh).tobytes() for number in range(count)),
    )
    return path


@functools.cache
def encoders() -> frozenset[str]:
    """The names of the encoders that the installed ffmpeg has; none where there is no ffmpeg."""
    if not FFMPEG:
        return frozenset()
    listed = subprocess.run([FFMPEG, "-hide_banner", "-encoders"], capture_output=True, check=True, text=True)
    return frozenset(line.split()[1] for line in listed.stdout.splitlines() if len(line.split()) > 1)


@functools.cache
def keeping_times() -> tuple[str, str]:
    """The option by which ffmpeg keeps the times of frames: newer ones call it so, and the newest refuse the older word."""
    if not FFMPEG:
        return "-fps_mode", "vfr"
    told = subprocess.run([FFMPEG, "-hide_banner", "-h", "long"], capture_output=True, check=True, text=True)
    return ("-fps_mode" if "-fps_mode" in told.stdout else "-vsync"), "vfr"


def run_ffmpeg(*arguments: str, given: bytes = b"") -> None:
    """Skips the test where ffmpeg is absent."""
    if not FFMPEG:
        pytest.skip("ffmpeg is not installed")
    done = subprocess.run([FFMPEG, "-v", "error", "-y", *arguments], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def cut(path: Path, share: float) -> Path:
    """Leaves the first share of a file's bytes, as a recording that was broken off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def held(path: Path, quarter_turns: int) -> Path:
    """Marks an MP4 as a phone does that was held so: to be shown that many quarter turns clockwise from how it is stored.

    Writes the matrix of the track's header (ISO/IEC 14496-12, 8.3.2): a stored point (p, q) is shown at (a p + c q + x,
    b p + d q + y), with x to the right, y downwards and 16 bits behind the point.
    """
    a, b, c, d = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarter_turns]
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")
    assert content[header + 4] == 0, "a header with 32-bit times"
    width, height = (side >> 16 for side in struct.unpack_from(">II", content, header + 80))
    # The turned picture is moved back to where its least coordinates are 0.
    x = width * (a < 0) + height * (c < 0)
    y = width * (b < 0) + height * (d < 0)
    struct.pack_into(">9i", content, header + 44, *(value << 16 for value in (a, b, 0, c, d, 0, x, y)), 1 << 30)
    path.write_bytes(content)
    return path
