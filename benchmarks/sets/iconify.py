"""Reads files from npm packages, fetched once into a cache folder, and collections of SVG in Iconify's JSON form."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.errors import DataError

_DEFAULTS = {"left": 0, "top": 0, "width": 16, "height": 16}  # of Iconify's form


def read_bytes(package: str, version: str, member: str, cache: Path) -> bytes:
    """A file of a published package.

    Raises:
        DataError: npm is absent or cannot fetch the package, or the package lacks the file.
    """
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not archive.exists():
        command = ["npm", "pack", "--silent", f"{package}@{version}", "--pack-destination", str(cache)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as cause:
            got = getattr(cause, "stderr", "") or str(cause)
            raise DataError(f"cannot fetch {package}", expected="npm and a registry", got=got.strip()[-300:]) from cause
    try:
        with tarfile.open(archive) as content:
            file = content.extractfile(f"package/{member}")
            if file is None:
                raise KeyError(member)
            return file.read()
    except (OSError, KeyError, tarfile.TarError) as cause:
        raise DataError(f"cannot read {member} of {archive}", got=str(cause), next_step=f"remove {archive}") from cause


def read_member(package: str, version: str, member: str, cache: Path) -> Any:
    """A JSON file of a published package; see `read_bytes` for errors."""
    try:
        return json.loads(read_bytes(package, version, member, cache))
    except ValueError as cause:
        raise DataError(f"cannot read {member} of {package}", expected="JSON", got=str(cause)) from cause


def read_icons(collection: str, version: str, cache: Path) -> dict[str, str]:
    """The icons of a collection and their plain aliases: name -> SVG document; see `read_member` for errors."""
    content = read_member(f"@iconify-json/{collection}", version, "icons.json", cache)
    icons = {}
    for name, icon in content["icons"].items():
        left, top, width, height = (icon.get(k, content.get(k, d)) for k, d in _DEFAULTS.items())
        icons[name] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
            f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )
    plain = {name: alias["parent"] for name, alias in content.get("aliases", {}).items() if set(alias) == {"parent"}}
    return icons | {name: icons[parent] for name, parent in plain.items() if parent in icons}


def render(svg: str, side: int) -> NDArray[np.uint8]:
    """Rasterises an icon.

    Returns:
        uint8 (side, side, 4) RGBA.

    Raises:
        DataError: the rasteriser is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as cause:
        next_step = "pip install --group study"
        raise DataError("no rasteriser", expected="the package resvg-py", got="none", next_step=next_step) from cause

    drawn = svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(drawn)).convert("RGBA"))
