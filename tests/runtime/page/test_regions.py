from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toy
from page_site import Answer, Opened, Showing, Site
from sp_edge.errors import SettingsError, SourceError
from sp_edge.view import Region
from sp_edge_runtime.page.regions import Regions, regions_file
from sp_edge_runtime.page.watch import Watch
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.parts import MOST, NamedRegion, Part, parts_of
from sp_edge_runtime.streams.result import FrameResult
from threads import until

HALF, TOP, WHOLE = Region(0.5, 0, 0.5, 1), Region(0, 0, 1, 0.5), Region(0, 0, 1, 1)


def regions(
    sources: list[str], own: Sequence[Region] = (), named: Sequence[NamedRegion] = (), file: Path | None = None
) -> Regions:
    return Regions(parts_of(sources, own, named), len(sources), file)


def looked_at(regions: Regions) -> dict[str, Region | None]:
    return {one.name: one.region for one in regions.parts.values()}


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


def test_a_named_region_is_a_source_of_its_own(site: Site) -> None:
    show_red_and_blue(site)
    site.ask("PUT", "/api/sources/0/region", {"region": [0, 0, 0.5, 1]})
    added = site.ask("POST", "/api/sources/0/regions", {"name": " right half ", "region": [0.5, 0, 0.5, 1]})
    assert (added.status, added.json) == (200, {"id": 1})
    site.until_label("red", 0)
    site.until_label("blue", 1)
    whole, part = site.get("/api/sources").json
    assert (part["id"], part["of"], part["name"], part["region"]) == (1, 0, "right half", str(HALF))
    assert (whole["of"], part["size"], part["state"]) == (None, [128, 64], "running")
    assert site.get("/api/sources/1/result").json["source"] == "right half"
    assert site.get("/api/sources/1/frame.jpg").status == 200
    assert site.get("/health").json == {"healthy": True, "sources": ["running", "running"]}
    metrics = site.get("/metrics").body.decode()
    assert 'sp_edge_labels_total{label="blue",source="right half"}' in metrics
    assert metrics.count("sp_edge_source_restarts_total{") == 1, "a camera is lost once"
    assert site.ask("POST", "/api/teach", {"name": "blue", "source": 1, "force": True}).status == 200
    assert len(site.sources) == 1, "the camera is read once"


def test_a_named_region_is_renamed_drawn_anew_and_removed(site: Site) -> None:
    show_red_and_blue(site)
    site.ask("POST", "/api/sources/0/regions", {"name": "part", "region": [0.5, 0, 0.5, 1]})
    site.until_label("blue", 1)
    assert site.ask("PATCH", "/api/sources/1", {"name": "left"}).status == 200
    assert site.ask("PUT", "/api/sources/1/region", {"region": [0, 0, 0.5, 1]}).status == 200
    site.until_label("red", 1)
    until(lambda: site.get("/api/sources/1/result").json["source"] == "left")
    assert site.ask("PUT", "/api/sources/1/region", {"region": None}).status == 422
    assert site.ask("POST", "/api/sources/0/regions", {"name": "left", "region": [0, 0, 1, 1]}).status == 422
    assert site.ask("POST", "/api/sources/0/regions", {"name": "x", "region": [0, 0, 0, 1]}).status == 422
    for method in ("PATCH", "DELETE"):
        assert site.ask(method, "/api/sources/0", {"name": "other"}).status == 422, "a source itself"
    assert site.ask("DELETE", "/api/sources/1").status == 200
    assert site.ask("DELETE", "/api/sources/1").status == 404
    assert site.get("/api/sources/1/result").status == 404
    assert [one["name"] for one in site.get("/api/sources").json] == ["camera"]
    seen = site.number()
    until(lambda: site.number() > seen + 3)
    assert site.get("/health").status == 200


@pytest.mark.parametrize("number", [0, 1])
def test_what_was_seen_before_a_part_was_drawn_anew_is_not_taught(number: int) -> None:
    parts = {0: Part("camera", 0), 1: Part("part", 0, TOP)}
    watched = Watch([Showing()])
    watched.follow(parts)

    def see(region: Region | None) -> Prediction:
        seen = Prediction("red", "red", 1.0, 1.0, 1.0, (), 0, {}, 1)
        frame = VideoFrame(toy.picture("red"), 0, 0.0)
        watched.write(FrameResult(frame, seen, 0.0, source=parts[number].name, region=region))
        return seen

    def held() -> list[Prediction]:
        return watched.held(watched.sources[number], 3.0)

    before = see(parts[number].region)
    assert held() == [before]
    watched.follow({**parts, number: replace(parts[number], region=HALF)})
    assert held() == []
    see(parts[number].region)
    assert held() == [], "it was being recognized when the part was drawn anew"
    after = see(HALF)
    assert held() == [after]


