"""Opens the data set that the settings name."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from sp_edge.data import benchmarks, cache, scenes
from sp_edge.data.folder import FolderSource
from sp_edge.data.listing import Listing, Source
from sp_edge.data.pictures import PictureSet
from sp_edge.data.tables import read_table
from sp_edge.errors import DataError
from sp_edge.preprocess import Preprocess
from sp_edge.settings.settings import DataSettings, Settings

_log = logging.getLogger(__name__)


def preprocess_of(settings: Settings) -> Preprocess:
    """How pictures of this data set become the network's input; scenes are drawn at that size and need no margin."""
    data = settings.data
    ratio = 1.0 if data.source == "scenes" else data.resize_ratio
    return Preprocess(settings.model.image_size, ratio, data.interpolation)


def open_source(data: DataSettings) -> Source:
    """The benchmark or folder that `data.source` names; not the scenes, which are drawn.

    Raises:
        DataError: there is no such data set, or the settings about it contradict each other.
    """
    names = read_table(Path(data.names)) if data.names else {}
    if data.source in benchmarks.NAMES:
        if not data.root:
            raise DataError(
                f"{data.source} needs its pictures", expected="their folder in data.root",
                next_step="--root DIR; sp-edge data list says what it has to hold",
            )  # fmt: skip
        if data.split:
            raise DataError(f"{data.source} has a split of its own", expected="no data.split", got=data.split)
        return benchmarks.open_benchmark(data.source, Path(data.root), names)
    if data.root:
        raise DataError(
            f"{data.source} is no benchmark", expected=f"data.root only with {', '.join(benchmarks.NAMES)}", got=data.root
        )
    if not Path(data.source).is_dir():
        expected = f"scenes, {', '.join(benchmarks.NAMES)}, or a folder with train/, val/ and test/"
        raise DataError(f"no data set {data.source}", expected=expected, got="no such folder")
    split_file = Path(data.split) if data.split else None
    assigned = None if split_file is None else read_table(split_file)
    return FolderSource(Path(data.source), assigned=assigned, names=names, assigned_by=split_file)


def load_split(settings: Settings, split: str, *, preprocess: Preprocess | None = None, progress: bool = False) -> PictureSet:
    """The pictures of 'train', 'val' or 'test'.

    Args:
        settings: name the data set.
        split: which part of it.
        preprocess: of pictures that are read; the settings' own by default.
        progress: show a bar.

    Raises:
        DataError: the data set does not hold what it should, or a class has no pictures.
        ImageError: pictures that cannot be read.
    """
    data = settings.data
    if data.source == "scenes":
        count = data.per_class if split == "train" else data.test_per_class
        return scenes.draw_split(split, size=settings.model.image_size, per_class=count, seed=settings.seed, progress=progress)
    listing = open_source(data).listing(split)
    for note in listing.notes:
        _log.info(note)
    _refuse_empty(listing)
    folder = Path(data.cache) if data.cache else cache.default_folder()
    images = cache.prepared(listing, preprocess or preprocess_of(settings), folder, progress=progress)
    return PictureSet(images, listing.labels, listing.class_names, {"all": np.arange(len(images))})


def has_split(settings: Settings, split: str) -> bool:
    """Whether the data set has this split."""
    return settings.data.source == "scenes" or split in open_source(settings.data).splits


def class_names(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Class names of every split that there is, without reading a picture."""
    if settings.data.source == "scenes":
        return {split: tuple(c.name for c in classes) for split, classes in scenes.split_classes().items()}
    source = open_source(settings.data)
    return {split: source.class_names(split) for split in source.splits}


def _refuse_empty(listing: Listing) -> None:
    counts = np.bincount(listing.labels, minlength=len(listing.class_names))
    empty = [name for name, count in zip(listing.class_names, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"a class has no pictures: '{empty[0]}' in {listing.title}",
            expected="JPEG, PNG or other pictures for each class",
            got=f"{len(empty)} classes without",
        )
