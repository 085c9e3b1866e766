from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from sp_edge.errors import DataError
from sp_edge.photographs import photograph, photographs

FREE = {"CC0-1.0", "public domain", "no known copyright restrictions"}
NAMED = {"CC-BY-2.0"}


def test_every_photograph_is_listed_with_its_license() -> None:
    listed = photographs()
    assert [one.name for one in listed] == sorted(one.name for one in listed)
    folder = resources.files("sp_edge.photographs")
    assert {f"{one.name}.jpg" for one in listed} == {file.name for file in folder.iterdir() if file.name.endswith(".jpg")}
    for one in listed:
        assert one.license in FREE | NAMED
        assert all((one.shows, one.author, one.package))
        if one.license in NAMED:
            assert one.source


def test_they_are_photographs_of_a_small_size() -> None:
    listed = photographs()
    assert 8 <= len(listed) <= 12
    for one in listed:
        pixels = one.read()
        assert pixels.dtype == np.uint8
        assert min(pixels.shape[:2]) == 256
        assert len(one.content()) <= 20_000
        assert pixels.std() > 20


def test_one_is_found_by_its_name() -> None:
    assert photograph("cat").author == "Stefan van der Walt"
    with pytest.raises(DataError, match="dog"):
        photograph("dog")
