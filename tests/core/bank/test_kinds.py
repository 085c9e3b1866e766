"""Classes that are known by their name alone, and what is taught as not being of a class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banks import D, prompt, same, shots, taught
from sp_edge.bank.advice import left_out, review
from sp_edge.bank.bank import Bank, reject_name
from sp_edge.bank.crops import NO_PICTURE
from sp_edge.bank.diff import diff
from sp_edge.bank.file import BankFile, digest
from sp_edge.bank.head import Head
from sp_edge.bank.merge import merge
from sp_edge.bank.page import describe, export_bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.matching.unknown import ByName
from sp_edge.tensors import load_tensors, save_tensors

NOT_FOX = "not 'red fox'"


def axis(*weights: float) -> np.ndarray:
    return np.array([*weights, *[0.0] * (D - len(weights))], np.float32)


def named(bundle: Bundle) -> Bank:
    """The three classes, and a hammer that nobody has seen."""
    return taught(bundle).add_by_name("hammer", prompt(7), axis(3), description=["a tool"])


def rejecting(bundle: Bundle) -> Bank:
    """The three classes, and two pictures of no red fox."""
    return taught(bundle).add_reject("red_fox", *shots(2, 40)[1:])


def head_of(bank: Bank, bundle: Bundle, by_name: ByName | None = None, **options: object) -> Head:
    calibration = replace(bundle.manifest.calibration, by_name=by_name)
    return Head.of(bank, bundle.background(), calibration, **options)  # type: ignore[arg-type]


# --- names alone ---


def test_a_name_alone_is_one_shot_without_a_picture(bundle: Bundle) -> None:
    bank = named(bundle)
    assert bank.by_name.tolist() == [False, False, False, True]
    assert (bank.shots("hammer"), bank.crops[-1], bank.descriptions) == (0, NO_PICTURE, {"hammer": ("a tool",)})
    np.testing.assert_allclose(bank.prototypes[3], axis(1))
    assert bank.strengths[3] == 0.8
    again = bank.add_by_name("hammer", prompt(7), axis(0, 2))
    np.testing.assert_allclose(again.prototypes[3], axis(0, 1))
    assert len(again.owners) == len(bank.owners)


def test_the_first_pictures_take_the_names_place(bundle: Bundle) -> None:
    bank = named(bundle).with_threshold("hammer", 0.25)
    support, query, crops = shots(2, 30)
    shown = bank.add("hammer", prompt(7), support, query, crops)
    assert not shown.by_name.any()
    assert (shown.shots("hammer"), shown.version) == (2, bank.version + 1)
    np.testing.assert_array_equal(shown.query[shown.owners == 3], query)
    assert (shown.thresholds[3], shown.strengths[3]) == (0.25, 0.8)
    with pytest.raises(BankError, match="taught from pictures"):
        shown.add_by_name("hammer", prompt(7), axis(1))
    with pytest.raises(BankError, match="another prompt"):
        bank.add("hammer", prompt(8), support, query, crops)
    assert shown.remove("hammer", 0).remove("hammer", 0).names == taught(bundle).names


def test_pictures_and_a_name_alone_do_not_mix(bundle: Bundle) -> None:
    bank = named(bundle)
    with pytest.raises(BankError, match="do not fit"):
        replace(bank, owners=np.where(bank.owners == 3, 2, bank.owners), names=bank.names[:3], prompts=bank.prompts[:3])
    with pytest.raises(BankError, match="shots and classes"):
        taught(bundle).add("café", prompt(2), axis(1)[None], axis(1)[None], [NO_PICTURE])


def test_cosines_to_a_name_are_brought_to_the_others_scale(bundle: Bundle) -> None:
    bank, scale = named(bundle), ByName(offset=0.25, scale=2.0, threshold=0.6)
    query = np.random.default_rng(0).normal(size=(9, D)).astype(np.float32)
    plain, scaled = head_of(bank, bundle).similarities(query), head_of(bank, bundle, scale).similarities(query)
    np.testing.assert_array_equal(scaled[:, :3], plain[:, :3])
    np.testing.assert_allclose(scaled[:, 3], np.clip(0.25 + 2 * plain[:, 3], -1, 1), atol=1e-6)
    head = head_of(bank, bundle, scale)
    assert head.thresholds[3] == np.float32(0.6)
    assert [found.similarity for found in head.matches(query)] == pytest.approx(scaled.max(axis=1).tolist())
    assert head_of(bank.with_threshold("hammer", 0.1), bundle, scale).thresholds[3] == np.float32(0.1)
    assert head_of(bank, bundle, scale, threshold=0.3).thresholds.tolist() == pytest.approx([0.3] * 4)


@pytest.mark.parametrize("number", [{"scale": 0}, {"scale": np.inf}, {"offset": np.nan}, {"threshold": 1.5}])
def test_a_scale_that_cannot_be(number: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="scale"):
        ByName(**{"offset": 0, "scale": 1, "threshold": 0.5, **number})


def test_a_name_says_nothing_of_how_pictures_vary(bundle: Bundle) -> None:
    before, after = (head_of(bank, bundle) for bank in (taught(bundle), named(bundle)))
    np.testing.assert_array_equal(after.metric.matrix, before.metric.matrix)
    assert replace(after.level, classes=3) == before.level
    assert after.level.classes == 4
    alone = head_of(Bank.empty(bundle).add_by_name("hammer", prompt(7), axis(3)), bundle)
    assert alone.level.pairs == alone.level.left_out == 0
    assert alone.matches(axis(2)[None])[0].label == "hammer"


def test_a_name_alone_is_asked_for_a_picture_and_never_judged(bundle: Bundle) -> None:
    bank = named(bundle)
    found = review(bank, head_of(bank, bundle))
    before = review(taught(bundle), head_of(taught(bundle), bundle))
    assert found.left_out == before.left_out == 5
    assert "hammer" not in {pair.name for pair in found.confusions}
    assert "add a picture of 'hammer': a name alone does not show how the thing looks here" in found.advice
    assert not any("second picture of 'hammer'" in line for line in found.advice)
    assert (left_out(bank) or left_out(taught(bundle))).total == 5  # type: ignore[union-attr]
    alone = Bank.empty(bundle).add_by_name("hammer", prompt(7), axis(3))
    assert review(alone, head_of(alone, bundle)).accuracy is None
    assert left_out(alone) is None


# --- rejects ---


def test_what_is_nearest_to_a_reject_is_unknown(bundle: Bundle) -> None:
    bank = rejecting(bundle)
    assert bank.names[3] == NOT_FOX == reject_name("red_fox")
    assert (bank.classes, bank.rejecting.tolist(), bank.strengths[3]) == (bank.names[:3], [False] * 3 + [True], 0)
    np.testing.assert_array_equal(bank.prompts[3], bank.prompts[0])
    for classifier in ("prototype", "lr"):
        head = head_of(bank, bundle, threshold=-1, classifier=classifier)
        found = head.matches(bank.query)
        assert [match.label for match in found[-2:]] == ["unknown"] * 2
        assert {match.name for match in found[-2:]} == {NOT_FOX} == {match.top[0][0] for match in found[-2:]}
        assert all(match.unknown == (match.name == NOT_FOX) for match in found)
    more = bank.add_reject("red fox", *shots(1, 41)[1:])
    assert (more.shots(NOT_FOX), more.names) == (3, bank.names)


def test_a_reject_says_nothing_of_how_classes_vary(bundle: Bundle) -> None:
    before, after = (head_of(bank, bundle) for bank in (taught(bundle), rejecting(bundle)))
    np.testing.assert_array_equal(after.metric.matrix, before.metric.matrix)
    assert after.level == before.level


def test_a_reject_needs_its_class_and_goes_with_it(bundle: Bundle) -> None:
    bank = rejecting(bundle)
    assert bank.remove("red fox").names == ("polar bear", "café")
    assert bank.remove("red fox", 0).names == bank.names
    assert bank.remove(NOT_FOX).rejects == {}
    assert bank.remove(NOT_FOX, 0).shots(NOT_FOX) == 1
    for name in ("wolf", NOT_FOX):
        with pytest.raises(BankError, match="was not taught") as raised:
            bank.add_reject(name, *shots(1)[1:])
        assert raised.value.expected == "red fox, polar bear, café"
    with pytest.raises(BankError, match="cannot be called"):
        bank.add(NOT_FOX, prompt(0), *shots(1))
    with pytest.raises(BankError, match="a class is called"):
        taught(bundle).add(NOT_FOX, prompt(0), *shots(1)).add_reject("red fox", *shots(1)[1:])
    with pytest.raises(BankError, match="no strength"):
        bank.with_strength(NOT_FOX, 0.5)
    with pytest.raises(BankError, match="no threshold"):
        bank.with_threshold(NOT_FOX, 0.5)
    for rejects in ({"wolf": "red fox"}, {NOT_FOX: "wolf"}, {NOT_FOX: NOT_FOX}):
        with pytest.raises(BankError, match="rejects do not fit"):
            replace(bank, rejects=rejects)


def test_a_class_that_is_like_its_reject_is_told(bundle: Bundle) -> None:
    bank = Bank.empty(bundle).add("mug", prompt(0), *[axis(3, 1)[None]] * 2, [b"picture"])
    bank = bank.add_reject("mug", axis(3, 0.9)[None], [b"other"])
    found = review(bank, head_of(bank, bundle))
    assert [(pair.name, pair.other) for pair in found.confusions] == [("mug", "not 'mug'")]
    chance = f"{100 * found.confusions[0].probability:.0f} %"
    assert found.advice[0] == f"add a picture of 'mug': the class may be called unknown, as what is not 'mug' ({chance})"


# --- both ---


def both(bundle: Bundle) -> Bank:
    return named(bundle).add_reject("red fox", *shots(2, 40)[1:]).add_reject("hammer", *shots(1, 50)[1:])


def test_a_file_gives_both_back_and_a_change_is_undone(bundle: Bundle, tmp_path: Path) -> None:
    file = BankFile(tmp_path / "bank", bundle)
    file.change(lambda _: both(bundle))
    read = Bank.load(tmp_path / "bank", bundle)
    same(read, both(bundle))
    assert read.rejects == {NOT_FOX: "red fox", "not 'hammer'": "hammer"}
    shown = file.change(lambda bank: bank.add("hammer", prompt(7), *shots(1, 60)))
    assert not shown.by_name.any()
    _, undone = file.undo()
    assert undone.by_name.tolist() == read.by_name.tolist()
    assert digest(undone) == digest(read) != digest(replace(read, rejects={}))
    tensors, described = load_tensors(tmp_path / "bank", BankError)
    for rejects in ([], {"a": 1}, {NOT_FOX: "wolf"}):
        save_tensors(tmp_path / "bank", tensors, {**described, "rejects": rejects})
        with pytest.raises(BankError):
            Bank.read(tmp_path / "bank")


def test_merging(bundle: Bundle) -> None:
    ours, shown = named(bundle), taught(bundle).add("hammer", prompt(7), *shots(2, 30), description=["a tool"])
    for merged in (merge(ours, shown), merge(shown, ours), merge(ours, shown, prefer="theirs")):
        assert not merged.by_name.any()
        assert merged.shots("hammer") == 2
    assert merge(shown, ours) is shown
    assert merge(ours, ours) is ours
    other = taught(bundle).add("hammer", prompt(8), *shots(2, 30))
    assert merge(ours, other, prefer="ours").by_name[3]
    assert merge(ours, other, prefer="theirs").shots("hammer") == 2
    assert merge(other, ours, prefer="theirs").by_name[3]
    together = merge(taught(bundle), both(bundle))
    assert diff(together, both(bundle)) == ()
    assert together.rejects == both(bundle).rejects
    a_class = taught(bundle).add(NOT_FOX, prompt(0), *shots(1))
    for ours, theirs in ((rejecting(bundle), a_class), (a_class, rejecting(bundle))):
        with pytest.raises(BankError, match="do not go together"):
            merge(ours, theirs)


def test_differences(bundle: Bundle) -> None:
    (added,) = diff(taught(bundle), named(bundle))
    assert (added.change, added.shots, added.by_name) == ("added", (0, 0), (False, True))
    (shown,) = diff(named(bundle), named(bundle).add("hammer", prompt(7), *shots(1)))
    assert (shown.change, shown.shots, shown.shots_added, shown.by_name) == ("changed", (0, 1), 1, (True, False))
    (rejected,) = diff(taught(bundle), rejecting(bundle))
    assert (rejected.name, rejected.change, rejected.shots_added) == (NOT_FOX, "added", 2)


def test_the_description_and_the_page_say_so(bundle: Bundle, tmp_path: Path) -> None:
    bank = named(bundle).add_reject("red fox", *shots(2, 40)[1:])
    classes = json.loads(json.dumps(describe(bank)))["classes"]
    assert [(c["shots"], c["by_name"], c["not"]) for c in classes[2:]] == [
        (3, False, None),
        (0, True, None),
        (2, False, "red fox"),
    ]
    export_bank(bank, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "known by its name alone, threshold calibrated" in page
    assert "2 shots: what is nearest to them is unknown" in page
    assert page.count("<img") == 8
    assert "<p>4 classes, version" in page


KINDS = st.lists(st.sampled_from(["shot", "name", "not"]), min_size=1, max_size=12)


@given(steps=KINDS, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_any_order_of_teaching_and_forgetting_leaves_a_sound_bank(bundle: Bundle, steps: list[str], seed: int) -> None:
    rng, bank = np.random.default_rng(seed), Bank.empty(bundle)
    for number, step in enumerate(steps):
        name = f"class {rng.integers(3)}"
        new = name not in bank.rows
        if step == "shot":
            bank = bank.add(name, prompt(int(name[-1])), *shots(1, number))
        elif step == "name" and (new or bank.by_name[bank.rows[name]]):
            bank = bank.add_by_name(name, prompt(int(name[-1])), shots(1, number)[1][0])
        elif step == "not" and not new:
            bank = bank.add_reject(name, *shots(1, number)[1:])
        elif not new and rng.random() < 0.3:
            bank = bank.remove(name)
    heads = [head_of(bank, bundle, ByName(0.1, 1.5, 0.5), classifier=classifier) for classifier in ("prototype", "lr")]
    for head in heads:
        for match in head.matches(bank.query):
            assert match.label in {*bank.classes, "unknown"}
        assert all(name in bank.classes for name in [stray.name for stray in review(bank, head).strays])
    assert diff(bank, merge(Bank.empty(bundle), bank)) == ()
