from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sp_edge_export.engines.cache import cache_path, read_cache, write_cache
from toy_plans import DEVICE


def test_each_device_and_version_has_its_own(tmp_path: Path) -> None:
    rtx = replace(DEVICE, flavour="tensorrt_rtx")
    devices = [
        (DEVICE, ()),
        (replace(DEVICE, version="10.16"), ()),
        (replace(DEVICE, gpu="Thor"), ()),
        (rtx, ()),
        (rtx, ("8.6",)),
    ]
    assert len({cache_path(tmp_path, device, targets) for device, targets in devices}) == len(devices)


def test_a_cache_comes_back_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "timing" / "a.cache"
    assert read_cache(path) == (b"", "")
    for content in (b"measured", b"", b"measured more"):
        write_cache(path, content)
        assert read_cache(path) == (content, "")
    assert [p.name for p in path.parent.iterdir()] == ["a.cache"]


@given(at=st.integers(0, 71), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_bit_counts(tmp_path: Path, at: int, bit: int) -> None:
    path = tmp_path / "a.cache"
    write_cache(path, b"measured")
    content = bytearray(path.read_bytes())
    assert len(content) == 72
    content[at] ^= 1 << bit
    path.write_bytes(content)
    blob, why = read_cache(path)
    assert blob == b""
    assert "damaged" in why
    path.write_bytes(content[:at])
    assert read_cache(path)[0] == b""


def test_a_cache_that_cannot_be_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "a.cache").mkdir()
    blob, why = read_cache(tmp_path / "a.cache")
    assert blob == b""
    assert "cannot be read" in why


@pytest.mark.parametrize("size", [0, 10, 63])
def test_a_cache_cut_off_within_its_digest(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.cache"
    write_cache(path, b"measured")
    path.write_bytes(path.read_bytes()[:size])
    assert "damaged" in read_cache(path)[1]
