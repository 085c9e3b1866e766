"""A shot as a bank keeps it: the picture that the network saw, as JPEG, so that another network can be taught from it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.errors import BankError, ImageError
from sp_edge.pictures import check_picture, load_image

QUALITY = 95  # with whole colours: features keep a cosine of 0.9999, with halved ones of 0.999
THUMBNAIL = 64
LARGEST = 4096  # pixels of a side; no network sees more
NO_PICTURE = b""  # the crop of a shot that a class's name stands for

Crops = NDArray[np.object_]  # (M,) bytes


def encode_crop(image_rgb: NDArray[np.uint8]) -> bytes:
    """A prepared picture, uint8 (S, S, 3) RGB, as JPEG: about 8 kB at 96 pixels, 28 kB at 224.

    Raises:
        ImageError: not such an array.
    """
    check_picture(image_rgb)
    file = io.BytesIO()
    Image.fromarray(image_rgb).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def decode_crop(crop: bytes) -> NDArray[np.uint8]:
    """What `encode_crop` was given, but for what JPEG loses: uint8 (S, S, 3) RGB.

    Raises:
        BankError: no JPEG of a square.
    """
    try:
        with Image.open(io.BytesIO(crop), formats=["JPEG"]) as opened:
            width, height = opened.size
        if width == height <= LARGEST:
            return load_image(crop)
        got = f"{width} x {height}"
    except (ImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as cause:
        got = str(cause)[:200]
    raise BankError("a shot's picture in the bank cannot be read", expected="the JPEG of a square", got=got)


def thumbnail(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture as a person recognizes it: uint8 (H, W, 3) RGB -> (64, 64, 3)."""
    size = (THUMBNAIL, THUMBNAIL)
    return np.asarray(Image.fromarray(image_rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=2))


def thumbnails(crops: Iterable[bytes]) -> NDArray[np.uint8]:
    """The crops of n shots as thumbnails: uint8 (n, 64, 64, 3) RGB.

    Raises:
        BankError: one is no JPEG of a square.
    """
    return np.array([thumbnail(decode_crop(crop)) for crop in crops], np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL, 3)


def crops_of(crops: Sequence[bytes]) -> Crops:
    """Crops as an array with a row a shot.

    Raises:
        BankError: one is not bytes.
    """
    strange = [type(crop).__name__ for crop in crops if not isinstance(crop, bytes)]
    if strange:
        raise BankError("a shot's picture is no JPEG", expected="bytes, as encode_crop gives them", got=strange[0])
    made = np.empty(len(crops), object)
    made[:] = list(crops)
    return made


def pack(crops: Crops) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Crops as a file holds them: uint8 (bytes of all,), and where each ends, int64 (M,)."""
    ends = np.cumsum([len(crop) for crop in crops], dtype=np.int64)
    return np.frombuffer(b"".join(crops), np.uint8), ends


def unpack(content: NDArray[np.uint8], ends: NDArray[np.int64]) -> Crops:
    """What `pack` was given, of what it gave: uint8 (B,), the JPEGs in a row, and int64 (M,), where each ends.

    Raises:
        BankError: the two do not fit together.
    """
    rows = content.dtype == np.uint8 and content.ndim == 1 and ends.dtype == np.int64 and ends.ndim == 1
    steps = np.diff(ends, prepend=0) if rows else np.full(1, -1)
    if (steps < 0).any() or steps.sum() != len(content):
        raise BankError(
            "the bank's pictures do not fit", expected="uint8 in a row, and where each ends, int64",
            got=f"{content.dtype} {content.shape}, {ends.dtype} {ends.shape}",
        )  # fmt: skip
    whole = content.tobytes()
    return crops_of([whole[end - size : end] for end, size in zip(ends.tolist(), steps.tolist(), strict=True)])
