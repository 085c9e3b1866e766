"""The few-shot benchmarks: which classes they have, what these are called, and how the pictures lie.

Each has a TOML file here: for each split, a folder's name (or CIFAR-100's word) and the class's name.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sp_edge.data.cifar import CifarSource
from sp_edge.data.listing import SPLITS, ClassSplit, Listing, Source
from sp_edge.errors import DataError
from sp_edge.picture_files import Found, pictures_in
from sp_edge.prompts.table import clean_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = ("mini-imagenet", "tiered-imagenet", "cifar-fs", "fc100", "cub")
_FROM_CIFAR = ("cifar-fs", "fc100")
# Where the class folders may lie in the root; `{split}` is train, val or test.
_PLACES = ("{split}", ".", "images", "CUB_200_2011/images")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's facts.

    Attributes:
        title: as papers write it.
        pictures: what `data.root` has to hold.
        classes: split -> folder -> class name, sorted by folder.
    """

    title: str
    pictures: str
    classes: Mapping[str, Mapping[str, str]]


def load(name: str) -> Benchmark:
    """The facts of a benchmark in `NAMES`."""
    facts = tomllib.loads((resources.files(__name__) / f"{name}.toml").read_text("utf-8"))
    return Benchmark(facts["title"], facts["pictures"], {split: facts[split] for split in SPLITS})


def open_benchmark(name: str, root: Path, names: Mapping[str, str]) -> Source:
    """A benchmark whose pictures are in `root`; `names` (folder -> class name) go before its own.

    Raises:
        DataError: `names` give two classes one name.
    """
    facts = load(name)
    classes = {
        split: {folder: clean_name(names.get(folder, own)) for folder, own in facts.classes[split].items()} for split in SPLITS
    }
    times = Counter(word for split in SPLITS for word in classes[split].values())
    twice = sorted(word for word, count in times.items() if count > 1)
    if twice:
        raise DataError(f"two classes of {facts.title} have one name", expected="distinct names", got=", ".join(twice[:5]))
    return (CifarSource if name in _FROM_CIFAR else _ClassFolders)(facts.title, root, classes)


class _ClassFolders(ClassSplit):
    """A benchmark of picture files: one folder a class, or csv files that list each split's pictures."""

    def listing(self, split: str) -> Listing:
        """What one split holds.

        Raises:
            DataError: a class or a listed picture is not there.
        """
        classes = self._classes[split]
        tables = [path for folder in (".", "split") if (path := self._root / folder / f"{split}.csv").is_file()]
        files = self._listed(tables[0], classes) if tables else self._in_folders(split, classes)
        title = f"{split} of {self._title} in {self._root.resolve()}"
        return Listing.of_found(title, self._root, {name: files[folder] for folder, name in classes.items()})

    def _in_folders(self, split: str, classes: Mapping[str, str]) -> dict[str, Found]:
        places = [self._root / place.format(split=split) for place in _PLACES]
        missing = {place: [folder for folder in classes if not (place / folder).is_dir()] for place in places}
        best = min(places, key=lambda place: len(missing[place]))
        if missing[best]:
            raise DataError(
                f"{len(missing[best])} of the {len(classes)} {split} classes of {self._title} are not in {self._root}",
                expected=f"a folder for each, directly in it or under {split}/ or images/",
                got=f"no {', '.join(missing[best][:5])}",
                next_step="sp-edge data list says what the folder has to hold",
            )
        return {folder: pictures_in(best / folder) for folder in classes}

    def _listed(self, table: Path, classes: Mapping[str, str]) -> dict[str, Found]:
        """The pictures that a csv lists by `filename,label` (Ravi and Larochelle) or `class_name,image_name` (easyfsl)."""
        try:
            with table.open(encoding="utf-8-sig", newline="") as content:
                rows = list(csv.DictReader(content, strict=True))
        except (OSError, ValueError, csv.Error) as cause:
            raise DataError(f"cannot read {table}", expected="a csv file", got=str(cause)) from cause
        for file, label in (("filename", "label"), ("image_name", "class_name")):
            pairs = [(row[file], row[label]) for row in rows if row.get(file) and row.get(label)]
            if pairs:
                break
        labels = {label for _, label in pairs}
        if len(pairs) < len(rows) or labels != set(classes):
            odd = sorted(labels ^ set(classes))
            raise DataError(
                f"{table} does not list {self._title}'s split",
                expected=f"columns filename and label, with {len(classes)} classes",
                got=f"{len(labels)} classes" + (f"; they differ in {', '.join(odd[:3])}" if odd else ", and lines without one"),
            )
        # Folders and pictures are often links to a copy of ImageNet elsewhere: it is the names that must not lead out.
        astray = [name for name, _ in pairs if Path(name).is_absolute() or ".." in Path(name).parts]
        if astray:
            raise DataError("a file name leads out of its folder", expected=f"names within {self._root}", got=repr(astray[0]))
        forms = ("images/{0}", "images/{1}/{0}", "{1}/{0}", "{0}")
        form = next((form for form in forms if (self._root / form.format(*pairs[0])).is_file()), forms[0])
        files: dict[str, list[Path]] = {folder: [] for folder in classes}
        for name, label in pairs:
            files[label].append(self._root / form.format(name, label))
        return {folder: Found(tuple(listed)) for folder, listed in files.items()}
