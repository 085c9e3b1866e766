from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from banks import D, T, check, prompt, same, shots, stored, taught
from sp_edge.bank.bank import Bank
from sp_edge.bank.stored import PARTS
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, PromptError
from sp_edge.matching.decide import unit
from sp_edge.prompts.table import clean_name
from sp_edge.tensors import save_tensors

OWN = 0.8  # the bundle's strength


def at(bundle: Bundle, strength: float) -> Bundle:
    """The bundle with another strength of its support graph."""
    return replace(bundle, manifest=replace(bundle.manifest, strength=strength))


# --- what stood for a name ---

SAID = ("It has two wheels.", "And a saddle.")


def test_descriptions_stay_with_their_class(bundle: Bundle, tmp_path: Path) -> None:
    bank = taught(bundle).add("bike", prompt(7), *shots(1, 7), description=[" It has  two wheels.", "And a saddle."])
    assert bank.descriptions == {"bike": SAID}
    bank = bank.add("bike", prompt(7), *shots(2, 8))
    assert bank.descriptions == {"bike": SAID}, "further shots leave it"
    bank = bank.add("red fox", prompt(0), *shots(1, 9), description=["A fox that is red."])
    assert bank.descriptions == {"bike": SAID, "red fox": ("A fox that is red.",)}
    bank.save(tmp_path / "bank")
    same(Bank.load(tmp_path / "bank", bundle), bank)
    assert bank.remove("red fox", 0).descriptions == bank.descriptions
    assert bank.remove("red fox").descriptions == {"bike": SAID}
    assert bank.remove("bike", 2).remove("bike", 1).remove("bike", 0).descriptions == {"red fox": ("A fox that is red.",)}


def test_a_bank_with_names_of_earlier_versions_is_read_and_corrected(bundle: Bundle, tmp_path: Path) -> None:
    """They let pass what cannot be seen, such as a mark that turns the direction of the text."""
    old = "fox\u202e"
    bank = taught(bundle).add("fox", prompt(7), *shots(1, 7))
    bank = bank.add_reject("fox", shots(1, 8)[1], shots(1, 8)[2])
    stored = replace(
        bank,
        names=tuple(name.replace("fox", old) if name in ("fox", "not 'fox'") else name for name in bank.names),
        rejects={f"not '{old}'": old},
    )
    stored.save(tmp_path / "old.spbank")
    read = Bank.load(tmp_path / "old.spbank", bundle)
    assert {old, f"not '{old}'"} < set(read.names)
    assert read.spelling("fox") == read.spelling(old) == old
    assert read.shots("fox") == 1
    grown = read.add("fox", prompt(7), *shots(2, 9)).add_reject("fox", shots(1, 6)[1], shots(1, 6)[2])
    assert (grown.shots(old), grown.shots(f"not '{old}'"), len(grown.names)) == (3, 2, len(read.names))
    both = Bank.load(tmp_path / "old.spbank", bundle)
    both = replace(both, names=tuple("fox" if name == "polar bear" else name for name in both.names))
    assert (both.spelling("fox"), both.spelling(old)) == ("fox", old), "each by its own spelling"
    assert set(read.remove("fox").names) == {"red fox", "polar bear", "café"}
    with pytest.raises(BankError, match="not clean"):
        replace(bank, names=("red_fox", *bank.names[1:]))


def test_a_new_class_has_no_character_that_cannot_be_seen(bundle: Bundle) -> None:
    bank = taught(bundle).add("mug\u202e", prompt(7), *shots(1, 7))
    assert bank.names[-1] == "mug"
    assert bank.spelling("\u200bmug") == "mug"


def test_what_is_no_sentence_is_refused(bundle: Bundle) -> None:
    for sentence in ("", "  ", "a\x1b[31m", "x" * 3000):
        with pytest.raises(PromptError):
            taught(bundle).add("bike", prompt(7), *shots(1, 7), description=[sentence])


