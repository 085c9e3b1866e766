"""Loads a study's pictures by the name of their set."""

from __future__ import annotations

import dataclasses
import importlib

from sp_edge.data import sets
from sp_edge.data.pictures import PictureSet
from sp_edge.settings.settings import Settings

SETS = ("scenes", "emoji", "icons", "characters")
PER_CLASS = {"train": 24, "val": 20, "test": 20}


def load_set(name: str, split: str, settings: Settings, per_class: int | None = None) -> PictureSet:
    """The pictures of a split ('train', 'val' or 'test'), the same ones whatever the settings' seed is.

    Args:
        name: one of `SETS`; the scenes have as many pictures a class as the settings say.
        per_class: pictures a class and group of the other sets; `PER_CLASS` by default.
    """
    if name == "scenes":
        return sets.load_split(dataclasses.replace(settings, seed=0), split, progress=True)
    count = PER_CLASS[split] if per_class is None else per_class
    pictures: PictureSet = importlib.import_module(name).build(split, settings.model.image_size, count)
    return pictures
