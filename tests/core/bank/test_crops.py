from __future__ import annotations

import io
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hostile import damaged
from sp_edge.bank.crops import LARGEST, THUMBNAIL, crops_of, decode_crop, encode_crop, pack, thumbnail, thumbnails, unpack
from sp_edge.data.scenes import draw_scene, split_classes
from sp_edge.errors import BankError, ImageError

SCENE = draw_scene(split_classes()["train"][0], np.random.default_rng(0), 96)


def test_a_picture_comes_back_nearly_as_it_went() -> None:
    crop = encode_crop(SCENE)
    back = decode_crop(crop)
    assert (back.shape, back.dtype) == (SCENE.shape, np.uint8)
    assert np.abs(back.astype(int) - SCENE).mean() < 4
    assert encode_crop(SCENE) == crop, "merging knows a shot by these bytes"
    assert 2_000 < len(crop) < 20_000


def test_colours_are_kept_pixel_by_pixel() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::2], stripes[1::2] = (200, 40, 40), (40, 40, 200)
    assert np.abs(decode_crop(encode_crop(stripes)).astype(int) - stripes).max() < 20


@pytest.mark.parametrize("image", [SCENE[..., 0], SCENE.astype(np.float32), SCENE[:0]])
def test_what_is_no_picture(image: np.ndarray) -> None:
    with pytest.raises(ImageError):
        encode_crop(image)


def jpeg(width: int, height: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    "crop",
    [b"", b"no picture", encode_crop(SCENE)[:-200], jpeg(8, 9), jpeg(LARGEST + 1, LARGEST + 1), jpeg(8, 8, "PNG")],
    ids=["empty", "text", "cut", "oblong", "large", "png"],
)
def test_what_is_no_crop(crop: bytes) -> None:
    with pytest.raises(BankError, match="picture in the bank cannot be read"):
        decode_crop(crop)


@given(st.integers(0, 2**32))
def test_a_damaged_crop_is_read_or_refused(seed: int) -> None:
    try:
        back = decode_crop(damaged(encode_crop(SCENE), seed))
    except BankError:
        return
    assert (back.ndim, back.shape[2], back.dtype) == (3, 3, np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (480, 640), (64, 64), (2, 3000)])
def test_a_thumbnail_has_one_size(size: tuple[int, int]) -> None:
    small = thumbnail(np.full((*size, 3), (200, 100, 50), np.uint8))
    assert (small.shape, small.dtype) == ((THUMBNAIL, THUMBNAIL, 3), np.uint8)
    assert (small == (200, 100, 50)).all()


def test_thumbnails_of_several_crops_and_of_none() -> None:
    found = thumbnails([encode_crop(SCENE), encode_crop(SCENE[::-1].copy())])
    assert found.shape == (2, THUMBNAIL, THUMBNAIL, 3)
    assert np.abs(found[1].astype(int) - thumbnail(SCENE[::-1].copy())).mean() < 3
    assert thumbnails([]).shape == (0, THUMBNAIL, THUMBNAIL, 3)


@given(st.lists(st.binary(max_size=5), max_size=6))
def test_crops_are_packed_and_unpacked(crops: list[bytes]) -> None:
    packed, ends = pack(crops_of(crops))
    assert (packed.dtype, ends.dtype, len(ends)) == (np.uint8, np.int64, len(crops))
    assert unpack(packed, ends).tolist() == crops


@pytest.mark.parametrize(
    ("content", "ends"),
    [
        (np.zeros(3, np.uint8), np.array([2])),
        (np.zeros(3, np.uint8), np.array([3, 2, 3])),
        (np.zeros(3, np.uint8), np.array([-1, 3])),
        (np.zeros(3, np.uint8), np.zeros(0, np.int64)),
        (np.zeros(3, np.int8), np.array([3])),
        (np.zeros((3, 1), np.uint8), np.array([3])),
        (np.zeros(3, np.uint8), np.array([3], np.int32)),
        (np.zeros(3, np.uint8), np.array(3)),
        (np.zeros(0, np.uint8), np.array([2**63 - 1, -(2**63), 0])),
    ],
)
def test_ends_that_do_not_fit(content: np.ndarray, ends: np.ndarray) -> None:
    with pytest.raises(BankError, match="pictures do not fit"):
        unpack(content, ends)


def test_crops_of_any_length_are_told_apart() -> None:
    chance = random.Random(0)  # noqa: S311
    crops = [chance.randbytes(chance.randrange(9)) for _ in range(50)]
    assert crops_of(crops)[10:20].tolist() == crops[10:20]
