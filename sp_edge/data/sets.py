"""Opens the data set that the settings name."""

from __future__ import annotations

from pathlib import Path

from sp_edge.data import folder, scenes
from sp_edge.data.pictures import PictureSet
from sp_edge.preprocess import Preprocess
from sp_edge.settings import Settings


def preprocess_of(settings: Settings) -> Preprocess:
    """How pictures of this data set become the network's input; scenes are drawn at that size and need no margin."""
    ratio = 1.0 if settings.data.source == "scenes" else settings.data.resize_ratio
    return Preprocess(settings.model.image_size, ratio)


def load_split(settings: Settings, split: str, *, preprocess: Preprocess | None = None, progress: bool = False) -> PictureSet:
    """The pictures of 'train', 'val' or 'test'.

    Args:
        settings: name the data set.
        split: which part of it.
        preprocess: of a folder's pictures; the settings' own by default.
        progress: show a bar.

    Raises:
        DataError: the folder does not hold what it should.
    """
    data = settings.data
    if data.source == "scenes":
        count = data.per_class if split == "train" else data.test_per_class
        return scenes.draw_split(split, size=settings.model.image_size, per_class=count, seed=settings.seed, progress=progress)
    return folder.load_split(Path(data.source), split, preprocess or preprocess_of(settings), progress=progress)


def has_split(settings: Settings, split: str) -> bool:
    """Whether the data set has this split."""
    return settings.data.source == "scenes" or folder.has_split(Path(settings.data.source), split)


def class_names(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Class names of every split that there is, without reading a picture."""
    if settings.data.source == "scenes":
        return {split: tuple(c.name for c in classes) for split, classes in scenes.split_classes().items()}
    root = Path(settings.data.source)
    return {split: tuple(folder.class_folders(root, split)) for split in folder.SPLITS if folder.has_split(root, split)}
