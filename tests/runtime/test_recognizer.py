import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import banks
import toy
from sp_edge.bank.bank import Bank
from sp_edge.bank.views import views
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import OUTPUTS
from sp_edge.errors import BackendError, BankError, BundleError, ImageError, PromptError, SettingsError, SourceError
from sp_edge.matching.decide import match
from sp_edge.matching.unknown import ByName
from sp_edge.prompts.familiarity import Familiarity
from sp_edge_runtime import recognizer as recognizer_module
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.features import QUERIES, SHOTS
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions


@pytest.fixture
def recognizer(toy_bundle: Path) -> Iterator[Recognizer]:
    with Recognizer.load(toy_bundle, device="cpu") as loaded:
        yield loaded


@pytest.fixture
def taught(recognizer: Recognizer) -> Recognizer:
    for name in toy.COLOURS:
        recognizer.enroll(name, [toy.picture(name, seed=seed) for seed in (1, 2)])
    return recognizer


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


def test_the_prompt_takes_part_in_what_is_learnt(recognizer: Recognizer) -> None:
    shot = toy.picture("red")
    recognizer.enroll("red", [shot])
    recognizer.enroll("green", [shot])
    assert np.abs(recognizer.bank.support[0] - recognizer.bank.support[1]).max() > 0.01
    np.testing.assert_allclose(recognizer.bank.query[0], recognizer.bank.query[1], atol=1e-6)


@pytest.mark.parametrize("own", [0.4, 1.0])
@pytest.mark.parametrize("strength", [0.0, 0.25, 0.4, 1.0, None])
def test_the_prompt_acts_as_strongly_as_is_said(tmp_path: Path, own: float, strength: float | None) -> None:
    """The toy's prompted feature is the plain one plus the projected prompt, so the share scales that sum's second part."""
    bundle = toy.make_bundle(tmp_path / "toy.spedge", strength=own)
    shots = [toy.picture("red", seed=seed) for seed in range(SHOTS + 1)]
    crop = Bundle.load(bundle).manifest.preprocess
    plain = toy.features(np.stack([crop(shot) for shot in shots]))
    hint = toy.prompts().vector("red") @ toy.projection()
    s = own if strength is None else strength

    def check(bank: Bank, count: int) -> None:
        np.testing.assert_allclose(bank.query, plain[:count], atol=1e-5)
        np.testing.assert_allclose(bank.support, plain[:count] + own * hint, atol=1e-5)
        expected = plain[:count].mean(axis=0) + s / (s + (1 - s) * count) * hint
        np.testing.assert_allclose(bank.prototypes, expected[None] / np.linalg.norm(expected), atol=1e-5)

    with Recognizer.load(bundle, device="cpu") as recognizer:
        recognizer.enroll("red", shots[:1], strength=strength)
        check(recognizer.bank, 1)
        recognizer.enroll("red", shots[1:])
        check(recognizer.bank, SHOTS + 1)


def test_a_prompt_that_the_model_cannot_read_acts_less(tmp_path: Path) -> None:
    known = toy.prompts().select(("red", "green"))
    familiarity = Familiarity.of(known)
    strange = known[0] + np.random.default_rng(0).normal(size=known.shape[1]).astype(np.float32) * 100
    shot = toy.picture("red")
    with Recognizer.load(toy.make_bundle(tmp_path / "a", strength=0.8, familiarity=familiarity), device="cpu") as recognizer:
        recognizer.enroll("red", [shot])
        recognizer.enroll("thing 17", [shot], prompt=strange)
        recognizer.enroll("said", [shot], prompt=strange, strength=0.8)
        less = recognizer.familiarity(strange)
        assert less == pytest.approx(float(familiarity(strange)))
        assert less < 0.5
        assert recognizer.bank.strengths.tolist() == [0.8, 0.8 * less, 0.8]
        recognizer.set_strength("thing 17", 0.5)
        recognizer.enroll("thing 17", [shot])
        assert recognizer.bank.strengths.tolist() == [0.8, 0.5, 0.8]
    with Recognizer.load(toy.make_bundle(tmp_path / "b", strength=0.8), device="cpu") as recognizer:
        recognizer.enroll("thing 17", [shot], prompt=strange)
        assert recognizer.familiarity(strange) == 1
        assert recognizer.bank.strengths.tolist() == [0.8], "a bundle that cannot tell leaves the strength alone"