@pytest.mark.parametrize(
    "descriptions",
    [
        {"red fox": []},
        {"red fox": "a sentence"},
        {"red fox": ["two  spaces"]},
        {"red fox": ["\x1b[31m"]},
        {"wolf": ["None."]},
        None,
    ],
)
def test_stored_descriptions_are_sentences_about_classes(bundle: Bundle, tmp_path: Path, descriptions: object) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", tensors, {**described, "descriptions": descriptions})
    with pytest.raises(BankError) as raised:
        Bank.load(tmp_path / "bank", bundle)
    assert "\x1b" not in str(raised.value)


# --- teaching and forgetting ---


def test_an_empty_bank_knows_nothing(bundle: Bundle) -> None:
    bank = Bank.empty(bundle)
    check(bank)
    assert (bank.names, bank.version, bank.fingerprint) == ((), 0, bundle.fingerprint)
    assert bank.prototypes.shape == (0, D)
    with pytest.raises(BankError, match="no class 'red fox'"):
        bank.shots("red fox")


@pytest.mark.parametrize(
    ("own", "strength", "count", "expected"),
    [
        # plain (0, 4), prompted (10, 0): at the bundle's 0.5 the support graph gives (5, 2)
        (0.5, None, 1, (5, 2)),
        (0.5, None, 3, (2.5, 3)),  # 0.5 / (0.5 + 0.5 * 3) = 1/4 of the prompted
        (0.5, 0.0, 2, (0, 4)),
        (0.5, 1.0, 2, (10, 0)),
        (0.5, 0.8, 1, (8, 0.8)),
        (0.5, 0.8, 4, (5, 2)),  # 0.8 / (0.8 + 0.2 * 4) = 1/2
        (0.5, 0.2, 1, (2, 3.2)),
        (1.0, None, 5, (10, 0)),
        (1.0, 0.5, 4, (2, 3.2)),  # 0.5 / (0.5 + 0.5 * 4) = 1/5
        (0.0, None, 2, (0, 4)),
    ],
)
def test_prototypes_by_hand(
    bundle: Bundle, own: float, strength: float | None, count: int, expected: tuple[float, float]
) -> None:
    support, query = np.zeros((2, count, D), np.float32)
    query[:, 1] = 4
    support[:, 0], support[:, 1] = 10 * own, 4 * (1 - own)
    # Only means count: one shot more and one less by as much changes nothing.
    support[0, 2], support[-1, 2], query[0, 3], query[-1, 3] = (1, -1, 2, -2) if count > 1 else (0, 0, 0, 0)
    bank = Bank.empty(at(bundle, own)).add("a", prompt(0), support, query, shots(count)[2], threshold=0.5, strength=strength)
    assert bank.strengths.tolist() == [own if strength is None else strength]
    length = float(np.hypot(*expected))
    np.testing.assert_allclose(bank.prototypes, [[expected[0] / length, expected[1] / length, 0, 0, 0, 0]], atol=1e-6)


def test_classes_are_taught_in_order_and_shots_join_their_class(bundle: Bundle) -> None:
    bank = taught(bundle)
    check(bank)
    assert bank.names == ("red fox", "polar bear", "café")
    assert bank.owners.tolist() == [0, 0, 1, 2, 2, 2]
    assert bank.thresholds.tolist() == pytest.approx([0, 0.1, 0.2])
    more = bank.add("red_fox", prompt(0), *shots(1, 9))
    check(more)
    assert more.names == bank.names
    assert more.shots("red fox") == 3
    assert more.owners.tolist() == [0, 0, 1, 2, 2, 2, 0]
    assert more.thresholds.tolist() == bank.thresholds.tolist(), "a known class keeps its own"
    assert bank.add("red_fox", prompt(0), *shots(1, 9), threshold=0.5).thresholds[0] == 0.5, "unless another is given"
    np.testing.assert_array_equal(more.support[-1:], shots(1, 9)[0])
    np.testing.assert_array_equal(more.query[-1:], shots(1, 9)[1])


