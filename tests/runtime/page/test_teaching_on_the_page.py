from __future__ import annotations

import io
import secrets
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageFilter

import toy
from page_site import Opened, Site
from sp_edge.errors import BankError
from sp_edge_runtime.page.choose import different
from sp_edge_runtime.page.edits import move_shot, rename, shot_id
from sp_edge_runtime.recognizer import Recognizer
from threads import until


def png(image_rgb: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_rgb).save(file, "PNG")
    return file.getvalue()


def form(fields: dict[str, str], files: Sequence[bytes]) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    mark = secrets.token_hex(8)
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    for file in files:
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        parts.append(head.encode() + file + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def test_a_held_button_teaches_different_frames_and_the_next_frame_is_recognized(site: Site) -> None:
    for seed in range(8):
        site.show("red", seed=seed)
    taught = site.ask("POST", "/api/teach", {"name": " Red_thing", "seconds": 3.0})
    assert taught.status == 422, "the toy bundle has no text encoder"
    taught = site.ask("POST", "/api/teach", {"name": "red", "seconds": 3.0})
    assert taught.status == 200
    assert 2 <= taught.json["taken"] <= 5
    assert site.classes() == {"red": taught.json["taken"]}
    until(lambda: site.get("/api/sources/0/result").json["label"] == "red")
    site.show("blue")
    assert site.ask("POST", "/api/teach", {"name": "blue"}).json["taken"] == 1
    until(lambda: site.get("/api/sources/0/result").json["label"] == "blue")
    newest = site.get("/api/state").json["bank_version"]
    stale = site.ask("POST", f"/api/undo?version={newest - 1}")
    assert (stale.status, stale.json["error"]) == (422, "Something else was changed since")
    assert list(site.classes()) == ["red", "blue"]
    assert site.ask("POST", f"/api/undo?version={newest}").status == 200
    assert list(site.classes()) == ["red"]
    until(lambda: site.get("/api/sources/0/result").json["label"] == "unknown")


def test_what_would_teach_nothing_is_refused_with_the_reason(site: Site) -> None:
    site.sources[0].image = np.full((64, 64, 3), 20, np.uint8)
    until(lambda: site.get("/api/sources/0/frame.jpg").status == 200)
    seen = site.number()
    until(lambda: site.number() > seen + 3)
    refused = site.ask("POST", "/api/teach", {"name": "red"})
    assert refused.status == 422
    assert refused.json["reasons"] == {"too dark": 1}
    assert refused.json["error"] == "Not taught: too dark"
    assert site.classes() == {}
    assert site.ask("POST", "/api/teach", {"name": "red", "force": True}).json["taken"] == 1
    site.show("green", seed=3)
    assert site.ask("POST", "/api/teach", {"name": "green"}).status == 200
    copied = site.ask("POST", "/api/teach", {"name": "green"})
    assert copied.json["reasons"] == {"the same as one that is there": 1}


def test_what_a_class_is_not(site: Site) -> None:
    site.ask("POST", "/api/teach", {"name": "red"})
    until(lambda: site.get("/api/sources/0/result").json["label"] == "red")
    site.show("red", seed=5)
    told = site.ask("POST", "/api/teach", {"name": "red", "negative": True}).json
    assert told["name"] == "not 'red'"
    assert {one["name"]: one["told_from"] for one in site.get("/api/classes").json} == {"red": None, "not 'red'": "red"}
    until(lambda: site.get("/api/sources/0/result").json["label"] == "unknown")
    assert site.ask("POST", "/api/teach", {"name": "green", "negative": True}).status == 422


def test_pictures_are_taught_in_one_step(site: Site) -> None:
    blurred = np.asarray(Image.fromarray(toy.picture("green", side=200, seed=9)).filter(ImageFilter.GaussianBlur(9)))
    body, kind = form({"name": "green"}, [png(toy.picture("green", side=40, seed=seed)) for seed in (1, 2)] + [png(blurred)])
    told = site.ask("POST", "/api/pictures", body, Content_Type=kind).json
    assert told["taken"] == 2
    assert sum(told["refused"].values()) == 1
    assert site.classes() == {"green": 2}
    site.ask("POST", "/api/undo")
    assert site.classes() == {}
    body, kind = form({"name": "green"}, [b"no picture"])
    refused = site.ask("POST", "/api/pictures", body, Content_Type=kind)
    assert refused.status == 422
    assert refused.json["error"] == "cannot read the picture: a.png"
    body, kind = form({"name": "green"}, [])
    assert site.ask("POST", "/api/pictures", body, Content_Type=kind).status == 422


def test_a_name_alone_where_the_model_can(opened: Opened, tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = toy.make_bundle(tmp_path_factory.mktemp("named") / "bundle", text_prototype=toy.looks_of_names())
    with Recognizer.load(bundle, device="cpu") as named:
        site = opened(taught=named)
        assert site.get("/api/state").json["names_alone"] is True
        assert site.ask("POST", "/api/names", {"name": "red"}).json["taken"] == 0
        until(lambda: site.get("/api/sources/0/result").json["label"] == "red")
        assert site.get("/api/classes").json[0]["by_name"] is True


def test_what_is_known_of_a_name(site: Site) -> None:
    assert site.patiently("GET", "/api/names?name=green").json == {
        "name": "green",
        "taught": False,
        "readable": True,
        "encodable": True,
    }
    assert site.patiently("GET", "/api/names?name=%E2%80%AEgreen").json["name"] == "green", "without what cannot be seen"
    assert site.patiently("GET", "/api/names?name=hammer").json["encodable"] is False
    site.ask("POST", "/api/teach", {"name": "red"})
    assert site.patiently("GET", "/api/names?name=red").json["taught"] is True
    assert site.get("/api/names?name=%00").status == 422


def test_classes_are_corrected(site: Site) -> None:
    for seed in range(2):
        body, kind = form({"name": "red"}, [png(toy.picture("red", seed=seed))])
        site.ask("POST", "/api/pictures", body, Content_Type=kind)
    (red,) = site.get("/api/classes").json
    first, second = (shot["id"] for shot in red["shots"])
    assert site.get(f"/api/shots/{first}.jpg").headers["content-type"] == "image/jpeg"
    assert site.ask("POST", "/api/shots", {"name": "red", "shot": first, "to": "green"}).status == 200
    assert site.classes() == {"red": 1, "green": 1}
    assert site.ask("POST", "/api/shots", {"name": "green", "shot": first}).status == 200
    assert site.classes() == {"red": 1}
    assert site.ask("POST", "/api/shots", {"name": "red", "shot": first}).status == 422, "it is gone"
    assert site.ask("PATCH", "/api/classes", {"name": "red", "threshold": 0.7}).status == 200
    assert site.ask("PATCH", "/api/classes", {"name": "red", "strength": 0.25}).status == 200
    assert site.ask("PATCH", "/api/classes", {"name": "red", "to": "blue"}).status == 200
    (blue,) = site.get("/api/classes").json
    assert blue["name"] == "blue"
    assert blue["shots"] == [{"id": second}]
    assert blue["threshold"] == pytest.approx(0.7)
    assert site.ask("PATCH", "/api/classes", {"name": "blue"}).status == 422
    assert site.ask("PATCH", "/api/classes", {"name": "blue", "strength": 1, "threshold": 1}).status == 422
    assert site.ask("PATCH", "/api/classes", {"name": "blue", "threshold": None}).status == 200
    assert site.get("/api/classes").json[0]["threshold"] is None
    assert site.ask("DELETE", "/api/classes?name=blue").status == 200
    assert site.classes() == {}
    assert site.get(f"/api/shots/{second}.jpg").status == 404


def test_a_moved_shot_is_encoded_with_the_other_name(recognizer: Recognizer) -> None:
    recognizer.enroll("red", [toy.picture("red", seed=1), toy.picture("red", seed=2)])
    crop = recognizer.bank.pictures("red")[1]
    move_shot(recognizer, "red", shot_id(crop), "green")
    alone = recognizer.bank
    assert alone.classes == ("red", "green")
    np.testing.assert_allclose(
        alone.support[1] - alone.query[1], alone.prompts[1] @ toy.projection(), atol=1e-4, err_msg="green's own prompt"
    )
    with pytest.raises(BankError, match="already"):
        move_shot(recognizer, "green", shot_id(crop), "green")


def test_a_renamed_class_keeps_what_it_is_not(recognizer: Recognizer) -> None:
    recognizer.enroll("red", toy.picture("red"))
    recognizer.enroll_not("red", toy.picture("blue"))
    rename(recognizer, "red", "green")
    assert recognizer.bank.rejects == {"not 'green'": "green"}
    with pytest.raises(BankError, match="cannot be renamed"):
        rename(recognizer, "red", "blue")


def test_advice_is_that_of_the_bank(site: Site) -> None:
    assert site.patiently("GET", "/api/advice").json == {"lines": [], "left_out": 0, "right": None}
    body, kind = form({"name": "red"}, [png(toy.picture("red", seed=seed)) for seed in (1, 2)])
    site.ask("POST", "/api/pictures", body, Content_Type=kind)
    found = site.patiently("GET", "/api/advice").json
    assert found["right"]["total"] == 2
    assert not any("sp-edge" in line for line in found["lines"])


def test_the_most_different_are_chosen() -> None:
    rng = np.random.default_rng(0)
    ends = np.eye(4, dtype=np.float32)
    near = np.repeat(ends, 5, axis=0) + rng.normal(scale=0.01, size=(20, 4)).astype(np.float32)
    assert sorted(place // 5 for place in different(near, 4)) == [0, 1, 2, 3]
    assert {place // 5 for place in different(near, 2, ends[:2])} == {2, 3}
    assert different(near[:0], 3) == []
    assert sorted(different(near[:3], 9)) == [0, 1, 2]