def test_the_strength_of_a_taught_class_changes(recognizer: Recognizer) -> None:
    shot = toy.picture("red")
    recognizer.enroll("red", [shot, shot])
    recognizer.enroll("green", [shot], strength=0.3)
    query = recognizer.bank.query[0]
    for name, strength in (("red", 0.0), ("green", 0.0)):
        recognizer.set_strength(name, strength)
    np.testing.assert_allclose(recognizer.bank.prototypes, np.stack([query, query]) / np.linalg.norm(query), atol=1e-6)
    assert recognizer.classify(shot).similarity == pytest.approx(1, abs=1e-5)
    assert recognizer.classify(shot).bank_version == 4
    recognizer.enroll("red", [shot], strength=0.5)
    assert recognizer.bank.strengths.tolist() == [0.5, 0]
    with pytest.raises(BankError, match="no class 'blue'"):
        recognizer.set_strength("blue", 0.5)


def test_a_strength_that_cannot_be_is_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    wrong: list[Any] = [-0.1, 1.1, float("nan"), "strong", [0.5]]
    for strength in wrong:
        with pytest.raises(BankError, match="out of range"):
            recognizer.enroll("red", [toy.picture("red")], strength=strength)
    recognizer.enroll("green", [toy.picture("green")])
    for value in wrong:
        with pytest.raises(BankError, match="out of range"):
            recognizer.set_strength("green", value)
    for value in (1.1, "high", [0.5]):
        with pytest.raises(BankError, match="out of range"):
            recognizer.set_threshold("green", value)  # type: ignore[arg-type]
    with Recognizer.load(toy.make_bundle(tmp_path / "toy.spedge", strength=0.0), device="cpu") as plain:
        with pytest.raises(BankError, match="takes no prompts") as raised:
            plain.enroll("red", [toy.picture("red")], strength=0.5)
        assert "model.prompt_strength" in raised.value.next_step
        assert not plain.bank.names
        plain.enroll("red", [toy.picture("red")], strength=0.0)
        assert plain.bank.names == ("red",)


def test_a_batch_is_its_images_one_by_one(taught: Recognizer) -> None:
    images = [toy.picture("blue"), toy.picture("red", side=64), toy.picture("green", side=33)]
    batch = taught.classify(images)
    assert [p.label for p in batch] == ["blue", "red", "green"]
    for image, prediction in zip(images, batch, strict=True):
        assert prediction.similarity == pytest.approx(taught.classify(image).similarity, abs=1e-5)
    assert taught.classify([]) == []


def test_a_stack_of_images_is_as_good_as_a_list(recognizer: Recognizer) -> None:
    recognizer.enroll("red", np.stack([toy.picture("red"), toy.picture("red", seed=1)]))
    assert recognizer.bank.shots("red") == 2


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


def test_more_shots_of_a_class(recognizer: Recognizer) -> None:
    recognizer.enroll("naïve café", [toy.picture("red")])
    recognizer.enroll("naïve_café", [toy.picture("red", seed=1)] * (2 * SHOTS))
    assert recognizer.bank.names == ("naïve café",)
    assert recognizer.bank.shots("naïve café") == 1 + 2 * SHOTS
    for features in (recognizer.bank.support, recognizer.bank.query):
        np.testing.assert_allclose(features[1:], features[[1]].repeat(2 * SHOTS, axis=0), atol=1e-5)


def test_a_prompt_of_ones_own_stays_with_its_class(recognizer: Recognizer) -> None:
    own = np.linspace(-3, 3, toy.TEXT.dim, dtype=np.float32)
    recognizer.enroll("my dog", [toy.picture("red")], prompt=own)
    recognizer.enroll("my dog", [toy.picture("red", seed=1)])
    assert recognizer.bank.shots("my dog") == 2
    np.testing.assert_array_equal(recognizer.bank.prompts[0], own)
    crop = recognizer.bundle.manifest.preprocess(toy.picture("red"))[None]
    np.testing.assert_allclose(recognizer.bank.support[0], toy.features(crop, own[None])[0], atol=1e-5)