def test_each_change_is_a_new_bank_with_the_next_version(bundle: Bundle) -> None:
    bank = taught(bundle)
    before = {part: getattr(bank, part).copy() for part in PARTS}
    prototypes = bank.prototypes.copy()
    changed = [bank.add("new", prompt(7), *shots(1), threshold=0.5), bank.remove("café"), bank.remove("café", 1)]
    changed.append(bank.with_strength("café", 0.3))
    assert [c.version for c in changed] == [bank.version + 1] * 4 == [4] * 4
    assert all(c.fingerprint == bank.fingerprint for c in changed)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(bank, part), before[part])
    np.testing.assert_array_equal(bank.prototypes, prototypes)
    assert changed[2].prototypes.shape == prototypes.shape
    for other in changed[2:]:
        assert (other.prototypes[2] != prototypes[2]).any(), "prototypes are not carried over"
    assert bank.prototypes is bank.prototypes, "nor computed again"
    with pytest.raises(FrozenInstanceError):
        bank.version = 9  # type: ignore[misc]


def test_a_class_is_forgotten_with_all_that_was_its(bundle: Bundle) -> None:
    bank = taught(bundle)
    left = bank.remove("polar_bear")
    check(left)
    assert left.names == ("red fox", "café")
    assert left.owners.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(left.support, bank.support[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(left.query, bank.query[[0, 1, 3, 4, 5]])
    assert left.crops.tolist() == bank.crops[[0, 1, 3, 4, 5]].tolist()
    np.testing.assert_array_equal(left.prompts, bank.prompts[[0, 2]])
    np.testing.assert_array_equal(left.thresholds, bank.thresholds[[0, 2]])


def test_a_shot_is_forgotten_by_its_number_within_the_class(bundle: Bundle) -> None:
    bank = taught(bundle).add("red fox", prompt(0), *shots(1, 9), threshold=0)
    left = bank.remove("red fox", 2)
    same(replace(left, version=3), taught(bundle))
    middle = bank.remove("café", 1)
    check(middle)
    np.testing.assert_array_equal(middle.support, bank.support[[0, 1, 2, 3, 5, 6]])
    assert middle.names == bank.names


def test_with_its_last_shot_a_class_goes_too(bundle: Bundle) -> None:
    left = taught(bundle).remove("polar bear", 0)
    check(left)
    assert left.names == ("red fox", "café")
    for name in ("red fox", "café"):
        left = left.remove(name)
    assert (left.names, len(left.owners), left.version) == ((), 0, 6)


@pytest.mark.parametrize("shot", [-1, 2, 99])
def test_a_shot_that_is_not_there_is_refused(bundle: Bundle, shot: int) -> None:
    with pytest.raises(BankError, match="no such shot") as raised:
        taught(bundle).remove("red fox", shot)
    assert (raised.value.expected, raised.value.got) == ("0 to 1", str(shot))


def test_a_class_that_is_not_there_is_refused_with_those_that_are(bundle: Bundle) -> None:
    for act in (Bank.remove, Bank.shots):
        with pytest.raises(BankError, match="no class 'wolf'") as raised:
            act(taught(bundle), "wolf")
        assert raised.value.expected == "red fox, polar bear, café"


def test_another_prompt_for_a_known_class_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="another prompt") as raised:
        taught(bundle).add("red fox", prompt(1), *shots(1), threshold=0.5)
    assert "teach it again" in raised.value.next_step
    nearly = prompt(0) + np.float32(1e-6)
    assert taught(bundle).add("red fox", nearly, *shots(1), threshold=0.5).shots("red fox") == 3


@pytest.mark.parametrize("other", ["POLAR bear", "polar\u00a0Bear", "polar_be\u00adar", "\uff50olar bear"])
def test_spellings_of_a_name_are_one_class(bundle: Bundle, other: str) -> None:
    bank = taught(bundle)
    more = bank.add(other, prompt(1), *shots(2, 40))
    assert (more.names, more.shots(other), more.shots("polar bear")) == (bank.names, 3, 3)
    assert more.with_strength(other, 0.25).strengths[1] == 0.25
    assert more.with_threshold(other, 0.25).thresholds[1] == 0.25
    told = more.add_reject(other, shots(1)[1], shots(1)[2])
    assert told.rejects == {"not 'polar bear'": "polar bear"}
    assert told.remove(other).names == ("red fox", "café")


def test_classes_that_earlier_versions_told_apart_by_case_are_asked_about(bundle: Bundle) -> None:
    bank = replace(taught(bundle), names=("Mug", "mug", "café"))
    assert (bank.shots("Mug"), bank.shots("mug")) == (2, 1)
    with pytest.raises(BankError, match="which class is 'MUG'") as caught:
        bank.remove("MUG")
    assert caught.value.got == "'Mug' and 'mug'"


@pytest.mark.parametrize("name", ["", "a\x00", "x" * 513])
def test_what_is_no_name_is_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(PromptError):
        Bank.empty(bundle).add(name, prompt(0), *shots(1), threshold=0.5)


def test_no_class_is_called_what_means_no_class(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="cannot be called 'unknown'"):
        Bank.empty(bundle).add(" unknown_", prompt(0), *shots(1), threshold=0.5)
    for name in ("Unknown", "UNKNOWN", "un\u200bknown", "\uff35nknown"):
        with pytest.raises(BankError, match="cannot be called 'unknown'"):
            Bank.empty(bundle).add(name, prompt(0), *shots(1))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"prompt": np.zeros(T + 1, np.float32)},
        {"prompt": np.zeros((1, T), np.float32)},
        {"prompt": np.zeros((), np.float32)},
        *(
            {part: value}
            for part in ("support", "query")
            for value in (
                np.zeros((1, D + 1), np.float32),
                np.zeros((2, D), np.float32),
                np.zeros(D, np.float32),
                np.zeros((), np.float32),
                np.zeros((1, D), np.float64),
                np.full((1, D), np.nan, np.float32),
            )
        ),
        {
            "support": np.zeros((0, D), np.float32),
            "query": np.zeros((0, D), np.float32),
            "crops": [],
        },
        {"crops": [b"one", b"two"]},
        {"crops": []},
    ],
)
def test_shots_that_do_not_fit_are_a_bank_error(bundle: Bundle, change: dict[str, Any], known: bool) -> None:
    support, query, crops = shots(1)
    given_: dict[str, Any] = {"prompt": prompt(0), "support": support, "query": query, "crops": crops, **change}
    with pytest.raises(BankError):
        taught(bundle).add("red fox" if known else "new", threshold=0.5, **given_)


