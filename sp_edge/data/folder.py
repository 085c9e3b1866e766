"""Finds the classes and pictures of a data set of one's own: `train|val|test/<class>/`, or `<class>/` and a split file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sp_edge.data.listing import SPLITS, Listing
from sp_edge.errors import DataError
from sp_edge.picture_files import image_files
from sp_edge.prompts.table import clean_name


class FolderSource:
    """A user's own data set.

    Args:
        root: holds train/, val/ and test/ with one folder a class; or, with `assigned`, one folder a class.
        assigned: class folder's name -> train, val or test.
        names: class folder's name -> class name; without an entry, the class is called as its folder is.
        assigned_by: the file that assigns them, which tells this data set from others in the same folders.
    """

    def __init__(
        self,
        root: Path,
        *,
        assigned: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        assigned_by: Path | None = None,
    ) -> None:
        self.root = root
        self._assigned_by = assigned_by
        self._names = names or {}
        self._assigned = assigned
        if assigned is not None:
            _check_assigned(root, assigned)
        if names:
            self._check_names(names)

    def _check_names(self, names: Mapping[str, str]) -> None:
        """Refuses a names file that is about other folders."""
        folders = sorted({path.name for split in self.splits for path in self._paths(split)})
        if folders and not names.keys() & set(folders):
            raise DataError(
                "the names file names none of the class folders",
                expected=f"names of folders, such as {', '.join(folders[:3])}",
                got=", ".join(list(names)[:3]),
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that there are."""
        if self._assigned is None:
            return tuple(split for split in SPLITS if (self.root / split).is_dir())
        return tuple(split for split in SPLITS if split in self._assigned.values())

    def class_names(self, split: str) -> tuple[str, ...]:
        """Of one split, in the order of their folders.

        Raises:
            DataError: no such split, no classes in it, or two folders with one name.
        """
        return tuple(self._folders(split))

    def listing(self, split: str) -> Listing:
        """What one split holds.

        Raises:
            DataError: as `class_names`, or a class stands in another split, too.
        """
        folders = self._folders(split)
        for other in self.splits:
            shared = folders.keys() & self._folders(other).keys() if other != split else set()
            if shared:
                raise DataError(
                    f"a class stands in both {split}/ and {other}/",
                    expected="each class in one split",
                    got=", ".join(sorted(shared)[:5]),
                )
        by = "" if self._assigned_by is None else f" by {self._assigned_by.resolve()}"
        title = f"{split} of {self.root.resolve()}{by}"
        return Listing.of_files(title, {name: image_files(folder) for name, folder in folders.items()})

    def _folders(self, split: str) -> dict[str, Path]:
        where = self.root / split if self._assigned is None else self.root
        folders = _named(where, self._paths(split), self._names)
        if not folders:
            raise DataError(f"no classes in {where}", expected="one folder a class", got=f"none for {split}")
        return folders

    def _paths(self, split: str) -> list[Path]:
        if self._assigned is not None:
            return [self.root / name for name, chosen in sorted(self._assigned.items()) if chosen == split]
        absent = f"{self.root} has no {split}/" if self.root.is_dir() else f"no folder {self.root}"
        return _class_folders(self.root / split, absent)


def labelled(folder: Path) -> Listing:
    """The pictures of a folder that holds one folder a class: `<class>/*.jpg`.

    Raises:
        DataError: no such folder, none in it, two of one name, or one without pictures.
    """
    folders = _named(folder, _class_folders(folder, f"no folder {folder}", "a folder with one folder a class"), None)
    if not folders:
        loose = len(image_files(folder))
        raise DataError(
            f"no class folders in {folder}",
            expected=f"one folder a class, such as {folder / 'mug'}",
            got=f"{loose} pictures without a class" if loose else "none",
        )
    pictures = {name: image_files(path) for name, path in folders.items()}
    for name, files in pictures.items():
        if not files:
            deeper = any(path.is_dir() for path in folders[name].iterdir())
            raise DataError(
                f"no pictures in {folders[name]}",
                expected="one folder a class, with its pictures directly in it",
                got="folders" if deeper else "none",
                next_step=f"give {folders[name]} itself, if it holds the class folders" if deeper else "remove the folder",
            )
    return Listing.of_files(str(folder), pictures)


def _named(where: Path, paths: Sequence[Path], names: Mapping[str, str] | None) -> dict[str, Path]:
    """Class name -> folder; None where folders cannot be given other names."""
    folders: dict[str, Path] = {}
    for path in paths:
        name = clean_name((names or {}).get(path.name, path.name))
        if name in folders:
            raise DataError(
                f"two classes in {where} are called '{name}'",
                expected="distinct names",
                got=f"{folders[name].name} and {path.name}",
                next_step="rename a folder" + (", or give it another name in data.names" if names is not None else ""),
            )
        folders[name] = path
    return folders


def _class_folders(
    where: Path, absent: str, expected: str = "a folder with train/, val/ and test/, each with one folder a class"
) -> list[Path]:
    if not where.is_dir():
        raise DataError(absent, expected=expected, got="a file" if where.exists() else "nothing")
    return sorted(path for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))


def _check_assigned(root: Path, assigned: Mapping[str, str]) -> None:
    """Refuses a split file that does not say of every class folder, and of nothing else, where it belongs."""
    there = {path.name for path in _class_folders(root, f"no folder {root}")}
    wrong = sorted(set(assigned.values()) - set(SPLITS))
    if wrong:
        raise DataError("the split file names no split", expected=" | ".join(SPLITS), got=", ".join(wrong[:5]))
    for what, odd in (
        ("the split file leaves out classes", there - assigned.keys()),
        ("the split file names classes that have no folder", assigned.keys() - there),
    ):
        if odd:
            some = ", ".join(sorted(odd)[:5])
            raise DataError(what, expected=f"the folders in {root}", got=f"{len(odd)}, such as {some}")