def test_forget(taught: Recognizer) -> None:
    taught.forget("green")
    assert taught.bank.names == ("red", "blue")
    assert taught.classify(toy.picture("blue")).class_index == 1
    with pytest.raises(BankError, match="no class 'green'"):
        taught.forget("green")


def test_teaching_that_fails_leaves_the_bank_alone(taught: Recognizer) -> None:
    before = taught.bank
    good, dim = toy.picture("red"), toy.TEXT.dim
    with pytest.raises(BankError, match="nothing to learn"):
        taught.enroll("red", [])
    with pytest.raises(PromptError, match="no class 'quagga'"):
        taught.enroll("quagga", [good])
    with pytest.raises(BankError, match="another prompt"):
        taught.enroll("red", [good], prompt=np.ones(dim, np.float32))
    with pytest.raises(BankError, match="unknown"):
        taught.enroll("unknown", [good], prompt=np.ones(dim, np.float32))
    for prompt in (np.ones(dim - 1, np.float32), np.ones(dim), np.full(dim, np.nan, np.float32), np.ones((1, dim), np.float32)):
        with pytest.raises(PromptError, match="does not fit"):
            taught.enroll("dog", [good], prompt=prompt)
    with pytest.raises(ImageError):
        taught.enroll("dark night", [good, good[..., 0]])
    assert taught.bank is before


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (0, 32, 3)])
def test_what_is_no_image(taught: Recognizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError):
        taught.classify(np.zeros(shape, np.uint8))


def test_a_bank_goes_to_a_file_and_back(taught: Recognizer, toy_bundle: Path, tmp_path: Path) -> None:
    taught.bank.save(tmp_path / "bank.safetensors")
    with Recognizer.load(str(toy_bundle), bank=str(tmp_path / "bank.safetensors")) as again:
        assert again.bank.names == tuple(toy.COLOURS)
        assert again.classify(toy.picture("green")).label == "green"


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


@pytest.fixture(scope="module")
def naming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that knows what the names of colours look like."""
    folder = tmp_path_factory.mktemp("names") / "model.spedge"
    return toy.make_bundle(folder, text_prototype=toy.looks_of_names(), by_name=ByName(0.0, 1.0, 0.25))


def test_a_class_by_its_name_alone(naming: Path, tmp_path: Path) -> None:
    with Recognizer.load(naming, bank=tmp_path / "bank", device="cpu") as recognizer:
        for name in toy.COLOURS:
            recognizer.enroll_by_name(name)
        assert recognizer.bank.by_name.all()
        for name in toy.COLOURS:
            prediction = recognizer.classify(toy.picture(name, seed=5))
            assert (prediction.label, prediction.similarity > 0.9) == (name, True)
        assert recognizer.head.thresholds.tolist() == [0.25] * 3
        with pytest.raises(BankError, match="nothing to learn"):
            recognizer.enroll("red", [])
        assert recognizer.problems("red", [toy.picture("red")]) == recognizer.problems("other", [toy.picture("red")])
        recognizer.enroll("red", [toy.picture("red")])
        assert recognizer.bank.by_name.tolist() == [False, True, True]
        with pytest.raises(BankError, match="taught from pictures"):
            recognizer.enroll_by_name("red")
        with pytest.raises(PromptError, match="does not fit"):
            recognizer.enroll_by_name("red", prompt=np.zeros(3, np.float32))
        with pytest.raises(PromptError, match="a prompt and a description"):
            recognizer.enroll_by_name("red", prompt=np.zeros(8, np.float32), description="a colour")
        recognizer.undo()
        assert recognizer.bank.by_name.all()


def test_a_bundle_that_tells_no_looks_of_names(recognizer: Recognizer) -> None:
    with pytest.raises(BankError, match="cannot know 'red' by its name alone") as raised:
        recognizer.enroll_by_name("red")
    assert raised.value.next_step == "sp-edge enroll --name red PICTURES"
    assert recognizer.bank.names == ()


def test_what_is_not_of_a_class(taught: Recognizer) -> None:
    orange = np.clip(toy.picture("red", seed=8) + np.array([0, 70, 0]), 0, 255).astype(np.uint8)
    assert taught.classify(orange).label == "red"
    with pytest.raises(BankError, match="'mug' was not taught"):
        taught.enroll_not("mug", [orange])
    taught.enroll_not("red", [orange, orange[::-1]], views=2)
    assert taught.bank.shots("not 'red'") == 2
    rejected = taught.classify(orange)
    assert (rejected.label, rejected.name, rejected.class_index) == ("unknown", "not 'red'", None)
    assert rejected.top[0][0] == "not 'red'"
    assert [taught.classify(toy.picture(name, seed=9)).label for name in toy.COLOURS] == list(toy.COLOURS)
    np.testing.assert_array_equal(taught.bank.support[-2:], taught.bank.query[-2:])
    with pytest.raises(BankError, match="nothing to learn"):
        taught.enroll_not("red", [])
    taught.forget("red")
    assert taught.bank.names == ("green", "blue")


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose support graph tells where it finds a name."""
    return toy.make_bundle(tmp_path_factory.mktemp("scores") / "model.spedge", scored=True, text_prototype=toy.looks_of_names())


