"""Gathers photographs of named things, two or more of each, from the pictures of GCompris.

    python benchmarks/sets/gcompris.py /tmp/gcompris

They come from Debian's gcompris-qt-data 3.1 (GPL, Creative Commons and public domain, as its copyright file says); none of them
is committed. Many names are buildings and tools that ImageNet does not have. Most classes are small, the largest are fish and
windmills.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image

from compose import CACHE
from debian import unpacked
from sp_edge.errors import DataError, SpEdgeError
from sp_edge.folders import atomic_folder

PACKAGE = ("gcompris-qt-data", "usr/share/gcompris-qt/rcc")
COMPRESSED, FOLDER, ZSTD = 1, 2, 4  # flags of a Qt resource

# Name -> archive and files of it.
THINGS: Mapping[str, tuple[str, ...]] = {
    "fish": tuple(f"categorization/fish{i}" for i in range(1, 29)),
    "windmill": (
        "details/FanoeWindmill_background",
        "categorization/windmill",
        *(f"categorization/windmill{i}" for i in (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 14, 15)),
    ),
    "solar panel": tuple(f"categorization/solar{i}" for i in range(4, 9)),
    "solar cooker": tuple(f"categorization/solar{i}" for i in (1, 2, 3)),
    "dam": tuple(f"categorization/dam{i}" for i in range(1, 6)),
    "hammer": tuple(f"categorization/hammer{i}" for i in range(3, 8)),
    "measuring tape": tuple(f"categorization/measuringTape{i}" for i in (1, 2, 3, 5, 6)),
    "pliers": ("categorization/cuttingTool", "categorization/sideCutter1", *(f"categorization/plier{i}" for i in (1, 3, 4))),
    "scissors": tuple(f"categorization/scissors{i}" for i in range(1, 5)),
    "multimeter": tuple(f"categorization/multimeter{i}" for i in (1, 2, 3)),
    "screwdriver": ("categorization/screwDriver", "categorization/screwDriver1"),
    "tweezers": ("categorization/tweezer", "categorization/tweezer1"),
    "pyramid": (
        "details/GizahPyramids_background",
        *(f"explore_monuments/{one}Pyramid" for one in ("bent", "meidum", "red")),
        "explore_monuments/greatPyramidOfGiza",
    ),
    "castle": (
        *(f"details/{one}_background" for one in ("EgeskovSlotSpejling", "EilanDonanCastle", "Neuschwanstein")),
        *(f"explore_monuments/{one}" for one in ("citedeCarcassonne", "schwerinPalace", "chateaudeChambord")),
    ),
    "cathedral": (
        "categorization/cathedral",
        *(f"explore_monuments/{one}Cathedral" for one in ("berlin", "reims", "worms")),
    ),
    "Eiffel Tower": ("categorization/eiffelTower", "details/TourEiffel_background", "explore_monuments/eiffelTower"),
    "Taj Mahal": ("categorization/tajMahal", "details/TajMahal_background", "explore_monuments/tajMahal"),
    "Christ the Redeemer": ("categorization/christTheRedeemer", "explore_monuments/christTheRedeemer"),
    "Statue of Liberty": ("categorization/statueOfLiberty", "explore_monuments/statueofLiberty"),
    "Mount Rushmore": ("categorization/mountRushmore", "explore_monuments/mountRushmore"),
    "Great Wall of China": ("categorization/greatWall", "explore_monuments/greatWallofChina"),
    "Qutub Minar": ("categorization/kutubMinar", "explore_monuments/qutubMinar"),
    "Sydney Opera House": ("categorization/operaHouse", "details/OperaSidney_background"),
    "Louvre": ("categorization/leMusee", "details/Louvre_2007_02_24_c_background"),
    "Chenonceau": ("details/Chenonceau_background", "explore_monuments/chateaudeChenonceau"),
    "giraffe": ("erase/giraffe", "explore_world_animals/giraffe"),
    "horse": ("erase/horse", "explore_farm_animals/horse"),
    "chameleon": ("erase/chamaeleon", "explore_world_animals/chameleon"),
    "cat": ("erase/kitten", "explore_farm_animals/cat"),
    "cow": ("erase/calf", "explore_farm_animals/cow"),
    "monkey": ("erase/long_nosed_monkey", "erase/macaque"),
}


def resources(file: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a Qt resource archive: name without folders, and content.

    Raises:
        DataError: not such an archive, or one with another compression than zlib's.
    """
    try:
        content = file.read_bytes()
        magic, version, tree, data, names = struct.unpack_from(">4s4I", content)
        if magic != b"qres":
            raise DataError(f"cannot read {file}", expected="a Qt resource archive", got=repr(magic))
        yield from _walk(content, 0, 14 if version < 2 else 22, (tree, data, names))
    except (OSError, struct.error, zlib.error) as cause:
        raise DataError(f"cannot read {file}", expected="a Qt resource archive", got=str(cause)) from cause


def _walk(content: bytes, node: int, step: int, starts: tuple[int, int, int]) -> Iterator[tuple[str, bytes]]:
    tree, data, names = starts
    name, flags, first, second = struct.unpack_from(">IHII", content, tree + node * step)
    if flags & FOLDER:
        for child in range(second, second + first):
            yield from _walk(content, child, step, starts)
        return
    if flags & ZSTD:
        raise DataError("cannot read a Qt resource", expected="zlib or no compression", got="Zstandard")
    (length,) = struct.unpack_from(">H", content, names + name)
    (size,) = struct.unpack_from(">I", content, data + second)
    packed = content[data + second + 4 : data + second + 4 + size]
    title = content[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be")
    yield title, zlib.decompress(packed[4:]) if flags & COMPRESSED else packed


def photographs(cache: Path = CACHE) -> dict[str, list[Image.Image]]:
    """RGB photographs of each name, 180 to 1920 pixels a side.

    Raises:
        DataError: the package cannot be fetched, or a photograph is not in it.
    """
    folder = unpacked(PACKAGE[0], cache) / PACKAGE[1]
    archives = {file.split("/")[0] for files in THINGS.values() for file in files}
    found = {
        f"{archive}/{Path(name).stem}": content
        for archive in sorted(archives)
        for name, content in resources(folder / f"{archive}.rcc")
        if name.endswith((".webp", ".jpg", ".png"))
    }
    missing = [file for files in THINGS.values() for file in files if file not in found]
    if missing:
        raise DataError(f"{PACKAGE[0]} lacks photographs", expected="version 3.1", got=f"none named {', '.join(missing)}")
    return {name: [Image.open(io.BytesIO(found[file])).convert("RGB") for file in files] for name, files in THINGS.items()}


def write(out: Path, *, size: int, cache: Path = CACHE) -> None:
    """Writes `out`/<name>/<index>.jpg, all or nothing; the shorter side has at most `size` pixels.

    Raises:
        DataError: `out` exists, or the package cannot be fetched.
    """
    if out.exists():
        raise DataError(f"{out} exists", expected="a folder to create", next_step="remove it or name another")
    found = photographs(cache)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as folder:
        for name, photos in found.items():
            home = folder / name.replace(" ", "_")
            home.mkdir()
            for index, photo in enumerate(photos):
                scale = min(1.0, size / min(photo.size))
                small = photo.resize([round(scale * side) for side in photo.size], Image.Resampling.LANCZOS)
                small.save(home / f"{index:03}.jpg", quality=90)
    print(f"{len(found)} names, {sum(map(len, found.values()))} photographs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--size", type=int, default=256, help="shorter side of a photograph, pixels")
    chosen = parser.parse_args()
    try:
        write(chosen.out, size=chosen.size)
    except SpEdgeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