def test_a_threshold_is_a_number(bundle: Bundle) -> None:
    for threshold in (float("nan"), 1.01, -1.01, float("inf")):
        with pytest.raises(BankError, match="out of range"):
            Bank.empty(bundle).add("a", prompt(0), *shots(1), threshold=threshold)
        with pytest.raises(BankError, match="out of range"):
            taught(bundle).with_threshold("café", threshold)


def test_a_threshold_is_set_and_left_to_the_calibration_again(bundle: Bundle, tmp_path: Path) -> None:
    bank = Bank.empty(bundle).add("a", prompt(0), *shots(1)).add("b", prompt(1), *shots(1, 1))
    assert np.isnan(bank.thresholds).all()
    bank = bank.with_threshold("a", 0.25).add("a", prompt(0), *shots(1, 2)).remove("b")
    assert (bank.thresholds.tolist(), bank.version) == ([0.25], 5)
    bank.save(tmp_path / "bank")
    assert Bank.load(tmp_path / "bank", bundle).thresholds.tolist() == [0.25]
    assert np.isnan(bank.with_threshold("a", None).thresholds).all()
    with pytest.raises(BankError, match="no class"):
        bank.with_threshold("b", 0.5)


# --- the prompt's strength ---


def test_a_new_class_has_the_bundles_strength_and_a_known_one_keeps_its_own(bundle: Bundle) -> None:
    bank = Bank.empty(bundle).add("a", prompt(0), *shots(1), threshold=0.5, strength=0.3)
    bank = bank.add("b", prompt(1), *shots(1), threshold=0.5).add("a", prompt(0), *shots(2, 1), threshold=0.5)
    assert bank.strengths.tolist() == [0.3, OWN]
    bank = bank.add("a", prompt(0), *shots(1, 2), threshold=0.5, strength=0.6)
    assert bank.strengths.tolist() == [0.6, OWN], "it is the class's, not the shot's"
    check(bank)
    assert bank.remove("a").strengths.tolist() == [OWN]