def test_a_region_of_a_source_that_is_lost_says_so(site: Site) -> None:
    site.sources[0].failure = SourceError("unplugged")
    until(lambda: site.get("/api/sources").json[0]["state"] in ("error", "ended"))
    site.ask("POST", "/api/sources/0/regions", {"name": "part", "region": [0.5, 0, 0.5, 1]})
    whole, part = site.get("/api/sources").json
    assert part["state"] == whole["state"]


@pytest.mark.parametrize("region", [[0, 0, 0, 1], [0.6, 0, 0.6, 1], [0, 0, 2, 2], [0, 0, 1], "all", [None] * 4])
def test_what_is_no_part_of_a_picture_is_refused(site: Site, region: object) -> None:
    assert site.ask("PUT", "/api/sources/0/region", {"region": region}).status == 422
    assert site.ask("PUT", "/api/sources/7/region", {"region": None}).status == 404


def test_boxes_of_another_program_are_recognized(site: Site) -> None:
    show_red_and_blue(site)

    def answer(boxes: list[list[float]]) -> Answer:
        return site.patiently("POST", "/api/sources/0/boxes", {"boxes": boxes})

    assert [one["label"] for one in answer([[0.5, 0, 0.5, 1], [0, 0, 64, 64]]).json] == ["blue", "red"]
    for refused in ([[0, 0, 640, 64]], [], [[1, 2, 3]], [[0.5, 0.5, 0.9, 0.9]], [[1e30] * 4]):
        assert answer(refused).status == 422


