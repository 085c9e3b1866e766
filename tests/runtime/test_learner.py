import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import banks
import toy
from fake_backend import FakeBackend
from sp_edge.bank.bank import Bank
from sp_edge.bank.views import views
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, BundleError, ImageError, PromptError, SettingsError
from sp_edge.matching.decide import unit
from sp_edge.matching.unknown import ByName
from sp_edge.prompts.familiarity import Familiarity
from sp_edge_runtime.features import SHOTS
from sp_edge_runtime.recognizer import Recognizer


def test_the_prompt_takes_part_in_what_is_learnt(recognizer: Recognizer) -> None:
    shot = toy.picture("red")
    recognizer.enroll("red", [shot])
    red = recognizer.bank
    recognizer.forget("red")
    recognizer.enroll("green", [shot])
    assert np.abs(recognizer.bank.support - red.support).max() > 0.01
    np.testing.assert_allclose(recognizer.bank.query, red.query, atol=1e-6)


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
    shot, another, third = (toy.picture("red", seed=seed) for seed in range(3))
    with Recognizer.load(toy.make_bundle(tmp_path / "a", strength=0.8, familiarity=familiarity), device="cpu") as recognizer:
        recognizer.enroll("red", [shot])
        recognizer.enroll("thing 17", [another], prompt=strange)
        recognizer.enroll("said", [third], prompt=strange, strength=0.8)
        less = recognizer.familiarity(strange)
        assert less == pytest.approx(float(familiarity(strange)))
        assert less < 0.5
        assert recognizer.bank.strengths.tolist() == [0.8, 0.8 * less, 0.8]
        recognizer.set_strength("thing 17", 0.5)
        recognizer.enroll("thing 17", [another])
        assert recognizer.bank.strengths.tolist() == [0.8, 0.5, 0.8]
    with Recognizer.load(toy.make_bundle(tmp_path / "b", strength=0.8), device="cpu") as recognizer:
        recognizer.enroll("thing 17", [shot], prompt=strange)
        assert recognizer.familiarity(strange) == 1
        assert recognizer.bank.strengths.tolist() == [0.8], "a bundle that cannot tell leaves the strength alone"


def test_the_strength_of_a_taught_class_changes(recognizer: Recognizer) -> None:
    shot = toy.picture("red")
    recognizer.enroll("red", [shot, shot])
    recognizer.enroll("green", [toy.picture("green")], strength=0.3)
    query = recognizer.bank.query[[0, 2]]
    for name, strength in (("red", 0.0), ("green", 0.0)):
        recognizer.set_strength(name, strength)
    np.testing.assert_allclose(recognizer.bank.prototypes, unit(query), atol=1e-6)
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


def test_a_stack_of_images_is_as_good_as_a_list(recognizer: Recognizer) -> None:
    recognizer.enroll("red", np.stack([toy.picture("red"), toy.picture("red", seed=1)]))
    assert recognizer.bank.shots("red") == 2


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


def test_a_bank_goes_to_a_file_and_back(taught: Recognizer, toy_bundle: Path, tmp_path: Path) -> None:
    taught.bank.save(tmp_path / "bank.safetensors")
    with Recognizer.load(str(toy_bundle), bank=str(tmp_path / "bank.safetensors")) as again:
        assert again.bank.names == tuple(toy.COLOURS)
        assert again.classify(toy.picture("green")).label == "green"


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


def test_an_enrolment_runs_one_graph_once(toy_bundle: Path) -> None:
    bundle = Bundle.load(toy_bundle)
    backend = FakeBackend(*np.eye(2, toy.DIM, dtype=np.float32)[:, None])
    with Recognizer(bundle, Bank.empty(bundle), backend) as recognizer:
        recognizer.enroll("red", [toy.picture("red")], strength=0.0)
        bank = recognizer.bank
    assert backend.runs == [("support", 1)]
    np.testing.assert_array_equal(np.concatenate([bank.support, bank.query]), np.eye(2, toy.DIM))


def test_two_threads_may_teach(recognizer: Recognizer) -> None:
    def teach(name: str) -> None:
        for seed in range(5):
            recognizer.enroll(name, [toy.picture("red", seed=10 * toy.NAMES.index(name) + seed)])

    workers = [threading.Thread(target=teach, args=[name]) for name in toy.NAMES[:4]]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(recognizer.bank.names) == sorted(toy.NAMES[:4])
    assert [recognizer.bank.shots(name) for name in toy.NAMES[:4]] == [5] * 4
    assert recognizer.bank.version == 20


@pytest.mark.parametrize("name", [None, 5, ["red"], b"red"])
def test_a_name_that_is_no_text_is_refused(taught: Recognizer, name: Any) -> None:
    with pytest.raises(PromptError, match="a class name is text"):
        taught.enroll(name, [toy.picture("red")])
    with pytest.raises(PromptError, match="a class name is text"):
        taught.forget(name)


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


def test_spellings_of_one_new_name_are_taught_as_one_class(toy_bundle: Path) -> None:
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        learned = recognizer.enroll_many({name: [toy.picture("red", seed=i)] for i, name in enumerate(["red", "RED", "Red"])})
        assert [one.name for one in learned] == ["red"] * 3
        assert (recognizer.bank.names, recognizer.bank.shots("red")) == (("red",), 3)


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
        own = {"red": np.ones(toy.TEXT.dim, np.float32)}
        taught.enroll_many({"dark night": [red], "red": [toy.picture("red", seed=9)]}, prompts=own)
    assert taught.bank is before


def test_a_bank_is_replaced_by_a_call_and_not_by_an_assignment(taught: Recognizer) -> None:
    empty = Bank.empty(taught.bundle)
    with pytest.raises(AttributeError):
        taught.bank = empty  # type: ignore[misc]
    taught.replace_bank(empty)
    assert taught.bank is empty
    assert taught.classify(toy.picture("red")).unknown


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


def test_what_a_prediction_saw_teaches_as_the_picture_itself(recognizer: Recognizer) -> None:
    image = toy.picture("red", side=80)
    seen = recognizer.classify(image)
    assert seen.crop_rgb is not None
    assert seen.feature is not None
    np.testing.assert_allclose(seen.feature, toy.features(seen.crop_rgb[None])[0], atol=1e-5)
    assert "crop_rgb" not in seen.to_json()
    recognizer.enroll("red", image)
    recognizer.enroll("red", seen.crop_rgb, prepared=True)
    np.testing.assert_allclose(recognizer.bank.query[0], recognizer.bank.query[1], atol=1e-5)
    assert [problem.what for problem in recognizer.problems("red", seen.crop_rgb, prepared=True)] == ["copy"]
    with pytest.raises(ImageError, match="not prepared"):
        recognizer.enroll("red", image, prepared=True)


def test_a_change_of_several_parts_is_one_step(recognizer: Recognizer) -> None:
    recognizer.enroll("red", toy.picture("red"))
    lesson = recognizer.lesson("green", toy.picture("green"))
    recognizer.change(lambda bank: lesson(bank.remove("red")))
    assert recognizer.bank.classes == ("green",)
    recognizer.undo()
    assert recognizer.bank.classes == ("red",)


def test_one_picture_of_two_things_teaches_both(recognizer: Recognizer) -> None:
    shot = toy.picture("red")
    recognizer.enroll("red", [shot])
    recognizer.enroll("green", [shot])
    assert recognizer.bank.crops[0] == recognizer.bank.crops[1]
    assert np.abs(recognizer.bank.prototypes[0] - recognizer.bank.prototypes[1]).max() > 0.01, "their names tell which is meant"
