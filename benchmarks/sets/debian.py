"""Reads files from Debian packages, fetched once into a cache folder with apt-get; nothing is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

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


def _run(package: str, *command: str, cwd: Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as cause:
        got = getattr(cause, "stderr", "") or str(cause)
        raise DataError(
            f"cannot fetch {package}", expected="apt-get, dpkg-deb and Debian's packages", got=got.strip()[-300:]
        ) from cause
