"""Turns a picture's colors into sRGB, as the profile beside its pixels says.

The rendering is relative colorimetric with black point compensation, as in Photoshop: colors that sRGB has stay exactly what
they are, black stays black, and it means the same in every profile. The tables for perceptual rendering differ from maker to
maker.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

LARGEST = 8 << 20  # bytes of a profile
_SAME = 3  # of 255: two sRGB profiles differ by less, since each maker rounds in its own way
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}

# x and y of red, green, blue and white, as ITU-T H.273 numbers them.
_WHITE = (0.3127, 0.3290)
_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _WHITE)
_PRIMARIES = {
    1: _SRGB,
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _WHITE),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _WHITE),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _WHITE),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _WHITE),
}
# Gamma of a transfer function; 0 is sRGB's curve. Cameras that write 1, 6, 14 or 15 mean a screen that looks like sRGB.
_CURVES = {1: 0.0, 4: 2.2, 5: 2.8, 6: 0.0, 8: 1.0, 13: 0.0, 14: 0.0, 15: 0.0}
_USUAL = 1 / 2.2  # what PNG writers put for sRGB


def in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB.

    Args:
        picture: of mode RGB, L, CMYK or LAB, 8 bits a channel.
        profile: ICC; None where there is none, which is sRGB. CMYK is then converted without regard to inks.

    Returns:
        An RGB picture.

    Raises:
        ValueError: the profile cannot be used; it says why.
    """
    if profile is None and picture.mode != "LAB":
        return picture.convert("RGB")
    convert = _conversion(profile, picture.mode)
    return picture.convert("RGB") if convert is None else convert(picture)


@lru_cache(maxsize=8)
def _conversion(profile: bytes | None, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """The way from pictures of a mode to sRGB; None where it changes nothing.

    Raises:
        ValueError: the profile cannot be used for them.
    """
    if profile is not None and not 128 < len(profile) <= LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MB" if len(profile) > LARGEST else "it is damaged")
    try:
        opened = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB") if profile is None else io.BytesIO(profile))
        space = opened.profile.xcolor_space
        of = _MODES.get(space, "")
        if not of or (of != mode and (mode, of) != ("L", "RGB")):
            raise ValueError(f"it is for {space.strip()}, the picture is {mode}")
        # Little CMS puts all greys but 33 between others, which is far off for a linear profile.
        exactly = ImageCms.Flags.NOOPTIMIZE if of == "L" else 0
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            of,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION | exactly,
        )
    except (ImageCms.PyCMSError, OSError) as cause:
        raise ValueError(str(cause) or "it is damaged") from cause
    if of in ("RGB", "L"):
        probe = _probe(of)
        before, after = (np.asarray(one) for one in (probe.convert("RGB"), _applied(probe, transform)))
        if np.abs(after.astype(np.int16) - before).max() <= _SAME:
            return None
        if of == "L":
            return partial(_looked_up, tables=[after[0, :, channel].tolist() for channel in range(3)])
    return lambda picture: _applied(picture.convert(of), transform)


def _applied(picture: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    return cast("Image.Image", ImageCms.applyTransform(picture, transform))  # None only where it works in place


def _looked_up(picture: Image.Image, tables: Sequence[Sequence[int]]) -> Image.Image:
    return Image.merge("RGB", [picture.point(table) for table in tables])


def _probe(mode: str) -> Image.Image:
    """Colors from the whole range."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 16, 3))


def described(parts: Mapping[str, bytes]) -> bytes | None:
    """The profile that the parts of a PNG describe: its own, or one made of numbers. None for sRGB.

    The best part counts, as the PNG specification orders them: cICP, iCCP, sRGB, gAMA with cHRM.

    Raises:
        ValueError: an HDR picture, or numbers that mean nothing.
    """
    if len(coded := parts.get("cICP", b"")) == 4:
        return coded_profile(coded[0], coded[1])
    if "iCCP" in parts:
        return parts["iCCP"]
    if "sRGB" in parts:
        return None
    gamma = struct.unpack(">I", parts["gAMA"])[0] / 100_000 if len(parts.get("gAMA", b"")) == 4 else _USUAL
    points = np.frombuffer(parts["cHRM"], ">u4") / 100_000 if len(parts.get("cHRM", b"")) == 32 else None
    if not 0.1 <= gamma <= 10:
        raise ValueError(f"a gamma of {gamma:g}")
    curve = 0.0 if abs(gamma / _USUAL - 1) < 0.05 else 1 / gamma
    primaries = _SRGB if points is None else tuple((float(points[at]), float(points[at + 1])) for at in (2, 4, 6, 0))
    if not curve and np.abs(np.subtract(primaries, _SRGB)).max() < 0.002:
        return None
    return _profile(primaries, curve)


def coded_profile(primaries: int, transfer: int) -> bytes | None:
    """The profile that two numbers of ITU-T H.273 stand for; None for sRGB, and where nothing is said.

    Raises:
        ValueError: an HDR picture (PQ or HLG), or numbers that sp-edge does not know.
    """
    if transfer in (16, 18):
        raise ValueError(f"it is HDR ({'PQ' if transfer == 16 else 'HLG'})")
    if primaries == 2 or transfer == 2:
        return None
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ValueError(f"primaries {primaries} and transfer {transfer} are unknown")
    found = _PRIMARIES[primaries], _CURVES[transfer]
    return None if found == (_SRGB, 0.0) else _profile(*found)


def _profile(points: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """An ICC profile (version 2) of three primaries, a white and one curve: 0 for sRGB's, else a gamma.

    Raises:
        ValueError: the points span no colors.
    """
    if not all(0 < y <= 1 and 0 <= x <= 1 for x, y in points):
        raise ValueError(f"primaries at {points}")
    red, green, blue, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
    columns = np.stack([red, green, blue], axis=1)
    if abs(np.linalg.det(columns)) < 1e-3:
        raise ValueError(f"primaries at {points}")
    # Bradford's adaptation of the white to D50, in which profiles are written.
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1, 0.8249])
    adapt = np.linalg.solve(cone, np.diag((cone @ d50) / (cone @ white)) @ cone)
    matrix = adapt @ columns @ np.diag(np.linalg.solve(columns, white))
    if gamma:
        tone = struct.pack(">4sIIHH", b"curv", 0, 1, round(gamma * 256), 0)
    else:
        tone = struct.pack(">4sIHH", b"para", 0, 3, 0) + _fixed(np.array([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]))
    tags = {
        b"desc": struct.pack(">4sII", b"desc", 0, 1) + b"\0" * 80,
        b"cprt": b"text" + b"\0" * 8,
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(d50),
        **{b"%cXYZ" % name: b"XYZ \0\0\0\0" + _fixed(matrix[:, at]) for at, name in enumerate(b"rgb")},
        **{b"%cTRC" % name: tone for name in b"rgb"},
    }
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(content))
        body += content.ljust(-(-len(content) // 4) * 4, b"\0")
    head = struct.pack(">I4sI4s4s4s12x4s", at + len(body), b"", 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return head.ljust(68, b"\0") + _fixed(d50).ljust(60, b"\0") + table + body


def _fixed(values: NDArray[np.float64]) -> bytes:
    return np.round(values * 65536).astype(">i4").tobytes()