def test_a_new_class_has_as_much_of_the_bundles_strength_as_its_prompt_is_familiar(bundle: Bundle) -> None:
    bank = Bank.empty(bundle).add("a", prompt(0), *shots(1), familiarity=0.25)
    assert bank.strengths.tolist() == [OWN * 0.25]
    bank = bank.add("b", prompt(1), *shots(1), strength=0.7, familiarity=0.25).add("a", prompt(0), *shots(1, 1), familiarity=1)
    assert bank.strengths.tolist() == [OWN * 0.25, 0.7], "what a user says counts, and a known class keeps its own"
    check(bank)


def test_a_strength_changes_without_pictures(bundle: Bundle) -> None:
    bank = taught(bundle)
    other = bank.with_strength("red_fox", 0.25)
    check(other)
    assert other.strengths.tolist() == [0.25, OWN, OWN]
    one = Bank.empty(bundle).add("red fox", prompt(0), *shots(2), threshold=0.5, strength=0.25)
    np.testing.assert_array_equal(other.prototypes[0], one.prototypes[0])
    np.testing.assert_array_equal(other.prototypes[1:], bank.prototypes[1:])
    np.testing.assert_array_equal(other.with_strength("red fox", OWN).prototypes, bank.prototypes)
    with pytest.raises(BankError, match="no class 'wolf'"):
        bank.with_strength("wolf", 0.5)


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(bundle: Bundle, tmp_path: Path, strength: float) -> None:
    bank = taught(bundle)
    with pytest.raises(BankError, match="out of range"):
        bank.with_strength("café", strength)
    for name in ("café", "new"):
        with pytest.raises(BankError, match="out of range"):
            bank.add(name, prompt(2), *shots(1), threshold=0.5, strength=strength)
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {**tensors, "strengths": np.array([OWN, strength, 0])}, described)
    with pytest.raises(BankError, match="out of range"):
        Bank.load(tmp_path / "bank", bundle)


def test_a_bundle_without_prompts_takes_no_strength(bundle: Bundle) -> None:
    bank = Bank.empty(at(bundle, 0.0)).add("a", prompt(0), *shots(1), threshold=0.5)
    assert bank.with_strength("a", 0).strengths.tolist() == [0]
    with pytest.raises(BankError, match="takes no prompts") as raised:
        bank.with_strength("a", 0.5)
    assert "model.prompt_strength" in raised.value.next_step


def test_a_threshold_changes_without_pictures(bundle: Bundle) -> None:
    bank = taught(bundle)
    other = bank.with_threshold("red_fox", 0.25)
    check(other)
    assert (other.thresholds.tolist(), other.version) == (pytest.approx([0.25, 0.1, 0.2]), bank.version + 1)
    assert bank.thresholds[0] == 0
    with pytest.raises(BankError, match="no class 'wolf'"):
        bank.with_threshold("wolf", 0.5)
    for threshold in (-1.1, 1.1, float("nan")):
        with pytest.raises(BankError, match="out of range"):
            bank.with_threshold("café", threshold)


def test_some_shots_are_kept(bundle: Bundle) -> None:
    bank = taught(bundle)
    every = np.ones(6, bool)
    same(replace(bank.keep(every), version=bank.version), bank)
    assert bank.keep(~every).names == ()
    kept = bank.keep(np.array([False, True, False, True, False, True]))
    check(kept)
    assert kept.names == ("red fox", "café")
    assert kept.owners.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(kept.query, bank.query[[1, 3, 5]])


def test_large_features_do_not_overflow(bundle: Bundle) -> None:
    support, query = np.full((2, 2, D), 3e38, np.float32)
    query *= -1
    bank = Bank.empty(at(bundle, 0.01)).add("a", prompt(0), support, query, shots(2)[2], threshold=0.5, strength=1.0)
    np.testing.assert_allclose(bank.prototypes, np.full((1, D), D**-0.5), atol=1e-6)


FEATURES = st.integers(1, 6).flatmap(lambda k: hnp.arrays(np.float32, (2, k, D), elements=st.integers(-99, 99).map(float)))


