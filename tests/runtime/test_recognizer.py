import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import toy
from fake_backend import FakeBackend
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError, BankError, BundleError, ImageError, SettingsError, SourceError
from sp_edge.matching.decide import match
from sp_edge.view import Region, View
from sp_edge_runtime import recognizer as recognizer_module
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.features import QUERIES
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions


def test_recognizes_what_it_was_taught(taught: Recognizer) -> None:
    for index, name in enumerate(toy.COLOURS):
        prediction = taught.classify(toy.picture(name, side=100, seed=9))
        assert (prediction.label, prediction.name, prediction.class_index) == (name, name, index)
        assert not prediction.unknown
        assert prediction.confidence > 0.9
        assert prediction.similarity > 0.9
        assert prediction.bank_version == 3
        assert prediction.top[0][0] == name
        assert len(prediction.top) == 3
        assert set(prediction.speed) == {"preprocess", "inference", "postprocess"}
        assert min(prediction.speed.values()) >= 0


def test_the_numbers_are_those_of_the_paper(recognizer: Recognizer) -> None:
    shots = {name: np.stack([toy.picture(name, seed=seed) for seed in range(3)]) for name in toy.COLOURS}
    table, crop = toy.prompts(), recognizer.bundle.manifest.preprocess
    prototypes = []
    for name, images in shots.items():
        recognizer.enroll(name, list(images))
        cropped = np.stack([crop(image) for image in images])
        mean = toy.features(cropped, table.vector(name)[None]).mean(axis=0)
        prototypes.append(mean / np.linalg.norm(mean))
    image = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    query = toy.features(crop(image)[None])[0]
    cosines = np.stack(prototypes) @ (query / np.linalg.norm(query))  # the toy's background is zero: the metric is plain
    chances = np.exp(cosines / 0.2) / np.exp(cosines / 0.2).sum() / (1 + ((1 - cosines.max()) / 0.5) ** 4)
    prediction = recognizer.classify(image)
    assert prediction.name == list(toy.COLOURS)[cosines.argmax()]
    assert prediction.similarity == pytest.approx(cosines.max(), abs=1e-4)
    assert prediction.confidence == pytest.approx(chances.max(), abs=1e-4)


def test_a_batch_is_its_images_one_by_one(taught: Recognizer) -> None:
    images = [toy.picture("blue"), toy.picture("red", side=64), toy.picture("green", side=33)]
    batch = taught.classify(images)
    assert [p.label for p in batch] == ["blue", "red", "green"]
    for image, prediction in zip(images, batch, strict=True):
        assert prediction.similarity == pytest.approx(taught.classify(image).similarity, abs=1e-5)
    assert taught.classify([]) == []


def test_without_a_class_everything_is_unknown(recognizer: Recognizer) -> None:
    prediction = recognizer.classify(toy.picture("red"))
    assert prediction.unknown
    assert prediction.to_json() == {
        "label": "unknown",
        "name": "",
        "class": None,
        "confidence": 0.0,
        "unknown": True,
        "margin": 0.0,
        "similarity": -1.0,
        "topk": [],
        "speed": dict(prediction.speed),
        "bank_version": 0,
        "view": [1, 1, 30, 30],
        "gray": False,
    }


def test_what_resembles_no_class_is_unknown(recognizer: Recognizer) -> None:
    recognizer.enroll("red", [toy.picture("red")])
    prediction = recognizer.classify(toy.picture("green"))
    assert (prediction.label, prediction.name, prediction.class_index) == ("unknown", "red", None)
    read = prediction.to_json()
    assert (read["label"], read["name"], read["class"]) == ("unknown", "red", None), "JSON says the same as Python"


