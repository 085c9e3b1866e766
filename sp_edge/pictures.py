"""Reads any picture upright and in sRGB, whatever it was stored as."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from sp_edge.colour_profiles import described, in_srgb
from sp_edge.errors import ImageError
from sp_edge.heif import coded_colours
from sp_edge.picture_kinds import GET_HEIC, HEAD, READ, kind_of
from sp_edge.png import take_apart

_log = logging.getLogger(__name__)
MAX_PIXELS = 178_956_970  # Pillow's own limit
_filters = threading.Lock()
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FLAT = 8  # a picture that uses less than this part of its 16 bits comes out black, or one grey

Picture = NDArray[np.uint8] | Image.Image | str | Path
Pictures = Picture | Sequence[Picture]
_IN_MEMORY = "the picture"
_PARTS = "sp-edge: what says how the colors look"  # a key of `info`; `described` takes it
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_CONVERT = "see 'Pictures of 16 bits' in docs/pictures.md"
PICTURE = "uint8 (H, W, 3) RGB, a PIL picture or a path"
_EXPECTED = "a JPEG, PNG or other picture"


def load_image(source: Path | bytes, *, most: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Reads a picture upright and in sRGB, whatever it was stored as; docs/pictures.md has the rules.

    EXIF rotation is applied, and colors are converted as the picture's profile says; what else stands beside the pixels is
    passed over. Grey, palette, CMYK and 16-bit pictures are converted; transparency is laid on white; of an animation the first
    frame counts. A profile that cannot be used, and 16 bits of which only a small part is used, are logged as warnings.

    Args:
        source: the file, or what it holds.
        most: pixels; a larger picture is refused before it is decoded.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        ImageError: unreadable, truncated, empty, of numbers whose white nobody knows, or larger.
    """
    name = _IN_MEMORY if isinstance(source, bytes) else str(source)
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream,
            _opened(stream, name, most) as image,
        ):
            return _upright_rgb(image, name)
    except ImageError:
        raise
    except Image.DecompressionBombError as cause:  # before its size can be asked
        limit = min(most, 2 * (Image.MAX_IMAGE_PIXELS or most))
        raise ImageError(f"{name} is too large", expected=f"at most {limit:,} pixels", got="more") from cause
    except Exception as cause:  # Pillow's decoders raise whatever they stumble over: struct.error, KeyError, MemoryError, ...
        raise ImageError(f"cannot read {name}", expected=_EXPECTED, got=str(cause) or type(cause).__name__) from cause


def _opened(stream: IO[bytes], name: str, most: int) -> Image.Image:
    """The picture whose pixels are not read yet; EXIF and profile are in its `info`.

    Raises:
        ImageError: another kind of file, or too large.
    """
    head = stream.read(HEAD)
    stream.seek(0)
    kind = kind_of(head)
    if kind not in READ:
        read_by = "`sp-edge stream` reads" if kind == "video" else "sp-edge does not read"
        got = f"{kind}, which {read_by}" if kind else "an empty file" if not head else "a file of another kind"
        raise ImageError(f"cannot read {name}", expected=_EXPECTED, got=got)
    coded = coded_colours(stream) if kind in ("AVIF", "HEIC") else None
    stream.seek(0)
    png = take_apart(stream, most=most) if kind == "PNG" else None
    with _quiet():
        opened = _heic(stream, name, most) if kind == "HEIC" else _pillow(png.pixels if png else stream, kind, name)
    if png is not None:
        opened.info.update(png.info)
        opened.info[_PARTS] = png.colour
    elif coded and not opened.info.get("icc_profile"):
        opened.info[_PARTS] = {"cICP": coded}
    _refuse_large(opened.size, name, most)
    return opened


def _refuse_large(size: tuple[int, int], name: str, most: int) -> None:
    if size[0] * size[1] > most:
        raise ImageError(f"{name} is too large", expected=f"at most {most:,} pixels", got=f"{size[0]}x{size[1]}")


def _pillow(stream: IO[bytes], kind: str, name: str) -> Image.Image:
    if kind == "AVIF" and not features.check("avif"):
        got = f"Pillow {PIL.__version__}, which has none"
        raise ImageError(
            f"cannot read {name}", expected="Pillow with AVIF", got=got, next_step="pip install --upgrade 'pillow>=11.3'"
        )
    # Without the kind Pillow tries every format it knows, and hands what looks like EPS to Ghostscript.
    return Image.open(stream, formats=[kind])