@given(features=FEATURES, own=st.floats(0.05, 1), strength=st.floats(0, 1), data=st.data())
@settings(deadline=None, max_examples=60)
def test_what_holds_of_every_prototype(
    bundle: Bundle, features: np.ndarray, own: float, strength: float, data: st.DataObject
) -> None:
    support, query = features
    query[:, 0], support[:, 0] = 100, 100  # no mean is near zero
    count, empty = len(support), Bank.empty(at(bundle, own))

    def teach(*rows: list[int], strength: float | None = strength, of: Bank = empty) -> Bank:
        for r in rows:
            of = of.add("a", prompt(0), support[r], query[r], shots(len(r))[2], threshold=0.5, strength=strength)
        return of

    every = list(range(count))
    bank = teach(every)
    check(bank)
    singly = teach(*([row] for row in data.draw(st.permutations(every))))
    np.testing.assert_allclose(singly.prototypes, bank.prototypes, atol=1e-6)
    more = teach(every, [0])
    np.testing.assert_allclose(more.remove("a", count).prototypes, bank.prototypes, atol=1e-6)
    np.testing.assert_allclose(teach(every, strength=0).prototypes[0], unit(query.mean(axis=0)), atol=1e-5)
    prompted = query.mean(axis=0, dtype=np.float64) + (support - query).mean(axis=0, dtype=np.float64) / own
    np.testing.assert_allclose(teach(every, strength=1).prototypes[0], unit(prompted), atol=1e-5)
    if count == 1:
        np.testing.assert_array_equal(teach(every, strength=None).prototypes[0], unit(support[0]))


def test_with_many_shots_the_prototype_tends_to_the_plain_one(bundle: Bundle) -> None:
    (support,), (query,), (small,) = shots(1)
    away = []
    for count in (1, 4, 20, 100, 500):
        copies = [*(np.repeat(part[None], count, axis=0) for part in (support, query)), [small] * count]
        bank = Bank.empty(bundle).add("a", prompt(0), *copies, threshold=0.5)
        away.append(float(np.linalg.norm(bank.prototypes[0] - unit(query))))
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.5
    assert away[-1] < 0.02


# --- a bank as a person uses it ---


NAMES, STRENGTHS = st.sampled_from(["a", "b", "c_1", "d"]), st.sampled_from([0.0, 0.3, 1.0])


