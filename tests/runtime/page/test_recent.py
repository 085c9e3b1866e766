from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import toy
from page_site import Opened, Site
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.recognizer import Recognizer
from threads import until


def kept(site: Site) -> list[dict[str, object]]:
    found: list[dict[str, object]] = site.get("/api/recent").json
    return found


@pytest.fixture
def busy(site: Site) -> Site:
    """A page that knows red, and has seen blue and green, too."""
    site.ask("POST", "/api/teach", {"name": "red"})
    site.until_label("red")
    site.show("blue")
    site.ask("POST", "/api/teach", {"name": "blue"})
    site.until_label("blue")
    site.show("green", seed=2)
    site.until_label("unknown")
    until(lambda: any(one["label"] == "unknown" for one in kept(site)))
    return site


def test_frames_worth_a_look_come_by_themselves_and_have_the_label_of_now(busy: Site) -> None:
    found = kept(busy)
    assert [one["number"] for one in found] == sorted((int(str(one["number"])) for one in found), reverse=True)
    first = found[-1]
    assert (first["why"], first["label"]) == ("first", "red"), "it was unknown when it came"
    assert "blue" in [one["label"] for one in found]
    picture = busy.get(f"/api/recent/{first['number']}.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert busy.get("/api/recent/99999.jpg").status == 404
    assert busy.get("/api/state").json["recent"] >= 3


def test_filing_teaches_in_one_step_and_says_what_it_gained(busy: Site) -> None:
    numbers = [one["number"] for one in kept(busy) if one["label"] == "unknown"]
    gain = busy.ask("POST", "/api/recent/file", {"numbers": numbers, "name": "green"})
    assert gain.status == 200
    assert gain.json["taken"] >= 1
    assert gain.json["changed"] >= 1
    assert busy.classes()["green"] == gain.json["taken"]
    assert not {one["number"] for one in kept(busy)} & set(numbers)
    assert busy.ask("POST", "/api/recent/file", {"numbers": numbers, "name": "green"}).status == 422, "they are gone"
    busy.ask("POST", "/api/undo")
    assert "green" not in busy.classes()


def test_none_of_what_it_says(busy: Site) -> None:
    numbers = [one["number"] for one in kept(busy) if one["name"] == "blue"][:1]
    assert busy.ask("POST", "/api/recent/file", {"numbers": numbers}).json["taken"] == 1
    assert busy.classes()["not 'blue'"] == 1


def test_frames_are_thrown_away(busy: Site) -> None:
    number = kept(busy)[-1]["number"]
    assert busy.ask("POST", "/api/recent/drop", {"numbers": [number]}).status == 200
    assert number not in [one["number"] for one in kept(busy)]


def test_a_threshold_shows_its_effect_before_it_is_set(busy: Site) -> None:
    everything = busy.get("/api/threshold?value=-1").json
    assert everything["refused"] == []
    assert everything["share"]["count"] == everything["share"]["total"] == len(everything["accepted"])
    assert len(everything["share"]["interval"]) == 2
    nothing = busy.get("/api/threshold?value=1&name=red").json
    assert nothing["accepted"] == []
    before = [one["threshold"] for one in busy.get("/api/classes").json]
    assert before == [None, None], "asking changes nothing"
    assert busy.ask("PUT", "/api/threshold", {"value": 0.875}).status == 200
    assert [one["threshold"] for one in busy.get("/api/classes").json] == [0.875, 0.875]
    assert busy.get("/api/threshold?value=0&name=red").json["now"] == 0.875
    assert busy.ask("PUT", "/api/threshold", {"name": "red", "value": None}).status == 200
    assert [one["threshold"] for one in busy.get("/api/classes").json] == [None, 0.875]
    assert busy.ask("PUT", "/api/threshold", {"value": 2}).status == 422
    assert busy.get("/api/threshold?value=nan").status == 422


def test_without_a_class_nothing_is_about_a_threshold(opened: Opened) -> None:
    site = opened([])
    assert site.get("/api/threshold?value=0.5").json["share"] is None
    assert site.ask("PUT", "/api/threshold", {"value": 0.5}).status == 422


def test_a_bank_is_downloaded_compared_merged_and_put_in_place(site: Site, tmp_path: Path) -> None:
    site.ask("POST", "/api/teach", {"name": "red"})
    file = site.get("/api/bank")
    assert "classes.spbank" in file.headers["content-disposition"]
    path = tmp_path / "downloaded.spbank"
    path.write_bytes(file.body)
    assert Bank.read(path).classes == ("red",)
    assert site.ask("POST", "/api/bank/compare", file.body).json == {"classes": [], "conflict": ""}
    site.ask("DELETE", "/api/classes?name=red")
    site.show("green")
    site.ask("POST", "/api/teach", {"name": "green"})
    found = site.ask("POST", "/api/bank/compare", file.body).json
    assert {one["name"]: one["change"] for one in found["classes"]} == {"red": "added", "green": "removed"}
    assert site.get("/api/bank/history").json["undoable"] == 3
    assert site.ask("POST", "/api/bank?how=merge", file.body).status == 200
    assert site.classes() == {"green": 1, "red": 1}
    assert site.ask("POST", "/api/bank?how=replace", file.body).status == 200
    assert site.classes() == {"red": 1}
    site.ask("POST", "/api/undo")
    assert site.classes() == {"green": 1, "red": 1}


def test_banks_that_do_not_go_together_need_a_word(site: Site) -> None:
    site.ask("POST", "/api/teach", {"name": "red"})
    file = site.get("/api/bank").body
    site.ask("PATCH", "/api/classes", {"name": "red", "strength": 0.125})
    assert "strength" in site.ask("POST", "/api/bank/compare", file).json["conflict"]
    assert site.ask("POST", "/api/bank", file).status == 422
    assert site.ask("POST", "/api/bank?prefer=ours", file).status == 200
    assert site.get("/api/classes").json[0]["strength"] == 0.125


def test_what_is_no_bank_of_this_bundle_is_refused(site: Site, tmp_path: Path) -> None:
    refused = site.ask("POST", "/api/bank/compare", b"no bank")
    assert refused.status == 422
    assert tempfile.gettempdir() not in refused.body.decode()
    other = Bundle.load(toy.make_bundle(tmp_path / "other", strength=0.5))
    Bank.empty(other).save(tmp_path / "other.spbank")
    refused = site.ask("POST", "/api/bank", (tmp_path / "other.spbank").read_bytes())
    assert refused.json["error"] == "the file was made with another bundle"


def test_changes_in_a_file_count_in_its_history(opened: Opened, toy_bundle: Path, tmp_path: Path) -> None:
    with Recognizer.load(toy_bundle, bank=tmp_path / "classes.spbank", device="cpu") as recognizer:
        site = opened(taught=recognizer)
        assert site.get("/api/bank/history").json["undoable"] == 0
        until(lambda: site.ask("POST", "/api/teach", {"name": "red"}).status == 200)
        assert site.get("/api/bank/history").json["undoable"] == 1
