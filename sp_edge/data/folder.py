"""Finds the classes and pictures of a data set of one's own: `train|val|test/<class>/`, or `<class>/` and a split file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sp_edge.data.listing import SPLITS, Listing
from sp_edge.errors import DataError
from sp_edge.picture_files import Found, pictures_in, pictures_of_class
from sp_edge.prompts.table import clean_name

# What a split's folder may be called instead.
_ALSO = {"val": ("valid", "validation")}


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
            return tuple(split for split in SPLITS if self._place(split).is_dir())
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
        return Listing.of_found(title, self._place(split), _found(folders, most=1), self._notes(split))

    def _place(self, split: str) -> Path:
        """Where the classes of a split stand.

        Raises:
            DataError: two folders may be meant.
        """
        if self._assigned is not None:
            return self.root
        places = [self.root / name for name in (split, *_ALSO.get(split, ())) if (self.root / name).is_dir()]
        if len({place.resolve() for place in places}) > 1:
            raise DataError(
                f"two folders in {self.root} may be {split}/",
                expected="one of them",
                got=", ".join(f"{place.name}/" for place in places),
                next_step="remove or rename one",
            )
        return places[0] if places else self.root / split

    def _notes(self, split: str) -> list[str]:
        """What the user should know of a split's folder."""
        if self._assigned is not None:
            return []
        place = self._place(split)
        notes = [f"{place} is taken for {split}/"] if place.name != split else []
        if split == self.splits[0]:
            known = {self._place(each).name for each in SPLITS}
            beside = [folder.name for folder in _class_folders(self.root, "") if folder.name not in known]
            notes += [f"not read in {self.root}: {', '.join(f'{name}/' for name in beside)}"] if beside else []
        return notes

    def _folders(self, split: str) -> dict[str, Path]:
        where = self._place(split)
        folders = _named(where, self._paths(split), self._names)
        if not folders:
            raise DataError(f"no classes in {where}", expected="one folder a class", got=f"none for {split}")
        return folders

    def _paths(self, split: str) -> list[Path]:
        if self._assigned is not None:
            return [self.root / name for name, chosen in sorted(self._assigned.items()) if chosen == split]
        absent = f"{self.root} has no {split}/" if self.root.is_dir() else f"no folder {self.root}"
        return _class_folders(self._place(split), absent)


def _found(folders: Mapping[str, Path], *, most: int) -> dict[str, Found]:
    """Class name -> its pictures; `most` as in `pictures_of_class`."""
    return {
        name: pictures_of_class(folder, f"give {folder} itself, if it holds the class folders", most=most)
        for name, folder in folders.items()
    }


def labelled(folder: Path) -> Listing:
    """The pictures of a folder that holds one folder a class: `<class>/*.jpg`.

    Raises:
        DataError: no such folder, none in it, two of one name, or one without pictures.
    """
    folders = _named(folder, _class_folders(folder, f"no folder {folder}", "a folder with one folder a class"), None)
    if not folders:
        loose = len(pictures_in(folder, deep=False).files)
        raise DataError(
            f"no class folders in {folder}",
            expected=f"one folder a class, such as {folder / 'mug'}",
            got=f"{loose} pictures without a class" if loose else "none",
        )
    found = _found(folders, most=0)  # what is called 'train' or 'test' is a class only if pictures lie in it
    for name, one in found.items():
        if not one.files:
            raise DataError(
                f"no pictures in {folders[name]}",
                expected="one folder a class, with its pictures",
                got=one.told("in it") or "none",
                next_step="remove the folder",
            )
    return Listing.of_found(str(folder), folder, found)


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
