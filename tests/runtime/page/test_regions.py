from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import toy
from page_site import Answer, Site
from sp_edge.errors import SettingsError
from sp_edge.view import Region
from sp_edge_runtime.page.regions import Regions, regions_file
from threads import until

HALF = Region(0.5, 0, 0.5, 1)


def show_red_and_blue(site: Site) -> None:
    """Teaches both, and shows them side by side."""
    red, blue = toy.picture("red", side=64), toy.picture("blue", side=64)
    site.sources[0].image = np.concatenate([red, blue], axis=1)
    site.recognizer.enroll("red", red)
    site.recognizer.enroll("blue", blue)
    until(lambda: site.get("/api/sources").json[0]["size"] == [128, 64])


def test_a_region_counts_from_the_next_frame_on(site: Site) -> None:
    show_red_and_blue(site)
    assert site.get("/api/sources").json[0]["region"] is None
    for region, label in (([0, 0, 0.5, 1], "red"), ([0.5, 0, 0.5, 1], "blue")):
        assert site.ask("PUT", "/api/sources/0/region", {"region": region}).status == 200
        site.until_label(label)
    assert site.get("/api/sources").json[0]["region"] == str(HALF)
    x, y, width, height = site.get("/api/sources/0/result").json["view"]
    assert x >= 64
    assert (y + height, x + width) <= (64, 128)
    assert site.ask("PUT", "/api/sources/0/region", {"region": None}).status == 200
    until(lambda: site.get("/api/sources/0/result").json["view"][0] < 64)


@pytest.mark.parametrize("region", [[0, 0, 0, 1], [0.6, 0, 0.6, 1], [0, 0, 2, 2], [0, 0, 1], "all", [None] * 4])
def test_what_is_no_part_of_a_picture_is_refused(site: Site, region: object) -> None:
    assert site.ask("PUT", "/api/sources/0/region", {"region": region}).status == 422
    assert site.ask("PUT", "/api/sources/7/region", {"region": None}).status == 404


def test_boxes_of_another_program_are_recognized(site: Site) -> None:
    show_red_and_blue(site)

    def answer(boxes: list[list[float]]) -> Answer:
        found = site.ask("POST", "/api/sources/0/boxes", {"boxes": boxes})
        while found.status == 429:
            found = site.ask("POST", "/api/sources/0/boxes", {"boxes": boxes})
        return found

    assert [one["label"] for one in answer([[0.5, 0, 0.5, 1], [0, 0, 64, 64]]).json] == ["blue", "red"]
    for refused in ([[0, 0, 640, 64]], [], [[1, 2, 3]], [[0.5, 0.5, 0.9, 0.9]], [[1e30] * 4]):
        assert answer(refused).status == 422


def test_regions_are_kept_beside_the_bank(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    first = Regions(["door", "yard"], [None, None], file)
    first.set(1, HALF)
    assert first.now == [None, HALF]
    again = Regions(["yard", "other"], [None, None], file)
    assert again.now == [HALF, None]
    again.set(1, Region(0, 0, 1, 0.5))
    again.set(0, None)
    assert Regions(["door", "yard", "other"], [HALF, None, None], file).now == [HALF, None, Region(0, 0, 1, 0.5)]
    file.write_text("{")
    assert Regions(["yard"], [None], file).now == [None]
    assert len(log.messages) == 1


def test_a_region_that_cannot_be_kept_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    regions = Regions(["door"], [None], tmp_path / "file" / "regions.json")
    with pytest.raises(SettingsError, match="cannot be kept"):
        regions.set(0, HALF)
    assert regions.now == [None]
