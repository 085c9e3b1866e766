"""Reads files from Debian packages, fetched once into a cache folder with apt-get; nothing is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.errors import DataError
from sp_edge.folders import atomic_folder


def unpacked(package: str, cache: Path) -> Path:
    """The folder that holds the files of a package, as they lie under /.

    Raises:
        DataError: apt-get cannot fetch the package, or dpkg-deb cannot unpack it.
    """
    folder = cache / package
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as fresh:
        _run(package, "apt-get", "download", package, cwd=fresh)
        (archive,) = fresh.glob("*.deb")
        _run(package, "dpkg-deb", "--extract", str(archive), str(fresh), cwd=fresh)
        archive.unlink()
    return folder


def read_picture(file: Path, mode: str) -> NDArray[np.uint8]:
    """A picture of a package in a mode of Pillow's: uint8 (H, W, channels).

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(mode))
    except OSError as cause:
        raise DataError(f"cannot read {file}", expected="a picture of the package", got=str(cause)) from cause


def _run(package: str, *command: str, cwd: Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as cause:
        got = getattr(cause, "stderr", "") or str(cause)
        raise DataError(
            f"cannot fetch {package}", expected="apt-get, dpkg-deb and Debian's packages", got=got.strip()[-300:]
        ) from cause