def half_red() -> np.ndarray:
    """Red on the left, blue on the right."""
    return np.concatenate([toy.picture("red", side=64)[:, :32], toy.picture("blue", side=64)[:, 32:]], axis=1)


def test_where_a_name_is_in_a_picture(scoring: Path) -> None:
    with Recognizer.load(scoring, device="cpu") as recognizer:
        look = recognizer.look(half_red(), "red")
        crop = recognizer.bundle.manifest.preprocess(half_red())
        np.testing.assert_array_equal(look.image_rgb, crop)
        expected = toy.scores(crop[None], toy.prompts().vector("red")[None])[0]
        np.testing.assert_allclose(look.heat, expected, atol=1e-4)
        assert look.evidence == pytest.approx(np.sort(expected, axis=None)[-5:].mean(), abs=1e-4)
        assert look.heat[:, 0].min() > 1 > look.heat[:, -1].max()
        shown = look.picture()
        assert shown.shape == crop.shape
        assert np.abs(shown[:, :4].astype(int) - crop[:, :4]).mean() < np.abs(shown[:, -4:].astype(int) - crop[:, -4:]).mean()
        assert recognizer.bank.names == ()
        given = recognizer.look(half_red(), "anything", prompt=toy.prompts().vector("red"))
        np.testing.assert_array_equal(given.heat, look.heat)


def test_teaching_says_what_the_pictures_bear_out(scoring: Path) -> None:
    with Recognizer.load(scoring, device="cpu") as recognizer:
        pictures = [toy.picture("red"), half_red(), toy.picture("blue")]
        taught = recognizer.enroll("red", pictures, views=2)
        assert (taught.name, taught.familiarity, len(taught.evidence)) == ("red", 1, 3)
        expected = [recognizer.look(picture, "red").evidence for picture in pictures]
        assert taught.evidence == pytest.approx(expected)
        assert taught.unlike == (2,)
        assert replace(taught, familiarity=0.4).unlike == (), "a name that it cannot read is in no picture"
        both = recognizer.enroll_many({"green": [toy.picture("green")], "blue": [toy.picture("blue")]})
        assert [one.name for one in both] == ["green", "blue"]
        assert recognizer.enroll_by_name("naïve café").evidence == ()
        recognizer.enroll_not("red", [toy.picture("green", seed=3)])
        heats = recognizer.heats()
        assert [heat is None for heat in heats] == [False] * 5 + [True] * 2
        np.testing.assert_allclose(heats[1], recognizer.look(half_red(), "red").heat, atol=0.3)  # JPEG


def test_a_bundle_that_tells_no_places(taught: Recognizer) -> None:
    with pytest.raises(BundleError, match="does not tell where"):
        taught.look(toy.picture("red"), "red")
    with pytest.raises(BundleError, match="does not tell where"):
        taught.heats()
    assert taught.enroll("red", [toy.picture("red", seed=7)]).evidence == ()