def _heic(stream: IO[bytes], name: str, most: int) -> Image.Image:
    try:
        from pillow_heif import open_heif
    except ImportError as cause:
        raise ImageError(
            f"cannot read {name}", expected=_EXPECTED, got=f"HEIC ({GET_HEIC} reads it)", next_step=GET_HEIC
        ) from cause
    found = open_heif(stream)
    _refuse_large(found.size, name, most)  # what follows decodes it
    opened: Image.Image = found.to_pillow()  # turned upright, and its colors as its profile has them
    return opened


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
        return _upright_rgb(picture, _IN_MEMORY)
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
    # The long part, which threads do side by side; but of a TIFF Pillow reads EXIF only now, and warns of what is odd in it.
    with _quiet() if image.format == "TIFF" else nullcontext():
        image.load()
    turn = _TURNS.get(_orientation(image))
    rgb = _to_rgb(image, name)
    return np.asarray(rgb if turn is None else rgb.transpose(turn))


def _orientation(image: Image.Image) -> Any:
    """What EXIF or XMP says, 1 to 8; 1 where it cannot be understood."""
    try:
        with _quiet():
            return image.getexif().get(0x0112, 1)
    except Exception:  # whatever a parser stumbles over; nothing in EXIF makes a picture unusable
        return 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Pillow's warnings about odd metadata to itself; filters are the whole process's, so one thread at a time."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _in_srgb(_eight_bits(image, name), image.info, name)
    if image.mode not in _ALPHA and "transparency" not in image.info:
        colour = image if image.mode in ("RGB", "L", "CMYK", "LAB") else image.convert("L" if image.mode == "1" else "RGB")
        return _in_srgb(colour, image.info, name)
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    rgb = _in_srgb(image.convert("L") if image.mode in ("LA", "La") else rgba.convert("RGB"), image.info, name)
    # Where alpha is 0 everywhere, it is a fourth byte that nobody uses.
    if alpha.getextrema() == (0, 0) and image.mode in _ALPHA:
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def _in_srgb(colour: Image.Image, info: Mapping[Any, Any], name: str) -> Image.Image:
    """An RGB picture of one in RGB, L, CMYK or LAB, by what stands beside its pixels."""
    try:
        parts, profile = info.get(_PARTS), info.get("icc_profile")
        if parts is None and not isinstance(profile, bytes | None):
            profile = b""  # a TIFF's tag of another type
        return in_srgb(colour, profile if parts is None else described(parts))
    except ValueError as cause:
        _warn(name, f"the color profile cannot be used ({cause}), so its colors are taken as sRGB")
        return in_srgb(colour, None)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """A grey picture of more than 8 bits, in 8: white is the largest number of its bits, whatever its values are."""
    tags = getattr(image, "tag_v2", {})
    # Pillow scales every PGM to 65535, and before Pillow 12 opened a 16-bit PNG as "I".
    if not image.mode.startswith("I;16") and image.format not in ("PNG", "PPM"):
        raise ImageError(
            f"cannot use {name}",
            expected="8 or 16 bits a channel, without a sign",
            got=f"mode {image.mode}: nothing says which value is white",
            next_step=_CONVERT,
        )
    values = np.asarray(image)
    white = 4095 if tags.get(_BITS) == (12,) else 65535
    low, high = int(values.min()), int(values.max())
    if (high - low) * _FLAT < white and values.size > 1:
        _warn(name, f"its values are {low} to {high} of {white}, so that it is nearly one gray; {_CONVERT}")
    if tags.get(_PHOTOMETRIC) == 0:  # white is 0; Pillow inverts up to 8 bits
        values = white - values
    return Image.fromarray((values // (257 if white == 65535 else 16)).astype(np.uint8))


def _warn(name: str, what: str) -> None:
    """Once for each file; of pictures in memory, such as a camera's, once for each thing to say."""
    (_log.warning if name != _IN_MEMORY else _warn_once)(f"{name}: {what}")


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    _log.warning(text)


def check_picture(image_rgb: NDArray[np.uint8]) -> None:
    """Refuses an array that is no picture.

    Raises:
        ImageError: not uint8 (H, W, 3), or without a pixel.
    """
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or 0 in image_rgb.shape:
        raise ImageError("not an RGB picture", expected="uint8 (H, W, 3)", got=f"{image_rgb.dtype} {image_rgb.shape}")
