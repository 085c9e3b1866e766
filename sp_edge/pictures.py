"""Reads any picture upright and in RGB, whatever it was stored as."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sp_edge.errors import ImageError

MAX_PIXELS = 178_956_970  # Pillow's own limit
# Without this list Pillow tries every format it knows, and hands what looks like EPS to Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
_filters = threading.Lock()

Picture = NDArray[np.uint8] | Image.Image | str | Path
Pictures = Picture | Sequence[Picture]
PICTURE = "uint8 (H, W, 3) RGB, a PIL picture or a path"


def load_image(source: Path | bytes) -> NDArray[np.uint8]:
    """Reads a picture upright and in RGB, whatever it was stored as.

    EXIF rotation is applied; grey, palette, CMYK and 16-bit pictures are converted; transparency is laid on white; of an
    animation the first frame counts. A picture of floats is refused: nothing says which value is white.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        ImageError: unreadable, truncated, empty, of floats, or above 178 million pixels.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        with _quiet():
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                size = f"{opened.width}x{opened.height}"
                raise ImageError(f"{name} is too large", expected=f"at most {MAX_PIXELS:,} pixels", got=size)
            return _upright_rgb(opened, name)
    except ImageError:
        raise
    except Exception as cause:  # Pillow's decoders raise whatever they stumble over: struct.error, KeyError, MemoryError, ...
        raise ImageError(
            f"cannot read {name}", expected="a JPEG, PNG or other picture", got=str(cause) or type(cause).__name__
        ) from cause


def picture_rgb(picture: Picture) -> NDArray[np.uint8]:
    """A picture in any form that is taken, upright and in RGB: uint8 (H, W, 3).

    Args:
        picture: uint8 (H, W, 3) RGB, which is handed on as it is; a PIL picture, which is converted as `load_image` does; or
            the path of a file.

    Raises:
        ImageError: something else, or a picture that cannot be used.
    """
    if isinstance(picture, np.ndarray):
        check_picture(picture)
        return picture
    if isinstance(picture, str | Path):
        return load_image(Path(picture))
    if not isinstance(picture, Image.Image):
        got = "None, which some readers give for a file that is missing" if picture is None else type(picture).__name__
        raise ImageError("this is no picture", expected=PICTURE, got=got)
    try:
        return _upright_rgb(picture, "the picture")
    except ImageError:
        raise
    except Exception as cause:  # it may be open and not read yet: whatever Pillow's decoders stumble over
        raise ImageError("cannot read the picture", expected="a whole one", got=str(cause) or type(cause).__name__) from cause


def pictures_rgb(pictures: Pictures) -> Iterator[NDArray[np.uint8]]:
    """Each of several pictures as `picture_rgb` gives it, read one by one; a single one counts as a list of one.

    Args:
        pictures: a list or tuple of pictures, uint8 (N, H, W, 3) RGB, or one picture.

    Raises:
        ImageError: one is no picture, or cannot be used.
    """
    several = isinstance(pictures, list | tuple) or (isinstance(pictures, np.ndarray) and pictures.ndim == 4)
    return map(picture_rgb, cast("Sequence[Picture]", pictures) if several else [cast("Picture", pictures)])


def _upright_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    image.load()  # the long part, which threads do side by side
    with _quiet():
        upright = ImageOps.exif_transpose(image)
    return np.asarray(_to_rgb(upright, name))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Pillow's warnings about odd metadata to itself; filters are the whole process's, so one thread at a time."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        if image.mode == "F" or low < 0 or high > 65535:
            raise ImageError(f"cannot use {name}", expected="8 or 16 bits a channel", got=f"mode {image.mode}, {low} to {high}")
        # Older Pillow opens a 16-bit PNG as "I", which may also hold 8 bits.
        values = values // 257 if image.mode.startswith("I;16") or high > 255 else values
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def check_picture(image_rgb: NDArray[np.uint8]) -> None:
    """Refuses an array that is no picture.

    Raises:
        ImageError: not uint8 (H, W, 3), or without a pixel.
    """
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or 0 in image_rgb.shape:
        raise ImageError("not an RGB picture", expected="uint8 (H, W, 3)", got=f"{image_rgb.dtype} {image_rgb.shape}")