def test_scores_that_cannot_be_used(scoring: Path) -> None:
    bundle = Bundle.load(scoring)
    backend = FakeBackend(np.zeros((1, toy.DIM), np.float32))
    backend.outputs["scores"] = np.full((1, 4, 4), np.nan, np.float32)
    with pytest.raises(BackendError, match="scores that cannot be used"):
        Recognizer(bundle, Bank.empty(bundle), backend).enroll("red", [toy.picture("red")])


def test_no_path_is_a_bundle_error() -> None:
    for path in (None, 5, b"model.spedge"):
        with pytest.raises(BundleError, match="path of a bundle"):
            Recognizer.load(path)  # type: ignore[arg-type]


class FakeBackend:
    """Answers with given features, and can be made to wait."""

    description = "fake"

    def __init__(self, feature: np.ndarray, plain: np.ndarray | None = None) -> None:
        self.outputs = {"feature": feature, "plain": feature if plain is None else plain}
        self.runs: list[tuple[str, int]] = []
        self.asked, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.closed = False

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.asked.set()
        assert self.go.wait(30)
        self.runs.append((graph, len(inputs["image"])))
        return {name: self.outputs[name] for name in (*OUTPUTS[graph], *sorted({"scores"} & set(self.outputs)))}

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> "FakeBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.mark.parametrize(
    "feature",
    [np.full((1, toy.DIM), np.nan, np.float32), np.full((1, toy.DIM), np.inf, np.float32), np.zeros((2, toy.DIM), np.float32)],
)
def test_features_that_cannot_be_used_never_become_a_result(toy_bundle: Path, feature: np.ndarray) -> None:
    bundle = Bundle.load(toy_bundle)
    with Recognizer(bundle, Bank.empty(bundle), FakeBackend(feature)) as recognizer:
        with pytest.raises(BackendError, match="query graph"):
            recognizer.classify(toy.picture("red"))
        with pytest.raises(BackendError, match="support graph"):
            recognizer.enroll("red", [toy.picture("red")])
        assert recognizer.bank.names == ()
    sound = np.ones((1, toy.DIM), np.float32)
    with Recognizer(bundle, Bank.empty(bundle), FakeBackend(sound, plain=feature)) as recognizer:
        with pytest.raises(BackendError, match="support graph"):
            recognizer.enroll("red", [toy.picture("red")])
        assert recognizer.bank.names == ()


def test_an_enrolment_runs_one_graph_once(toy_bundle: Path) -> None:
    bundle = Bundle.load(toy_bundle)
    backend = FakeBackend(*np.eye(2, toy.DIM, dtype=np.float32)[:, None])
    with Recognizer(bundle, Bank.empty(bundle), backend) as recognizer:
        recognizer.enroll("red", [toy.picture("red")], strength=0.0)
        bank = recognizer.bank
    assert backend.runs == [("support", 1)]
    np.testing.assert_array_equal(np.concatenate([bank.support, bank.query]), np.eye(2, toy.DIM))


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


def test_two_threads_may_teach(recognizer: Recognizer) -> None:
    def teach(name: str) -> None:
        for seed in range(5):
            recognizer.enroll(name, [toy.picture("red", seed=seed)])

    workers = [threading.Thread(target=teach, args=[name]) for name in toy.NAMES[:4]]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(recognizer.bank.names) == sorted(toy.NAMES[:4])
    assert [recognizer.bank.shots(name) for name in toy.NAMES[:4]] == [5] * 4
    assert recognizer.bank.version == 20


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


@pytest.mark.parametrize("name", [None, 5, ["red"], b"red"])
def test_a_name_that_is_no_text_is_refused(taught: Recognizer, name: Any) -> None:
    with pytest.raises(PromptError, match="a class name is text"):
        taught.enroll(name, [toy.picture("red")])
    with pytest.raises(PromptError, match="a class name is text"):
        taught.forget(name)


def test_many_pictures_go_through_the_network_in_parts(taught: Recognizer) -> None:
    images = [toy.picture(name) for name in toy.COLOURS] * QUERIES
    assert [p.label for p in taught.classify(images)] == list(toy.COLOURS) * QUERIES


