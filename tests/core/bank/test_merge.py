from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banks import prompt, same, shots, taught
from sp_edge.bank.bank import Bank
from sp_edge.bank.diff import diff, shots_of
from sp_edge.bank.merge import merge
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError


def test_classes_come_together_and_shots_join_theirs(bundle: Bundle) -> None:
    ours = taught(bundle)
    theirs = Bank.empty(bundle).add("wolf", prompt(9), *shots(2, 60), threshold=0.7, strength=0.3)
    theirs = theirs.add("café", prompt(2), *shots(3, 2), threshold=0.2).add("café", prompt(2), *shots(1, 70))
    merged = merge(ours, theirs)
    assert merged.names == ("red fox", "polar bear", "café", "wolf")
    assert merged.owners.tolist() == [0, 0, 1, 2, 2, 2, 3, 3, 2]
    assert merged.version == 4
    for part in ("support", "query", "crops"):
        expected = np.concatenate([getattr(ours, part), getattr(theirs, part)[[0, 1, 5]]])
        np.testing.assert_array_equal(getattr(merged, part), expected)
    assert merged.thresholds.tolist() == pytest.approx([0, 0.1, 0.2, 0.7])
    assert merged.strengths.tolist() == [0.8, 0.8, 0.8, 0.3]
    np.testing.assert_array_equal(merged.prompts[3], prompt(9))


def test_a_class_in_another_spelling_joins_ours(bundle: Bundle) -> None:
    ours = taught(bundle)
    theirs = Bank.empty(bundle).add("Red  FOX", prompt(0), *shots(1, 60), threshold=0.0, description=["a fox"])
    theirs = theirs.add_reject("red fox", *shots(1, 61)[1:])
    merged = merge(ours, theirs)
    assert merged.names == ("red fox", "polar bear", "café", "not 'red fox'")
    assert (merged.shots("red fox"), merged.rejects) == (3, {"not 'red fox'": "red fox"})
    assert merged.descriptions == {"red fox": ("a fox",)}
    both = replace(taught(bundle), names=("CAFÉ", "café", "wolf"))
    assert merge(replace(both, names=("a", "b", "c")), both).names == ("a", "b", "c", "CAFÉ", "café", "wolf")
    with pytest.raises(BankError, match="differ"):
        merge(ours, both)  # names that it tells apart itself stay apart, but 'café' is in both with another prompt


def test_what_is_there_already_changes_nothing(bundle: Bundle) -> None:
    bank = taught(bundle)
    assert merge(bank, bank) is bank
    assert merge(bank, bank.remove("café")) is bank
    assert merge(bank, Bank.empty(bundle)) is bank
    assert diff(merge(Bank.empty(bundle), bank), bank) == ()


def test_classes_that_differ_are_named_and_refused(bundle: Bundle) -> None:
    ours = taught(bundle)
    theirs = ours.with_threshold("red fox", 0.5).with_strength("café", 0.25)
    with pytest.raises(BankError, match="2 classes differ") as raised:
        merge(ours, theirs)
    assert raised.value.got == "'red fox': threshold 0.000 and 0.500; 'café': strength 0.800 and 0.250"
    assert "--prefer" in raised.value.next_step
    assert merge(ours, theirs, prefer="ours") is ours
    merged = merge(ours, theirs, prefer="theirs")
    assert diff(merged, theirs) == ()
    assert merged.names == ours.names


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
def test_shots_of_two_prompts_do_not_come_together(bundle: Bundle, prefer: str) -> None:
    ours = taught(bundle)
    theirs = Bank.empty(bundle).add("red fox", prompt(9), *shots(3, 60), threshold=0)
    theirs = theirs.add("polar bear", prompt(1), *shots(1, 61), threshold=np.float32(0.1))
    with pytest.raises(BankError, match="a class differs") as raised:
        merge(ours, theirs)
    assert raised.value.got == "'red fox': another prompt"
    merged = merge(ours, theirs, prefer=prefer)
    assert merged.shots("polar bear") == 2
    winner = ours if prefer == "ours" else theirs
    assert merged.shots("red fox") == winner.shots("red fox")
    for part in ("support", "crops"):
        expected = getattr(winner, part)[winner.owners == 0]
        np.testing.assert_array_equal(getattr(merged, part)[merged.owners == 0], expected)
    np.testing.assert_array_equal(merged.prompts[0], winner.prompts[0])


def test_descriptions_come_with_their_prompts(bundle: Bundle) -> None:
    empty = Bank.empty(bundle)

    def one(seed: int, *said: str) -> Bank:
        return empty.add("bike", prompt(seed), *shots(1, 5), threshold=0, description=said)

    assert merge(one(1, "Ours."), one(1, "Theirs.")).descriptions == {"bike": ("Ours.",)}
    assert merge(one(1, "Ours."), one(1, "Theirs."), prefer="theirs").descriptions == {"bike": ("Theirs.",)}
    assert merge(one(1), one(1, "Theirs.")).descriptions == {"bike": ("Theirs.",)}, "what we lack"
    assert merge(one(1, "Ours."), one(2), prefer="theirs").descriptions == {}, "of another prompt"
    assert merge(one(1), one(2, "Theirs."), prefer="ours").descriptions == {}
    assert merge(one(1, "Ours."), one(2, "Theirs."), prefer="theirs").descriptions == {"bike": ("Theirs.",)}
    assert merge(empty, one(1, "Theirs.")).descriptions == {"bike": ("Theirs.",)}
    bank = one(1, "Ours.")
    assert merge(bank, one(1)) is bank