def test_the_threshold_of_a_new_class_is_the_calibrated_one(tmp_path: Path) -> None:
    folder = toy.make_bundle(tmp_path / "strict", threshold=0.75)
    with Recognizer.load(folder) as recognizer:
        recognizer.enroll("red", [toy.picture("red")])
        assert np.isnan(recognizer.bank.thresholds).all()
        assert recognizer.head.thresholds.tolist() == [0.75]
        recognizer.set_threshold("red", 0.25)
        recognizer.enroll("green", [toy.picture("green")])
        assert recognizer.head.thresholds.tolist() == [0.25, 0.75]
        recognizer.set_threshold("red", None)
        assert recognizer.head.thresholds.tolist() == [0.75, 0.75]


@pytest.mark.parametrize(("threshold", "label"), [(-1.0, "red"), (1.0, "unknown")])
def test_a_threshold_overrides_every_class(toy_bundle: Path, threshold: float, label: str) -> None:
    with Recognizer.load(toy_bundle, threshold=threshold) as recognizer:
        recognizer.enroll("red", [toy.picture("red")])
        assert recognizer.classify(toy.picture("green")).label == label
        assert recognizer.head.thresholds.tolist() == [threshold]
        assert np.isnan(recognizer.bank.thresholds).all()


def test_topk(toy_bundle: Path, taught: Recognizer) -> None:
    with Recognizer(taught.bundle, taught.bank, taught.backend, topk=1) as one:
        prediction = one.classify(toy.picture("blue"))
    assert [name for name, _ in prediction.top] == ["blue"]


@pytest.mark.parametrize(
    "options",
    [
        *({"threshold": 1.1}, {"threshold": float("nan")}, {"threshold": "0.5"}),
        *({"topk": 0}, {"topk": 1.5}, {"topk": "3"}, {"classifier": "svm"}),
    ],
)
def test_options_out_of_range(toy_bundle: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Backend] = []
    monkeypatch.setattr(recognizer_module, "open_backend", lambda *a, **k: opened.append(open_backend(*a, **k)) or opened[0])
    with pytest.raises(SettingsError):
        Recognizer.load(toy_bundle, **options)
    with pytest.raises(BackendError, match="closed"):
        opened[0].run("query", {"image": toy.picture("red")[None]})


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (0, 32, 3)])
def test_what_is_no_image(taught: Recognizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError):
        taught.classify(np.zeros(shape, np.uint8))


