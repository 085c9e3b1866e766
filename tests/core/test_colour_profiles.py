from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from sp_edge import colour_profiles
from sp_edge.colour_profiles import LARGEST, coded_profile, described, in_srgb

COLOURS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COLOURS)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Of the CSS Color specification: Display P3 and Adobe RGB to sRGB, in linear light.
P3 = np.array([[1.2249401, -0.2249404, 0], [-0.0420569, 1.0420571, 0], [-0.0196376, -0.0786361, 1.0982735]])
ADOBE = np.array([[1.3983557, -0.3983557, 0], [0, 1, 0], [0, -0.0429290, 1.0429290]])
ADOBE_POINTS = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
SRGB_POINTS = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def linear(values: Any) -> Any:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encoded(light: Any) -> Any:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def away(picture: Image.Image, expected: Any) -> float:
    return float(np.abs(np.asarray(picture) - expected).max())


def icc(kind: bytes, space: bytes, seen_in: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile by hand, of the kinds that sp-edge does not write."""
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\1" + bytes(80), b"cprt": b"text" + bytes(8), **tags}
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s", at + len(body), b"", 0x02100000, kind, space, seen_in, b"acsp")
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(68, b"\0") + d50.ljust(60, b"\0") + table + body


def grey(gamma: float) -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    return icc(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": white, b"kTRC": curve})


def inks() -> bytes:
    """CMYK whose first ink is a red one: more of it is lighter than no ink is in a naive conversion, and never cyan."""
    lab = [[255 * (1 - max(c, m, y, k) / 2) if not k else 0, 128 + 80 * c, 128] for c, m, y, k in np.ndindex(2, 2, 2, 2)]
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + np.array(lab, np.uint8).tobytes() + ramp * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return icc(b"prtr", b"CMYK", b"Lab ", {b"wtpt": white, b"A2B0": table, b"A2B1": table})


def test_display_p3_is_converted() -> None:
    assert away(in_srgb(PICTURE, coded_profile(12, 13)), encoded(linear(COLOURS / 255) @ P3.T)) <= 1.5


def test_adobe_rgb_is_converted_from_a_profile_or_from_numbers() -> None:
    profile = described({"gAMA": struct.pack(">I", 45470), "cHRM": ADOBE_POINTS})
    assert profile is not None
    of_srgbs_curve = encoded(linear(COLOURS / 255) @ ADOBE.T)
    assert away(in_srgb(PICTURE, profile), of_srgbs_curve) <= 1.5, "a gamma of about 1/2.2 is what writers put for sRGB's curve"


def test_a_linear_picture_becomes_lighter() -> None:
    profile = described({"gAMA": struct.pack(">I", 100_000)})
    assert away(in_srgb(PICTURE, profile), encoded(COLOURS / 255)) <= 1.5
    steeper = described({"gAMA": struct.pack(">I", 50_000)})
    assert away(in_srgb(PICTURE, steeper), encoded((COLOURS / 255) ** 2)) <= 1.5
    assert in_srgb(PICTURE, coded_profile(1, 8)).tobytes() == in_srgb(PICTURE, profile).tobytes()


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"sRGB": b"\0"},
        {"sRGB": b"\0", "gAMA": struct.pack(">I", 100_000)},
        {"gAMA": struct.pack(">I", 45455)},
        {"gAMA": struct.pack(">I", 45455), "cHRM": SRGB_POINTS},
        {"cICP": bytes([1, 13, 0, 1]), "iCCP": b"anything"},
        {"cICP": bytes([2, 2, 0, 1])},
        {"cICP": bytes([2, 8, 0, 1])},
        {"cICP": bytes([12, 2, 0, 1])},
    ],
)
def test_numbers_that_mean_srgb_need_no_profile(parts: dict[str, bytes]) -> None:
    assert described(parts) is None


def test_the_best_part_of_a_png_counts() -> None:
    assert described({"iCCP": SRGB, "sRGB": b"\0", "gAMA": struct.pack(">I", 100_000)}) == SRGB
    assert described({"cICP": bytes([12, 13, 0, 1]), "iCCP": SRGB}) == coded_profile(12, 13)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"cICP": bytes([9, 16, 0, 1])}, r"HDR \(PQ\)"),
        ({"cICP": bytes([9, 18, 0, 1])}, r"HDR \(HLG\)"),
        ({"cICP": bytes([250, 13, 0, 1])}, "primaries 250"),
        ({"gAMA": bytes(4)}, "gamma of 0"),
        ({"cHRM": bytes(32)}, "primaries at"),
        ({"cHRM": struct.pack(">8I", *[31270, 32900] * 4)}, "primaries at"),
    ],
)
def test_numbers_that_cannot_be_used_say_why(parts: dict[str, bytes], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        described(parts)


def test_srgb_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (PICTURE, PICTURE.convert("L")):
        in_srgb(known, SRGB)
    monkeypatch.setattr(colour_profiles, "_applied", lambda *_: pytest.fail("nothing needs to be converted"))
    np.testing.assert_array_equal(np.asarray(in_srgb(PICTURE, SRGB)), COLOURS)
    np.testing.assert_array_equal(np.asarray(in_srgb(PICTURE.convert("L"), SRGB))[..., 0], np.asarray(PICTURE.convert("L")))


def test_grey_has_profiles_of_its_own() -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    for gamma in (1.0, 1.8):
        turned = np.asarray(in_srgb(ramp, grey(gamma)))
        expected = encoded((np.arange(256) / 255) ** gamma)
        assert np.abs(turned[0, :, 0] - expected).max() <= 1.5
        assert (turned.min(axis=2) == turned.max(axis=2)).all()
    wide = np.asarray(in_srgb(ramp, coded_profile(12, 8)))  # some programs keep the profile when they make a picture grey
    assert np.abs(wide[0, :, 0] - encoded(np.arange(256) / 255)).max() <= 1.5


def test_inks_are_what_their_profile_says() -> None:
    one_ink = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    assert in_srgb(one_ink, None).getpixel((0, 0)) == (0, 255, 255)
    red, green, blue = in_srgb(one_ink, inks()).getpixel((0, 0))  # type: ignore[misc]
    assert red > green + 60
    assert red > blue + 60
    assert in_srgb(Image.new("CMYK", (4, 4)), inks()).getpixel((0, 0)) == (255, 255, 255)


def test_lab_needs_no_profile() -> None:
    lab = ImageCms.profileToProfile(PICTURE, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    assert lab is not None
    assert np.abs(np.asarray(in_srgb(lab, None), int) - COLOURS).mean() < 3


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (b"", "damaged"),
        (b"x" * 500, "cannot open"),
        (SRGB[:300], "."),
        (SRGB + bytes(LARGEST), "more than 8 MB"),
        (grey(2.2), "for GRAY, the picture is RGB"),
        (inks(), "for CMYK, the picture is RGB"),
    ],
)
def test_a_profile_that_cannot_be_used_says_why(profile: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        in_srgb(PICTURE, profile)


def test_what_stands_behind_a_profile_is_nothing() -> None:
    np.testing.assert_array_equal(np.asarray(in_srgb(PICTURE, SRGB + bytes(2 << 20))), COLOURS)


def test_pillow_reads_the_profiles_that_numbers_become() -> None:
    for primaries, transfer in ((12, 13), (9, 1), (5, 4), (11, 5)):
        profile = coded_profile(primaries, transfer)
        assert profile is not None
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        assert opened.profile.xcolor_space.strip() == "RGB"
        white = in_srgb(Image.new("RGB", (1, 1), "white"), profile).getpixel((0, 0))
        assert min(white) >= 254, "white stays white, whatever its place"  # type: ignore[arg-type]