def test_regions_are_kept_beside_the_bank(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    first = regions(["door", "yard"], file=file)
    first.set(1, HALF)
    assert looked_at(first) == {"door": None, "yard": HALF}
    again = regions(["yard", "other"], file=file)
    assert looked_at(again) == {"yard": HALF, "other": None}
    again.set(1, TOP)
    again.set(0, None)
    assert looked_at(regions(["door", "yard", "other"], [HALF, WHOLE, WHOLE], file=file))["door"] == HALF
    assert looked_at(regions(["door", "yard", "other"], file=file)) == {"door": None, "yard": None, "other": TOP}
    for damaged in (
        "{",
        "7",
        '{"yard": 7}',
        '{"yard": {"region": "0,0,1,1"}}',
        '{"gate": {"source": 7, "region": "0,0,1,1"}}',
    ):
        log.clear()
        file.write_text(damaged)
        assert looked_at(regions(["yard"], file=file)) == {"yard": None}
        assert len(log.messages) == 1


def test_a_file_of_one_region_a_source_stays_readable(tmp_path: Path) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    file.write_text('{"yard": "0.5,0,0.5,1"}')
    assert looked_at(regions(["yard"], file=file)) == {"yard": HALF}


def test_regions_of_two_cameras_may_have_one_name(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    regions(["yard"], file=file).add(0, "left", HALF)
    regions(["hall"], file=file).add(0, "left", TOP)
    regions(["left"], file=file).set(0, WHOLE)
    assert looked_at(regions(["yard"], file=file)) == {"yard": None, "left": HALF}
    assert looked_at(regions(["hall"], file=file)) == {"hall": None, "left": TOP}
    assert looked_at(regions(["left"], file=file)) == {"left": WHOLE}
    assert log.messages == []
    assert looked_at(regions(["hall", "yard"], file=file)) == {"hall": None, "yard": None, "left": HALF}
    assert len(log.messages) == 1, "the other is passed over"


def test_what_cannot_be_used_is_passed_over_and_stays_in_the_file(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    of_yard = '{"source": "yard", "region": "0,0,0.5,2"}'
    for content in (
        f'{{"yard": "0,0,1,0.5", "gate": {of_yard}, "lane": 7}}',
        f'[{of_yard}, 7, [], null, {{"source": "yard"}}]',
    ):
        log.clear()
        file.write_text(content)
        some = regions(["yard"], file=file)
        assert len(log.messages) == (2 if content.startswith("{") else 5)
        some.set(0, HALF)
        assert looked_at(regions(["yard"], file=file)) == {"yard": HALF}
        assert "0,0,0.5,2" in file.read_text()
        assert len(json.loads(file.read_text())) == (3 if content.startswith("{") else 6)


def test_a_file_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    file.write_text('{"yard": "0,0,1,0.5"')
    some = regions(["yard"], file=file)
    with pytest.raises(SettingsError, match="cannot be kept"):
        some.set(0, HALF)
    assert file.read_text() == '{"yard": "0,0,1,0.5"'
    assert looked_at(some) == {"yard": None}


def test_two_processes_with_one_bank_keep_each_others_regions(tmp_path: Path) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    yard, hall, same = (regions([source], file=file) for source in ("yard", "hall", "yard"))
    yard.add(0, "left", HALF)
    hall.set(0, TOP)
    yard.set(0, WHOLE)
    number = hall.add(0, "door", HALF)
    hall.remove(number)
    assert looked_at(regions(["yard", "hall"], file=file)) == {"yard": WHOLE, "hall": TOP, "left": HALF}
    with pytest.raises(SettingsError, match="of that name already"):
        same.add(0, "left", TOP)
    assert [path.name for path in tmp_path.iterdir()] == [file.name], "locks go with those who held them"


def test_a_file_that_was_repaired_meanwhile_is_used(tmp_path: Path) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    file.write_text("{")
    some = regions(["yard"], file=file)
    file.write_text('[{"source": "hall", "region": "0,0,1,0.5"}]')
    some.set(0, HALF)
    assert looked_at(regions(["yard", "hall"], file=file)) == {"yard": HALF, "hall": TOP}


def test_what_the_command_line_gave_keeps_its_name(tmp_path: Path) -> None:
    """A changed name would be there beside it after the next start, and a region that was taken away would be there again."""
    file = regions_file(tmp_path / "classes.spbank")
    some = regions(["yard"], named=[NamedRegion("left", HALF)], file=file)
    for change in (lambda: some.rename(1, "door"), lambda: some.remove(1)):
        with pytest.raises(SettingsError, match="of the command line"):
            change()
    added = some.add(0, "gate", TOP)
    assert [some.fixed(number) for number in some.parts] == [True, True, False]
    some.rename(added, "door")
    some.set(1, TOP)
    assert looked_at(some) == {"yard": None, "left": TOP, "door": TOP}
    again = regions(["yard"], named=[NamedRegion("left", HALF)], file=file)
    assert looked_at(again) == {"yard": None, "left": HALF, "door": TOP}


def test_one_number_of_regions_is_the_most(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    regions(["yard"], file=file).add(0, "gate", HALF)
    named = [NamedRegion(str(number), TOP) for number in range(MOST)]
    assert len(regions(["yard"], named=named[:-1], file=file).parts) == MOST
    assert len(log.messages) == 1, "the gate is passed over"
    with pytest.raises(SettingsError, match="too many"):
        regions(["yard"], named=named)


def test_the_page_says_what_the_command_line_gave(opened: Opened) -> None:
    site = opened([Showing()], stream=StreamOptions(named_regions=(NamedRegion("left", HALF),)))
    site.ask("POST", "/api/sources/0/regions", {"name": "gate", "region": [0, 0, 1, 0.5]})
    assert [(one["name"], one["fixed"]) for one in site.get("/api/sources").json] == [
        ("camera", True),
        ("left", True),
        ("gate", False),
    ]
    assert site.ask("DELETE", "/api/sources/1").status == 422
    assert site.ask("DELETE", "/api/sources/2").status == 200


def test_named_regions_are_kept_with_their_source(tmp_path: Path) -> None:
    file = regions_file(tmp_path / "classes.spbank")
    first = regions(["door", "yard"], file=file)
    assert first.add(1, "gate", HALF) == 2
    assert first.add(2, "lane", TOP) == 3, "of the region's source"
    first.set(1, TOP)
    assert looked_at(first) == {"door": None, "yard": TOP, "gate": HALF, "lane": TOP}
    assert first.parts[3].place == 1
    again = regions(["yard"], file=file)
    assert looked_at(again) == {"yard": TOP, "gate": HALF, "lane": TOP}
    again.rename(1, "the gate")
    again.remove(2)
    again.set(1, TOP)
    assert looked_at(regions(["yard"], file=file)) == {"yard": TOP, "the gate": TOP}
    assert looked_at(regions(["door"], file=file)) == {"door": None}, "its source is not there"
    assert looked_at(regions(["yard", "the gate"], file=file)) == {"yard": TOP, "the gate": None}, "a source has the name"
    given = regions(["yard"], named=[NamedRegion("the gate", HALF)], file=file)
    assert looked_at(given) == {"yard": TOP, "the gate": HALF}, "the command line counts more"


def test_a_number_is_never_given_again() -> None:
    some = regions(["door"])
    numbers = [some.add(0, "gate", HALF)]
    some.remove(numbers[0])
    numbers.append(some.add(0, "gate", HALF))
    assert numbers == [1, 2]


def test_what_cannot_be_a_region_is_refused() -> None:
    some = regions(["door", "yard"])
    some.add(0, "gate", HALF)
    before = dict(some.parts)
    for name in ("door", "gate", " ", "", "a\nb", "a\u202eb"):
        with pytest.raises(SettingsError):
            some.add(0, name, HALF)
        if name != "gate":
            with pytest.raises(SettingsError):
                some.rename(2, name)
    for change in (lambda: some.set(2, None), lambda: some.remove(0), lambda: some.rename(1, "other")):
        with pytest.raises(SettingsError):
            change()
    some.rename(2, "gate")
    assert some.parts == before
    for number in range(MOST - 3):
        some.add(1, str(number), TOP)
    with pytest.raises(SettingsError, match="too many"):
        some.add(0, "one more", TOP)


def test_a_region_that_cannot_be_kept_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    some = regions(["door"], file=tmp_path / "file" / "regions.json")
    for change in (lambda: some.set(0, HALF), lambda: some.add(0, "gate", HALF)):
        with pytest.raises(SettingsError, match="cannot be kept"):
            change()
    assert looked_at(some) == {"door": None}