def test_a_threshold_that_was_set_counts_before_none(bundle: Bundle) -> None:
    unset = taught(bundle).with_threshold("red fox", None)
    for ours, theirs in ((unset, taught(bundle)), (taught(bundle), unset)):
        for prefer in (None, "ours", "theirs"):
            assert merge(ours, theirs, prefer=prefer).thresholds.tolist() == taught(bundle).thresholds.tolist()
    assert merge(unset, unset) is unset


def test_banks_of_two_bundles_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="two bundles") as raised:
        merge(replace(taught(bundle), fingerprint="0123456789ab" + "f" * 52), replace(taught(bundle), fingerprint="ba" * 32))
    assert (raised.value.expected, raised.value.got) == ("bundle 0123456789ab", "bundle babababababa")
    assert "sp-edge bank renew" in raised.value.next_step


@st.composite
def banks(draw: st.DrawFn, *, agreed: bool) -> Bank:
    """Banks of four classes at most, whose shots come from a small store, so that two banks have some in common."""
    bank = Bank.empty(BUNDLE[0])
    for name in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4)):
        numbers = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
        parts = [np.concatenate(part) for part in zip(*(shots(1, 10 * ord(name) + n) for n in numbers), strict=True)]
        text, strength = (ord(name), 0.8) if agreed else draw(st.sampled_from([(1, 0.8), (1, 0.2), (2, 0.8)]))
        bank = bank.add(name, prompt(text), *parts, threshold=ord(name) / 200, strength=strength)
    return bank


BUNDLE: list[Bundle] = []


@pytest.fixture(autouse=True)
def _known(bundle: Bundle) -> None:
    BUNDLE[:] = [bundle]


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_the_laws_of_merging(data: st.DataObject) -> None:
    one, two, three = (data.draw(banks(agreed=True)) for _ in range(3))
    both = merge(one, two)
    assert diff(both, merge(two, one)) == (), "the order of the banks does not count"
    assert merge(both, one) is both
    assert merge(both, two) is both
    assert diff(merge(both, three), merge(one, merge(two, three))) == ()
    for change in diff(one, both):
        assert change.shots_removed == 0
        assert not change.prompt
    have, mine, other = shots_of(both), shots_of(one), shots_of(two)
    assert set(have) == {*mine, *other}
    for name, found in have.items():
        assert found == mine.get(name, type(found)()) | other.get(name, type(found)())


@given(data=st.data(), prefer=st.sampled_from(["ours", "theirs"]))
@settings(deadline=None, max_examples=100)
def test_the_laws_of_merging_what_differs(data: st.DataObject, prefer: str) -> None:
    ours, theirs = data.draw(banks(agreed=False)), data.draw(banks(agreed=False))
    merged = merge(ours, theirs, prefer=prefer)
    assert set(merged.names) == {*ours.names, *theirs.names}
    assert diff(merged, merge(theirs, ours, prefer="ours" if prefer == "theirs" else "theirs")) == ()
    assert merge(merged, theirs, prefer=prefer) is merged
    winner = ours if prefer == "ours" else theirs
    for change in diff(winner, merged):
        assert change.shots_removed == 0
        assert not change.prompt
        assert change.change == "added" or change.strength[0] == change.strength[1]
    try:
        same(replace(merge(ours, theirs), version=0), replace(merged, version=0))
    except BankError:
        assert any(c.prompt or c.strength[0] != c.strength[1] for c in diff(ours, theirs) if c.change == "changed")


@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_a_difference_says_how_to_get_from_one_bank_to_the_other(data: st.DataObject) -> None:
    old, new = data.draw(banks(agreed=False)), data.draw(banks(agreed=False))
    changes = {change.name: change for change in diff(old, new)}
    back = {change.name: change for change in diff(new, old)}
    assert set(changes) == set(back)
    for name, change in changes.items():
        other = back[name]
        assert (change.shots_added, change.shots_removed) == (other.shots_removed, other.shots_added)
        assert change.shots == other.shots[::-1]
        assert change.shots[0] + change.shots_added - change.shots_removed == change.shots[1]
        assert (change.threshold, change.strength) == (other.threshold[::-1], other.strength[::-1])
    for name in {*old.names, *new.names} - set(changes):
        assert shots_of(old)[name] == shots_of(new)[name]


def test_pictures_that_were_fitted_in_two_ways_do_not_go_together(bundle: Bundle) -> None:
    ours, theirs = taught(bundle), Bank.empty(bundle).with_fit("pad").add("wolf", prompt(9), *shots(2, 60))
    for one, other in ((ours, theirs), (theirs, ours)):
        with pytest.raises(BankError, match="two ways") as error:
            merge(one, other)
        assert one.fit in error.value.expected
        assert other.fit in error.value.got
    assert merge(Bank.empty(bundle), theirs).fit == "pad"
    assert merge(theirs, Bank.empty(bundle)) is theirs
