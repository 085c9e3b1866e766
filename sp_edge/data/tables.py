"""Reads the small files that a user writes about a data set: a word for each class folder."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from sp_edge.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HEADERS = (["class", "split"], ["class", "name"])


def read_table(path: Path) -> dict[str, str]:
    """Folder name -> word, from a file whose ending tells its form.

    .json and .toml hold one table of texts. .csv has two columns; a first line 'class,split' or 'class,name' is passed over.
    In any other file a line is a folder's name, a blank and the word: 'n01532829 house finch'.

    Raises:
        DataError: unreadable, of another form, or with a folder twice.
    """
    try:
        content = path.read_text("utf-8-sig")
        if path.suffix == ".json":
            rows = json.loads(content, object_pairs_hook=list)
        elif path.suffix == ".toml":
            rows = list(tomllib.loads(content).items())
        elif path.suffix == ".csv":
            rows = [row for row in csv.reader(content.splitlines(), strict=True) if row]
            rows = rows[1:] if rows[:1] and rows[0] in _HEADERS else rows
        else:
            rows = [line.split(maxsplit=1) for line in content.splitlines() if line.strip()]
    except (OSError, ValueError, csv.Error, RecursionError) as cause:
        raise DataError(f"cannot read {path}", expected="JSON, TOML, CSV or text in UTF-8", got=str(cause)) from cause
    table: dict[str, str] = {}
    for row in rows if isinstance(rows, list) else [rows]:
        if not isinstance(row, list | tuple) or len(row) != 2 or not all(isinstance(cell, str) for cell in row):
            raise DataError(f"{path} is not a table", expected="a folder's name and a word in each row", got=repr(row)[:200])
        folder, word = (cell.strip() for cell in row)
        if folder in table:
            raise DataError(f"{path} names a folder twice", expected="each folder once", got=folder)
        table[folder] = word
    return table
