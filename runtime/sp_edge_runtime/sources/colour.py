"""The rules by which a decoded frame's colours become sRGB: matrix, range, and high dynamic range."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Code points of ITU-T H.273.
BT709, BT470BG, SMPTE170M, BT2020 = 1, 5, 6, 9
MATRICES = (BT709, 4, BT470BG, SMPTE170M, 7, BT2020)
RGB = 0
PQ, HLG = 16, 18
LIMITED, FULL = 1, 2  # AVColorRange
# What players take for standard definition where a video does not say which matrix it has.
SD_WIDTH, SD_HEIGHT = 1024, 576

WHITE = 203.0  # nits of the white of a sheet of paper in HDR (ITU-R BT.2408)
PEAK = 1000.0  # nits of the brightest highlight that is told from white
KNEE = 0.8  # of WHITE, linear: what is darker stays as it was, the highlights share what is above
POINTS = 33  # a side of the table
# Primaries of BT.2020 to those of BT.709, for light (ITU-R BT.2087).
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])


def matrix_of(frame: Any) -> int:
    """The code point of a frame's colour matrix: its own, or what players assume for its size."""
    if frame.colorspace in (RGB, *MATRICES):
        return int(frame.colorspace)
    return BT709 if is_hd(frame.width, frame.height) else SMPTE170M


def is_hd(width: int, height: int) -> bool:
    """Whether players take a video of this size, pixels, for HD where it does not say which matrix it has."""
    return height > SD_HEIGHT or width > SD_WIDTH


def is_hdr(frame: Any) -> bool:
    """Whether a frame's values are those of high dynamic range, which no screen of sRGB shows as they are."""
    return frame.color_trc in (PQ, HLG)


def hdr_table(transfer: int) -> NDArray[np.float64]:
    """What each HDR colour is in sRGB: (R, G, B, 3) with `POINTS` a side; values 0 to 1, index and result.

    Made for BT.2020 primaries: code values to light (ITU-R BT.2100), white at 203 nits (BT.2408), highlights up to 1000 nits
    bent into the range above the knee by their largest channel, so that their hue stays, then BT.709 primaries and sRGB's
    curve. A standard picture that was put into HDR by BT.2408 comes out as it was, up to 80 % of white's light.

    Args:
        transfer: PQ or HLG.
    """
    steps = np.linspace(0, 1, POINTS)
    code = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    light = (_pq_nits(code) if transfer == PQ else _hlg_nits(code)) / WHITE
    light = light @ _TO_BT709.T
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    linear = np.clip(light * _bent(brightest) / brightest, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _bent(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tone curve: straight up to the knee, then Reinhard's, which reaches 1 at the peak."""
    most = (PEAK / WHITE - KNEE) / (1 - KNEE)
    above = np.clip((light - KNEE) / (1 - KNEE), 0, most)
    return np.where(light <= KNEE, light, KNEE + (1 - KNEE) * above * (1 + above / most**2) / (1 + above))


def _pq_nits(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084's curve."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = code ** (1 / m2)
    return 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_nits(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hybrid log-gamma's curve and the system gamma of a display of 1000 nits."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    luma = np.maximum(scene @ _LUMA_2020, 1e-9)[..., None]
    return 1000 * luma**0.2 * scene


def cube(table: NDArray[np.float64]) -> str:
    """The table, float64 (n, n, n, 3) by red, green and blue, as a .cube file, whose red index runs fastest."""
    rows = table.transpose(2, 1, 0, 3).reshape(-1, 3)
    return f"LUT_3D_SIZE {len(table)}\n" + "\n".join(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in rows) + "\n"