class Teaching(RuleBasedStateMachine):
    """Any order of teaching, forgetting and saving, beside a plain dictionary that does the same."""

    bundle: Bundle
    path: Path

    @initialize()
    def start(self) -> None:
        self.bank = Bank.empty(self.bundle)
        self.model: dict[str, list[int]] = {}
        self.strengths: dict[str, float] = {}
        self.changes = self.seed = 0

    @rule(name=NAMES, count=st.integers(1, 3), strength=st.none() | STRENGTHS)
    def add(self, name: str, count: int, strength: float | None) -> None:
        seeds = [self.seed + i for i in range(count)]
        self.seed += count
        parts = (np.concatenate(part) for part in zip(*(shots(1, s) for s in seeds), strict=True))
        self.bank = self.bank.add(name, prompt(ord(name[0])), *parts, threshold=ord(name[0]) / 200, strength=strength)
        clean = clean_name(name)
        self.model.setdefault(clean, []).extend(seeds)
        self.strengths[clean] = self.strengths.get(clean, OWN) if strength is None else strength
        self.changes += 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        shot = data.draw(st.none() | st.integers(0, len(self.model[name]) - 1))
        self.bank = self.bank.remove(name, shot)
        if shot is not None:
            self.model[name].pop(shot)
        if shot is None or not self.model[name]:
            del self.model[name], self.strengths[name]
        self.changes += 1

    @precondition(lambda self: self.model)
    @rule(data=st.data(), strength=STRENGTHS)
    def weigh(self, data: st.DataObject, strength: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.bank = self.bank.with_strength(name, strength)
        self.strengths[name] = strength
        self.changes += 1

    @rule()
    def save_and_load(self) -> None:
        self.bank.save(self.path)
        loaded = Bank.load(self.path, self.bundle)
        same(loaded, self.bank)
        np.testing.assert_array_equal(loaded.prototypes, self.bank.prototypes)
        self.bank = loaded

    @invariant()
    def agrees(self) -> None:
        check(self.bank)
        assert self.bank.version == self.changes
        assert self.bank.names == tuple(self.model)
        for index, (name, seeds) in enumerate(self.model.items()):
            own = self.bank.owners == index
            assert self.bank.shots(name) == len(seeds)
            for column, part in enumerate((self.bank.support, self.bank.query, self.bank.crops)):
                np.testing.assert_array_equal(part[own], np.concatenate([shots(1, s)[column] for s in seeds]))
            assert self.bank.strengths[index] == self.strengths[name]
            np.testing.assert_array_equal(self.bank.prompts[index], prompt(ord(name[0])))
            assert self.bank.thresholds[index] == np.float32(ord(name[0]) / 200)


def test_teaching_and_forgetting_in_any_order(bundle: Bundle, tmp_path: Path) -> None:
    Teaching.bundle, Teaching.path = bundle, tmp_path / "bank.safetensors"
    run_state_machine_as_test(Teaching, settings=settings(deadline=None, max_examples=25, stateful_step_count=15))


# --- the file ---


@pytest.mark.parametrize("empty", [True, False])
def test_a_bank_comes_back_as_it_went(bundle: Bundle, tmp_path: Path, empty: bool) -> None:
    bank = Bank.empty(bundle) if empty else taught(bundle)
    bank.save(tmp_path / "deep" / "bank.safetensors")
    loaded = Bank.load(tmp_path / "deep" / "bank.safetensors", bundle)
    same(loaded, bank)
    check(loaded)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["bank.safetensors"]


def test_a_bank_of_another_bundle_is_refused_with_the_way_out(bundle: Bundle, build: Any, tmp_path: Path) -> None:
    taught(bundle).save(tmp_path / "bank")
    other = Bundle.load(build(tmp_path / "other", graph=b"another network"))
    with pytest.raises(BankError, match="another bundle") as raised:
        Bank.load(tmp_path / "bank", other)
    assert bundle.fingerprint[:12] in raised.value.got
    assert other.fingerprint[:12] in raised.value.expected
    assert raised.value.next_step.startswith(f"sp-edge bank renew {other.path} --bank {tmp_path / 'bank'} teaches")
    same(Bank.read(tmp_path / "bank"), taught(bundle))


def test_a_bank_of_the_same_network_in_another_precision_is_welcome(bundle: Bundle, build: Any, tmp_path: Path) -> None:
    taught(bundle).save(tmp_path / "bank")
    other = Bundle.load(build(tmp_path / "other", precisions=("fp32", "int8"), precision="int8"))
    same(Bank.load(tmp_path / "bank", other), taught(bundle))


# --- how its pictures were fitted ---


def test_the_first_picture_decides_on_the_fit(bundle: Bundle, tmp_path: Path) -> None:
    assert Bank.empty(bundle).fit == "crop"
    named = Bank.empty(bundle).add_by_name("bike", prompt(7), np.ones(D, np.float32))
    padded = named.with_fit("pad").add("bike", prompt(7), *shots(2, 7))
    padded.save(tmp_path / "bank")
    assert Bank.load(tmp_path / "bank", bundle).fit == "pad"
    assert padded.with_fit("pad") is padded
    assert padded.remove("bike").with_fit("squash").fit == "squash", "a bank without pictures is free again"
    with pytest.raises(BankError, match="another fit than 'crop'") as error:
        padded.with_fit("crop")
    assert error.value.expected.startswith("pad")
    assert "--bank" in error.value.next_step


def test_a_file_without_a_fit_was_cropped_and_one_with_a_strange_fit_is_damaged(bundle: Bundle, tmp_path: Path) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    assert described.pop("fit") == "crop"
    save_tensors(tmp_path / "bank", tensors, described)
    assert Bank.load(tmp_path / "bank", bundle).fit == "crop"
    for strange in ("stretch", None, 3, ["crop"], {}):
        save_tensors(tmp_path / "bank", tensors, described | {"fit": strange})
        with pytest.raises(BankError, match="is damaged"):
            Bank.load(tmp_path / "bank", bundle)
