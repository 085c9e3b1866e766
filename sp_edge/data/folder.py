"""Reads a data set from folders: `train|val|test/<class>/<picture>`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError
from sp_edge.preprocess import Preprocess, image_files, load_image
from sp_edge.prompts import clean_name

SPLITS = ("train", "val", "test")


def has_split(root: Path, split: str) -> bool:
    """Whether the data set has this split."""
    return (root / split).is_dir()


def class_folders(root: Path, split: str) -> dict[str, Path]:
    """Class name -> folder, of one split, sorted by name; the folder's name is the class's ('polar_bear': 'polar bear').

    Raises:
        DataError: no such folder, no classes in it, or two folders with one name.
    """
    where = root / split
    if not where.is_dir():
        expected = "a folder with train/, val/ and test/, each with one folder a class"
        raise DataError(f"no folder {where}", expected=expected, got="nothing" if not root.exists() else f"{root}")
    folders: dict[str, Path] = {}
    for folder in sorted(p for p in where.iterdir() if p.is_dir() and not p.name.startswith(".")):
        name = clean_name(folder.name)
        if name in folders:
            raise DataError(f"two classes in {where} are called '{name}'", got=f"{folders[name].name} and {folder.name}")
        folders[name] = folder
    if not folders:
        raise DataError(f"no classes in {where}", expected="one folder a class", got="no folders")
    return folders


def load_split(root: Path, split: str, preprocess: Preprocess, *, progress: bool = False) -> PictureSet:
    """Reads and preprocesses every picture of a split into memory; all pictures form one group, 'all'.

    Raises:
        DataError: as `class_folders`, or a class without pictures, or a class that stands in another split too.
        ImageError: a picture that cannot be read.
    """
    folders = class_folders(root, split)
    for other in SPLITS:
        shared = set(folders) & set(class_folders(root, other)) if other != split and has_split(root, other) else set()
        if shared:
            raise DataError(
                f"a class stands in both {split}/ and {other}/",
                expected="each class in one split",
                got=", ".join(sorted(shared)[:5]),
            )
    files = [image_files(folder) for folder in folders.values()]
    for folder, pictures in zip(folders.values(), files, strict=True):
        if not pictures:
            raise DataError(f"the class {folder} has no pictures", expected="JPEG, PNG or other pictures", got="none")
    everything = [picture for pictures in files for picture in pictures]
    images = np.empty((len(everything), preprocess.image_size, preprocess.image_size, 3), np.uint8)
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda picture: preprocess(load_image(picture)), everything)
        for row, image in enumerate(tqdm(decoded, f"reading {split}", len(everything), disable=not progress, leave=False)):
            images[row] = image
    labels = np.repeat(np.arange(len(folders)), [len(pictures) for pictures in files])
    return PictureSet(images, labels, tuple(folders), {"all": np.arange(len(images))})
