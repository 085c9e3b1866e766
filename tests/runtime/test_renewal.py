from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import encode_crop
from sp_edge.bank.file import BankFile
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import write_manifest
from sp_edge.errors import BankError, BundleError, PromptError
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from sp_edge_runtime.naming import Namer
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.renewal import Renewal, renew, renewed_bank


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose network reads prompts less, with a text encoder and a familiarity."""
    vectors = toy.prompts().vectors
    folder = tmp_path_factory.mktemp("other") / "other.spedge"
    return toy.make_bundle(folder, strength=0.6, text_encoder=True, familiarity=Familiarity.of(vectors))


@pytest.fixture
def file(toy_bundle: Path, tmp_path: Path) -> Path:
    """Red from three pictures, green from one, blue from two."""
    path = tmp_path / "shop.spbank"
    with Recognizer.load(toy_bundle, bank=path) as recognizer:
        for name, count in (("red", 3), ("green", 1), ("blue", 2)):
            recognizer.enroll(name, [toy.picture(name, side=48, seed=seed) for seed in range(count)])
        recognizer.set_threshold("red", 0.25)
        recognizer.set_strength("blue", 0)
    return path


def renewed(old: Bank, folder: Path, **options: PromptTable) -> tuple[Bank, Renewal]:
    bundle = Bundle.load(folder)
    with OnnxRuntimeBackend(bundle) as backend:
        return renewed_bank(old, bundle, backend, **options)


def test_classes_are_taught_again_from_their_pictures(file: Path, toy_bundle: Path, other: Path) -> None:
    before = Bank.read(file)
    with pytest.raises(BankError, match="another bundle") as raised:
        Recognizer.load(other, bank=file)
    assert raised.value.next_step.startswith(f"sp-edge bank renew {other} --bank {file} ")
    renewal = renew(file, other)
    bundle = Bundle.load(other)
    bank = Bank.load(file, bundle)
    assert (bank.names, bank.fingerprint, bank.version) == (before.names, bundle.fingerprint, before.version + 1)
    assert bank.crops.tolist() == before.crops.tolist(), "they are not pressed again"
    np.testing.assert_allclose(bank.query, before.query, atol=0.02)  # the toy networks see alike but for the prompt
    assert renewal.bundle == (before.fingerprint, bank.fingerprint)
    assert [(one.name, one.shots, one.prompt) for one in renewal.classes] == [
        ("red", 3, "bank"), ("green", 1, "bank"), ("blue", 2, "bank"),
    ]  # fmt: skip
    assert [None if share is None else (share.count, share.total) for share in renewal.accuracy] == [(5, 5), (5, 5)]
    with Recognizer.load(other, bank=file) as recognizer:
        for name in toy.COLOURS:
            assert recognizer.classify(toy.picture(name, seed=9)).name == name


def test_it_is_taken_back_in_one_step(file: Path, toy_bundle: Path, other: Path) -> None:
    before = file.read_bytes()
    renew(file, other)
    with Recognizer.load(other, bank=file) as recognizer, pytest.raises(BankError, match="belongs to another") as raised:
        recognizer.undo()
    assert "sp-edge bank undo" in raised.value.next_step
    now, undone = BankFile(file, Bundle.load(other)).undo()
    assert (now.fingerprint, undone.fingerprint) == (Bundle.load(other).fingerprint, Bundle.load(toy_bundle).fingerprint)
    with Recognizer.load(toy_bundle, bank=file) as recognizer:
        assert recognizer.bank.names == ("red", "green", "blue")
        recognizer.undo()
        assert recognizer.bank.strengths[2] != 0, "and what was before it"
    assert file.read_bytes() != before


def test_a_bank_of_the_bundle_is_left_alone(file: Path, toy_bundle: Path) -> None:
    before = file.read_bytes()
    renewal = renew(file, toy_bundle)
    assert renewal.lines() == ["the bank is of this bundle already: nothing to renew"]
    assert (renewal.classes, file.read_bytes()) == ((), before)


def test_strengths_are_chosen_as_enrolment_does(file: Path, other: Path, tmp_path: Path) -> None:
    bank, renewal = renewed(Bank.read(file), other)
    with Recognizer.load(other, bank=tmp_path / "taught") as recognizer:
        recognizer.enroll("red", [toy.picture("red")])
        assert bank.strengths[0] == recognizer.bank.strengths[0]
    assert bank.strengths[2] == 0, "a user ignores this name"
    assert renewal.classes[0].strength == (1.0, bank.strengths[0])
    assert any(line.startswith("'red': strength 1.000 -> ") for line in renewal.lines())


def test_thresholds_are_kept_only_where_cosines_mean_the_same(file: Path, toy_bundle: Path, other: Path) -> None:
    old = Bank.read(file)
    bank, renewal = renewed(old, other)
    assert np.isnan(bank.thresholds).all()
    assert renewal.classes[0].threshold == (0.25, None)
    assert "'red': threshold 0.250 -> calibrated: the two bundles' cosines differ" in renewal.lines()
    crops = np.array([encode_crop(toy.picture(name)) for name in ("red", "red", "red", "green", "blue", "blue")], object)
    exact, _ = renewed(dataclasses.replace(old, crops=crops), toy_bundle)  # features and pictures that belong together
    again, renewal = renewed(dataclasses.replace(exact, fingerprint="0" * 64).with_threshold("red", 0.25), toy_bundle)
    assert again.thresholds[0] == 0.25
    assert min(one.cosine or 0 for one in renewal.classes) > 0.9999
    assert not any("threshold" in line for line in renewal.lines())


# --- prompts of another text encoder ---


def of_another_encoder(file: Path) -> Bank:
    bank = Bank.read(file)
    text = dataclasses.replace(bank.text, revision="1", dim=3)
    return dataclasses.replace(bank, text=text, prompts=np.ones((3, 3), np.float32), descriptions={"green": ("a leaf",)})


def test_prompts_are_found_anew_and_descriptions_kept(file: Path, other: Path) -> None:
    bank, renewal = renewed(of_another_encoder(file), other)
    assert [one.prompt for one in renewal.classes] == ["table", "description", "table"]
    np.testing.assert_array_equal(bank.prompts[0], toy.prompts().vector("red"))
    np.testing.assert_allclose(bank.prompts[1], toy.prompt("a leaf"), atol=1e-5)
    assert bank.descriptions == {"green": ("a leaf",)}
    given = PromptTable(toy.TEXT, ("green",), toy.prompts().only(["blue"]).vectors)
    bank, renewal = renewed(of_another_encoder(file), other, prompts=given)
    assert [one.prompt for one in renewal.classes] == ["table", "given", "table"]
    np.testing.assert_array_equal(bank.prompts[1], toy.prompts().vector("blue"))
    _, renewal = renewed(Bank.read(file), other, prompts=given)
    assert [one.prompt for one in renewal.classes] == ["bank", "given", "bank"], "also where the others are kept"


def test_names_without_a_prompt_are_refused_and_the_file_stays(file: Path, tmp_path: Path) -> None:
    plain = toy.make_bundle(tmp_path / "plain", strength=0.3)  # carries no text encoder
    of_another_encoder(file).save(file)
    before = file.read_bytes()
    with pytest.raises(PromptError, match="cannot encode the description of 'green'") as raised:
        renew(file, plain)
    assert "--prompts" in raised.value.next_step
    assert file.read_bytes() == before
    with pytest.raises(PromptError, match="different ways"):
        renew(file, plain, prompts=PromptTable(dataclasses.replace(toy.TEXT, norm=1.0), (), np.zeros((0, 8), np.float32)))


# --- pictures ---


def test_pictures_of_another_size_are_resized_and_told(file: Path, toy_bundle: Path, tmp_path: Path) -> None:
    old = Bank.read(file)
    large = np.array([encode_crop(toy.picture("red", side=64))] * len(old.crops), object)
    bank, renewal = renewed(dataclasses.replace(old, crops=large), toy_bundle)
    assert renewal.side == ((64,), 32)
    assert any("resized from 64 to 32 pixels" in line for line in renewal.lines())
    assert bank.crops.tolist() == large.tolist(), "the larger ones are kept"


def test_a_picture_that_cannot_be_read_leaves_the_file(file: Path, other: Path) -> None:
    bank = Bank.read(file)
    bank.crops[2] = b"no picture"
    bank.save(file)
    before = file.read_bytes()
    with pytest.raises(BankError, match="picture in the bank cannot be read"):
        renew(file, other)
    assert file.read_bytes() == before


def test_features_of_another_length(file: Path, toy_bundle: Path, tmp_path: Path) -> None:
    old = Bank.read(file)
    short = dataclasses.replace(old, support=old.support[:, :5].copy(), query=old.query[:, :5].copy())
    bank, renewal = renewed(short, toy_bundle)
    assert bank.support.shape == (6, toy.DIM)
    assert {one.cosine for one in renewal.classes} == {None}
    assert not any("cosine" in line and "features" in line for line in renewal.lines())


def test_its_json(file: Path, other: Path) -> None:
    _, renewal = renewed(Bank.read(file), other)
    said = renewal.to_json()
    assert said["accuracy"]["new"]["count"] == 5
    assert said["picture_side"] == {"old": [32], "new": 32}
    assert said["classes"][0]["threshold"] == {"old": 0.25, "new": None}
    assert said["classes"][1]["name"] == "green"


def test_an_empty_bank_and_single_shots(toy_bundle: Path, other: Path) -> None:
    empty = Bank.empty(Bundle.load(toy_bundle))
    bank, renewal = renewed(empty, other)
    assert (bank.names, renewal.accuracy, renewal.classes) == ((), (None, None), ())
    assert renewal.lines() == []


def test_a_bundle_that_was_exported_again_needs_none(file: Path, toy_bundle: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(toy_bundle, tmp_path / "again"))
    bundle = Bundle.load(again)
    write_manifest(again, dataclasses.replace(bundle.manifest, versions={"sp-edge": "another"}))
    with Recognizer.load(again, bank=file) as recognizer:
        assert recognizer.bank.names == ("red", "green", "blue")


def test_the_text_encoder_is_given_back_where_it_cannot_be_used(
    file: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Namer] = []

    def broken(namer: Namer, *_: object) -> None:
        raise BundleError("the text encoder cannot be used")

    def close(namer: Namer) -> None:
        closed.append(namer)

    monkeypatch.setattr(Namer, "prompt", broken)
    monkeypatch.setattr(Namer, "close", close)
    old = dataclasses.replace(Bank.read(file), text=dataclasses.replace(Bank.read(file).text, template="{}!"))
    with pytest.raises(BundleError, match="cannot be used"):
        renewed(old, other)
    assert len(closed) == 1


def test_names_alone_and_rejects_are_made_again(tmp_path: Path, other: Path) -> None:
    looks = toy.looks_of_names()
    old = toy.make_bundle(tmp_path / "old.spedge", text_prototype=looks)
    new = toy.make_bundle(
        tmp_path / "new.spedge", strength=0.5, text_prototype=dataclasses.replace(looks, weight=2 * looks.weight)
    )
    file = tmp_path / "bank"
    with Recognizer.load(old, bank=file) as recognizer:
        recognizer.enroll("red", [toy.picture("red")])
        recognizer.enroll_by_name("blue")
        recognizer.enroll_not("red", [toy.picture("green"), toy.picture("green", seed=4)])
    before = Bank.read(file)
    with pytest.raises(BankError, match="cannot know 'blue' by its name alone"):
        renew(file, other)
    assert Bank.read(file).fingerprint == before.fingerprint
    renewal = renew(file, new)
    bank = Bank.read(file)
    assert (bank.names, bank.rejects, bank.by_name.tolist()) == (before.names, before.rejects, [False, True, False])
    assert [(one.name, one.shots) for one in renewal.classes] == [("red", 1), ("blue", 0), ("not 'red'", 2)]
    np.testing.assert_allclose(bank.query[1], 2 * before.query[1], rtol=1e-5)
    np.testing.assert_allclose(bank.query[2:], before.query[2:], atol=0.02)
    assert bank.strengths.tolist() == [0.5, 0.5, 0]
    assert [one.label for one in Head.of(bank, Bundle.load(new).background(), toy.calibration()).matches(bank.query)] == [
        "red", "blue", "unknown", "unknown",
    ]  # fmt: skip


def test_the_fit_stays(toy_bundle: Path, other: Path, tmp_path: Path) -> None:
    wide = np.concatenate([toy.picture(name, side=60)[:40] for name in ("red", "blue")], axis=1)
    with Recognizer.load(toy_bundle, bank=tmp_path / "padded.spbank", fit="pad") as recognizer:
        recognizer.enroll("red", [wide])
    renew(tmp_path / "padded.spbank", other)
    with Recognizer.load(other, bank=tmp_path / "padded.spbank") as recognizer:
        assert recognizer.bank.fit == "pad"
        assert recognizer.classify(wide).view == (0, 0, 120, 40)
        assert recognizer.classify(wide).similarity > 0.99