def test_what_cannot_be_loaded(toy_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Recognizer.load(tmp_path / "nothing")
    (tmp_path / "rubbish").write_bytes(b"rubbish")
    with pytest.raises(BankError):
        Recognizer.load(toy_bundle, bank=tmp_path / "rubbish")


def test_a_bank_of_another_bundle_is_refused(taught: Recognizer) -> None:
    before = taught.bank
    foreign = replace(Bank.empty(taught.bundle), fingerprint="0" * 64)
    with pytest.raises(BankError, match="another bundle"):
        taught.replace_bank(foreign)
    assert taught.bank is before
    with pytest.raises(BankError, match="another bundle"):
        Recognizer(taught.bundle, foreign, taught.backend)


def test_no_path_is_a_bundle_error() -> None:
    for path in (None, 5, b"model.spedge"):
        with pytest.raises(BundleError, match="path of a bundle"):
            Recognizer.load(path)  # type: ignore[arg-type]


def test_one_image_is_judged_by_one_bank(toy_bundle: Path, taught: Recognizer) -> None:
    """A class that is forgotten while an image is in the network still counts for that image."""
    backend = FakeBackend(toy.features(toy.picture("blue")[None]))
    recognizer = Recognizer(taught.bundle, taught.bank, backend)
    backend.go.clear()
    found: list[Prediction] = []
    worker = threading.Thread(target=lambda: found.append(recognizer.classify(toy.picture("blue"))))
    worker.start()
    assert backend.asked.wait(30)
    recognizer.forget("red")
    recognizer.forget("green")
    backend.go.set()
    worker.join()
    assert (found[0].label, found[0].class_index, found[0].bank_version) == ("blue", 2, 3)
    after = recognizer.classify(toy.picture("blue"))
    assert (after.label, after.class_index, after.bank_version) == ("blue", 0, 5)


def test_closing_closes_the_backend(toy_bundle: Path) -> None:
    bundle = Bundle.load(toy_bundle)
    backend = FakeBackend(np.zeros((1, toy.DIM), np.float32))
    with Recognizer(bundle, Bank.empty(bundle), backend):
        assert not backend.closed
    assert backend.closed


def test_a_stream_by_its_source_text(taught: Recognizer, toy_pictures: Path) -> None:
    results = list(taught.stream(str(toy_pictures)))
    assert [result.prediction.label for result in results] == ["red", "green", "blue"]
    assert [r.frame.frame_id for r in taught.stream(toy_pictures, StreamOptions(max_frames=2))] == [0, 1]
    strided = taught.stream(str(toy_pictures), opening=SourceOptions(vid_stride=2))
    assert [r.frame.frame_id for r in strided] == [0, 2]


@pytest.mark.parametrize("source", [None, 0, [], [None], "ftp://camera/1", np.zeros((4, 4, 3), np.uint8)])
def test_a_stream_of_no_source_is_refused_at_the_call(taught: Recognizer, source: Any) -> None:
    with pytest.raises((SourceError, SettingsError)):
        taught.stream(source)


def test_an_option_that_does_not_fit_is_refused_at_the_call(taught: Recognizer, toy_pictures: Path) -> None:
    with pytest.raises(SettingsError, match="size and rate are for cameras"):
        taught.stream(toy_pictures, opening=SourceOptions(rate=5.0))


@pytest.mark.parametrize("options", [{"options": {"max_fps": 5}}, {"options": None}, {"opening": StreamOptions()}])
def test_what_are_no_options_is_refused_at_the_call(taught: Recognizer, toy_pictures: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="no options of a stream"):
        taught.stream(toy_pictures, **options)


def test_a_stream_goes_on_over_pictures_that_cannot_be_read(
    taught: Recognizer, toy_pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(toy_pictures, tmp_path / "some")
    (tmp_path / "some" / "0 bad.png").write_bytes(b"no picture")
    assert [r.label for r in taught.stream(tmp_path / "some")] == list(toy.COLOURS)
    assert "0 bad.png" in caplog.text


def test_pictures_in_every_form_are_taken(taught: Recognizer, toy_pictures: Path, tmp_path: Path) -> None:
    file = toy_pictures / "1 green.png"
    image = np.asarray(Image.open(file))
    Image.fromarray(image[:, ::-1]).save(tmp_path / "turned.jpg", exif=_mirrored())
    forms = [image, Image.open(file), Image.open(file).convert("P"), file, str(file), Image.open(tmp_path / "turned.jpg")]
    assert [taught.classify(form).label for form in forms] == ["green"] * len(forms)
    assert [p.label for p in taught.classify(forms)] == ["green"] * len(forms)
    assert [p.label for p in taught.classify(tuple(forms))] == ["green"] * len(forms)
    taught.enroll("dark night", forms)
    assert taught.bank.shots("dark night") == len(forms)
    crop = taught.bundle.manifest.preprocess(image)[None]
    np.testing.assert_allclose(taught.bank.query[-len(forms) : -1], toy.features(crop).repeat(5, axis=0), atol=0.02)
    taught.forget("dark night")
    taught.enroll("bright day", str(file))
    assert taught.bank.shots("bright day") == 1, "one picture is a list of one"
    assert [p.what for p in taught.problems("bright day", [str(file)])] == ["copy"]


def _mirrored() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 2
    return exif


@pytest.mark.parametrize(
    "given", [None, 5, [1, 2], [[1]], {"a": 1}, b"bytes", "no.jpg", np.zeros((4, 4, 3)), np.zeros((2, 4, 4, 3), np.uint8)]
)
def test_anything_else_is_refused_at_once(taught: Recognizer, given: Any) -> None:
    before = taught.bank
    with pytest.raises(ImageError):
        taught.classify(given)
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8:
        for images in (given, [given]):
            with pytest.raises(ImageError):
                taught.enroll("dark night", images)
        with pytest.raises(ImageError):
            taught.problems("red", given)
    assert taught.bank is before


def test_many_pictures_go_through_the_network_in_parts(taught: Recognizer) -> None:
    images = [toy.picture(name) for name in toy.COLOURS] * QUERIES
    assert [p.label for p in taught.classify(images)] == list(toy.COLOURS) * QUERIES


finite = st.floats(-1, 1, width=32)


@given(data=st.data(), cosines=st.lists(finite, max_size=6), temperature=st.floats(0.01, 10), topk=st.integers(1, 8))
def test_json_is_always_valid(data: st.DataObject, cosines: list[float], temperature: float, topk: int) -> None:
    count = len(cosines)
    visible = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1)
    names = data.draw(st.lists(visible, min_size=count, max_size=count, unique=True))
    thresholds = np.array(data.draw(st.lists(finite, min_size=count, max_size=count)), np.float32)
    found = match(np.array(cosines, np.float32), names, thresholds, temperature=temperature, sharpness=4, topk=topk)
    index = None if found.unknown else names.index(found.name)
    prediction = Prediction(**vars(found), class_index=index, speed={"preprocess": 0.5}, bank_version=7)
    read = json.loads(json.dumps(prediction.to_json(), allow_nan=False))
    assert set(read) == {
        *("label", "name", "class", "confidence", "unknown", "margin", "similarity", "topk", "speed", "bank_version"),
        *("view", "gray"),
    }
    assert read["unknown"] == (read["label"] == "unknown") == (read["class"] is None)
    assert 0 <= read["confidence"] <= 1
    assert len(read["topk"]) == min(topk, count)
    assert all(set(row) == {"name", "confidence"} for row in read["topk"])
    if count:
        assert read["topk"][0] == {"name": read["name"], "confidence": read["confidence"]}


def test_the_classifier_and_the_advice(toy_bundle: Path) -> None:
    with Recognizer.load(toy_bundle, classifier="lr") as recognizer:
        for name in toy.COLOURS:
            recognizer.enroll(name, [toy.picture(name, seed=seed) for seed in (1, 2)])
        for name in toy.COLOURS:
            assert recognizer.classify(toy.picture(name, seed=9)).name == name
        assert recognizer.advice().accuracy == 1
        assert recognizer.problems("red", [toy.picture("red", seed=7)]) == []
        assert [p.what for p in recognizer.problems("red", [toy.picture("red", seed=2)])] == ["copy"]
    with pytest.raises(SettingsError, match="unknown classifier"):
        Recognizer.load(toy_bundle, classifier="svm")


def test_teaching_meanwhile_never_mixes_two_banks(taught: Recognizer) -> None:
    stop, wrong = threading.Event(), []

    def watch() -> None:
        images = {name: toy.picture(name, seed=9) for name in toy.COLOURS}
        while not stop.is_set():
            for name, image in images.items():
                prediction = taught.classify(image)
                if prediction.label not in (name, "dark night") or prediction.class_index is None:
                    wrong.append(prediction)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for seed in range(20):
            taught.enroll("dark night", [np.full((32, 32, 3), 10 + seed, np.uint8)])
            before = taught.bank.version
            assert taught.classify(np.full((32, 32, 3), 10 + seed, np.uint8)).bank_version == before, "on the next image"
            taught.forget("dark night")
    finally:
        stop.set()
        watcher.join()
    assert wrong == []


# --- what is looked at ---


def beside(name: str, other: str) -> np.ndarray:
    """Uint8 (40, 120, 3): one colour in the left half, another in the right one."""
    return np.concatenate([toy.picture(name, side=60)[:40], toy.picture(other, side=60)[:40]], axis=1)


def test_a_region_is_all_that_is_seen(taught: Recognizer) -> None:
    image = beside("red", "blue")
    halves = {"red": Region(0, 0, 0.5, 1), "blue": Region(60, 0, 60, 40)}
    for name, region in halves.items():
        found = taught.classify(image, region=region)
        assert found.label == name
        x, y, width, height = found.view
        assert region.box(40, 120)[0] <= x < x + width <= region.box(40, 120)[0] + 60
        assert 0 <= y < y + height <= 40
        assert found.to_json()["view"] == [x, y, width, height]
    both = taught.classify([image, image], region=list(halves.values()))
    assert [one.label for one in both] == ["red", "blue"]
    assert [one.label for one in taught.classify([image] * 2, region=halves["blue"])] == ["blue"] * 2
    with pytest.raises(SettingsError, match="do not go together"):
        taught.classify([image] * 3, region=list(halves.values()))
    with pytest.raises(SettingsError, match="leaves the picture"):
        taught.classify(toy.picture("red"), region=halves["blue"])
    for no_region in ((0, 0, 0.5, 1), "0,0,0.5,1"):
        with pytest.raises(SettingsError, match="this is no region"):
            taught.classify(image, region=no_region)  # type: ignore[call-overload]


def test_a_region_is_taught_and_judged(toy_bundle: Path) -> None:
    image, right = beside("red", "blue"), Region(0.5, 0, 0.5, 1)
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        for name, region in (("red", Region(0, 0, 0.5, 1)), ("blue", right)):
            recognizer.enroll(name, [image], region=region)
        assert [recognizer.classify(toy.picture(name)).label for name in ("red", "blue")] == ["red", "blue"]
        assert [p.what for p in recognizer.problems("blue", [image], region=right)] == ["copy"]
        assert recognizer.problems("blue", [image], region=Region(0, 0, 0.5, 1)) == []
        recognizer.enroll_many([("blue", [image])], region=right)
        assert recognizer.bank.crops[-1] == recognizer.bank.crops[-2]
        recognizer.enroll_not("red", [image], region=right)
        assert recognizer.bank.crops[-1] == recognizer.bank.crops[-2]


def test_the_fit_of_the_first_picture_stays(toy_bundle: Path, tmp_path: Path) -> None:
    wide, file = beside("red", "blue"), tmp_path / "bank.spbank"
    with Recognizer.load(toy_bundle, bank=file, device="cpu", fit="squash") as recognizer:
        assert recognizer.classify(wide).view == (0, 0, 120, 40), "chosen, though no picture was taught"
        recognizer.enroll("red", [wide])
        np.testing.assert_allclose(
            recognizer.bank.query,
            toy.features(recognizer.bundle.manifest.preprocess(wide, View(fit="squash"))[None]),
            atol=1e-5,
        )
    assert Bank.read(file).fit == "squash"
    with Recognizer.load(toy_bundle, bank=file, device="cpu") as recognizer:
        found = recognizer.classify(wide)
        assert found.similarity > 0.99
        assert found.view == (0, 0, 120, 40)
        recognizer.enroll("red", [found.crop_rgb], prepared=True)
        assert recognizer.bank.shots("red") == 2
        recognizer.change(recognizer.lesson("red", [found.crop_rgb]))
        assert recognizer.bank.fit == "squash"
    with pytest.raises(BankError, match="another fit than 'pad'"):
        Recognizer.load(toy_bundle, bank=file, device="cpu", fit="pad")
    with pytest.raises(SettingsError, match="fit"):
        Recognizer.load(toy_bundle, device="cpu", fit="stretch")


def test_a_gray_picture_is_told_where_classes_were_taught_in_color(toy_bundle: Path) -> None:
    gray = np.full((40, 40, 3), 90, np.uint8)
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        assert not recognizer.classify(gray).gray, "nothing was taught"
        recognizer.enroll("red", [toy.picture("red")])
        assert [one.gray for one in recognizer.classify([gray, toy.picture("blue")])] == [True, False]
        assert recognizer.classify(gray).to_json()["gray"] is True
        half = np.concatenate([gray, toy.picture("red", side=40)], axis=1)
        assert not recognizer.classify(half).gray
        assert recognizer.classify(half, region=Region(0, 0, 0.5, 1)).gray
        recognizer.enroll("red", [gray])
        assert not recognizer.classify(gray).gray, "it was taught at night, too"