def test_many_classes_are_taught_in_one_step(toy_bundle: Path, tmp_path: Path) -> None:
    shots = {name: [toy.picture(name, seed=seed) for seed in (1, 2)] for name in toy.COLOURS}
    own = np.linspace(-3, 3, toy.TEXT.dim, dtype=np.float32)
    with Recognizer.load(toy_bundle, device="cpu") as one_by_one:
        for name, images in shots.items():
            one_by_one.enroll(name, images, prompt=own if name == "blue" else None, strength=0.5)
        expected = one_by_one.bank
    for classes in (shots, iter(shots.items())):
        file = tmp_path / f"{type(classes).__name__}.spbank"
        with Recognizer.load(toy_bundle, bank=file, device="cpu") as recognizer:
            recognizer.enroll_many(classes, prompts={"blue": own}, strength=0.5)
            banks.same(recognizer.bank, expected)
            banks.same(Bank.load(file, recognizer.bundle), expected)
            recognizer.undo()
            assert recognizer.bank.names == (), "one step, which is taken back as one"


def test_many_classes_are_taught_all_or_none(taught: Recognizer) -> None:
    before = taught.bank
    red = toy.picture("red")
    for classes, error in (
        ({}, BankError),
        ({"dark night": [red], "bright day": []}, BankError),
        ({"dark night": [red], "bright day": [None]}, ImageError),
        ({"dark night": [red], "quagga": [red]}, PromptError),
    ):
        with pytest.raises(error):
            taught.enroll_many(classes)
    with pytest.raises(BankError, match="another prompt"):
        taught.enroll_many({"dark night": [red], "red": [red]}, prompts={"red": np.ones(toy.TEXT.dim, np.float32)})
    assert taught.bank is before


def test_a_bank_is_replaced_by_a_call_and_not_by_an_assignment(taught: Recognizer) -> None:
    empty = Bank.empty(taught.bundle)
    with pytest.raises(AttributeError):
        taught.bank = empty  # type: ignore[misc]
    taught.replace_bank(empty)
    assert taught.bank is empty
    assert taught.classify(toy.picture("red")).unknown


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


def test_views_are_averaged(recognizer: Recognizer) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    recognizer.enroll("red", [image, image[::-1]], views=3)
    prepared = [recognizer.bundle.manifest.preprocess(each) for each in (image, image[::-1])]
    expected = [toy.features(views(each, 3, flip=False)).mean(axis=0) for each in prepared]
    np.testing.assert_allclose(recognizer.bank.query, expected, atol=1e-5)
    assert recognizer.bank.shots("red") == 2
    wrong: list[Any] = [0, 1.5, "3"]
    for count in wrong:
        with pytest.raises(SettingsError, match="number of views"):
            recognizer.enroll("red", [image], views=count)


@pytest.mark.parametrize("mirrored", [True, False])
def test_views_are_mirrored_where_the_manifest_says_so(tmp_path: Path, mirrored: bool) -> None:
    left = np.zeros((toy.SIDE, toy.SIDE, 3), np.uint8)
    left[:, : toy.SIDE // 2] = 200
    with Recognizer.load(toy.make_bundle(tmp_path / "model.spedge", mirrored=mirrored), device="cpu") as recognizer:
        recognizer.enroll("red", [left], views=20)
        expected = toy.features(views(recognizer.bundle.manifest.preprocess(left), 20, flip=mirrored)).mean(axis=0)
        np.testing.assert_allclose(recognizer.bank.query[0], expected, atol=1e-5)


def test_a_bundle_that_was_exported_anew_meanwhile_teaches_nothing(toy_bundle: Path, tmp_path: Path) -> None:
    folder, bank = Path(shutil.copytree(toy_bundle, tmp_path / "model.spedge")), tmp_path / "classes.spbank"
    with Recognizer.load(folder, bank=bank, device="cpu") as recognizer:
        recognizer.classify(toy.picture("red"))  # the query graph is open, the support graph is not
        shutil.rmtree(folder)
        toy.make_bundle(folder, strength=0.3)
        with pytest.raises(BundleError, match=r"has changed: support\.onnx"):
            recognizer.enroll("red", [toy.picture("red")])
    assert not bank.exists()
