from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_edge.accuracy import Share
from sp_edge.bank import advice
from sp_edge.bank.advice import left_out, review
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.matching.metric import Background

D = 6


def bank_of(bundle: Bundle, shots: dict[str, list[list[float]]]) -> Bank:
    bank = Bank.empty(bundle)
    for name, rows in shots.items():
        features = np.zeros((len(rows), D), np.float32)
        features[:, : len(rows[0])] = rows
        bank = bank.add(name, np.zeros(4, np.float32), features, features, [b"picture"] * len(rows))
    return bank


def report(bundle: Bundle, bank: Bank) -> advice.Report:
    # A background of zeros makes the metric plain.
    return review(
        bank, Head.of(bank, Background(np.zeros(D, np.float32), np.zeros((D, D), np.float32)), bundle.manifest.calibration)
    )


def test_by_hand(bundle: Bundle) -> None:
    # The third shot of 'a' lies on 'b'. Left out, the first two are at cosine (1 + 0) / sqrt(2) of the mean of the others.
    bank = bank_of(bundle, {"a": [[1, 0], [1, 0], [0, 1]], "b": [[0, 1], [0, 1]]})
    found = report(bundle, bank)
    assert (found.left_out, found.accuracy) == (5, pytest.approx(4 / 5))
    # Shots of 'b' are at 1 from 'b' and at 0.447 from 'a', the mean (2, 1): 1 / (1 + exp(0.553 / 0.2)) = 0.06 is not told.
    assert [(c.name, c.other) for c in found.confusions] == [("a", "b")]
    first, third = (1 / (1 + np.exp((own - other) / 0.2)) for own, other in ((0.5**0.5, 0), (0, 1)))
    assert found.confusions[0].probability == pytest.approx((2 * first + third) / 3, abs=1e-5)
    assert (found.strays[0].name, found.strays[0].shot, found.strays[0].like) == ("a", 2, "b")
    assert found.strays[0].similarity == pytest.approx(0, abs=1e-6)
    assert found.advice[0] == "add a picture of 'a' without 'b' in it: the class may be taken for 'b' (35 %)"
    assert "look at shot 2 of 'a': it is not like the others of its class, but like 'b'" in found.advice
    assert json.loads(json.dumps(found.to_json()))["confusions"][0]["other"] == "b"


def test_a_shot_that_is_as_like_another_class_is_not_right(bundle: Bundle) -> None:
    bank = bank_of(bundle, {"a": [[1, 0], [1, 0]], "b": [[1, 0], [1, 0]]})
    found = report(bundle, bank)
    assert (found.accuracy, found.believed, left_out(bank)) == (0, 1, Share(0, 4))
    assert found.names == (Share(0, 4), Share(0, 4))
    assert [(stray.name, stray.shot, stray.like) for stray in found.strays] == [
        ("a", 0, "b"), ("a", 1, "b"), ("b", 0, "a"), ("b", 1, "a"),
    ]  # fmt: skip
    assert [pair.probability for pair in found.confusions] == [0.5, 0.5]


def test_single_shots_ask_for_a_second(bundle: Bundle) -> None:
    found = report(bundle, bank_of(bundle, {"a": [[1, 0, 0]], "b": [[0, 1, 0]], "c": [[0, 0, 1]], "d": [[0, 0, -1]]}))
    assert (found.left_out, found.accuracy, found.believed, found.strays) == (0, None, None, ())
    assert any(line.startswith("add a second picture of 'a', 'b', 'c' and 1 more") for line in found.advice)
    twins = report(bundle, bank_of(bundle, {"a": [[1, 0]], "b": [[1, 0.01]]}))
    assert {(c.name, c.other) for c in twins.confusions} == {("a", "b"), ("b", "a")}
    assert all(c.probability > 0.5 for c in twins.confusions)


def test_three_of_each_are_told_in_words(bundle: Bundle) -> None:
    """Each of four classes has a shot that lies on the next class; one class has a single shot, and one none."""
    axes = np.eye(D).tolist()
    shots = {name: [axes[i], axes[i], axes[(i + 1) % 4]] for i, name in enumerate("abcd")}
    bank = bank_of(bundle, {**shots, "e": [axes[4]]}).add_by_name("f", np.zeros(4, np.float32), np.array(axes[5], np.float32))
    found = report(bundle, bank)
    assert len(found.confusions) == 8
    assert [(stray.name, stray.shot, stray.like) for stray in found.strays] == [
        ("a", 2, "b"), ("b", 2, "c"), ("c", 2, "d"), ("d", 2, "a"),
    ]  # fmt: skip
    # The class e and its only shot are at 0 of all others: 1 / (1 + exp(0.47 / 0.2)) = 0.09 is not told.
    assert found.advice == (
        "add a picture of 'a' without 'b' in it: the class may be taken for 'b' (35 %)",
        "add a picture of 'b' without 'c' in it: the class may be taken for 'c' (35 %)",
        "add a picture of 'c' without 'd' in it: the class may be taken for 'd' (35 %)",
        "look at shot 2 of 'a': it is not like the others of its class, but like 'b'",
        "look at shot 2 of 'b': it is not like the others of its class, but like 'c'",
        "look at shot 2 of 'c': it is not like the others of its class, but like 'd'",
        "add a second picture of 'e': one picture does not show how much a class varies",
        "add a picture of 'f': a name alone does not show how the thing looks here",
    )


def test_a_class_that_is_told_already_is_not_asked_for_a_second_picture(bundle: Bundle) -> None:
    found = report(bundle, bank_of(bundle, {"a": [[1, 0, 0]], "b": [[1, 0.01, 0]], "c": [[0, 0, 1]]}))
    assert found.advice[2:] == ("add a second picture of 'c': one picture does not show how much a class varies",)


def test_a_class_of_the_fourth_pair_is_asked_for_a_second_picture(bundle: Bundle) -> None:
    found = report(bundle, bank_of(bundle, {"a": [[1, 0]], "b": [[1, 0.01]], "c": [[0, 1]], "d": [[0.02, 1]]}))
    assert [pair.name for pair in found.confusions] == ["a", "b", "c", "d"]
    assert found.advice[3:] == ("add a second picture of 'd': one picture does not show how much a class varies",)


def test_a_shot_that_is_like_nothing(bundle: Bundle) -> None:
    found = report(bundle, bank_of(bundle, {"a": [[1, 0, 0], [1, 0, 0], [-0.1, 0, 1]], "b": [[0, 1, -1]]}))
    assert "look at shot 2 of 'a': it is not like the others of its class" in found.advice


def test_lines_for_a_terminal(bundle: Bundle) -> None:
    found = report(bundle, bank_of(bundle, {"a": [[1, 0], [1, 0], [0, 1]], "b": [[0, 1], [0, 1]]}))
    missed = [str(one) for one in found.missed]
    assert found.lines() == [
        "5 shots, each tested without itself: 80 % are nearest to their class, 80 % are believed",
        "names: 4 of 5 left-out shots right with them, 4 without",
        *(f"advice: {sentence}" for sentence in (*missed, *found.advice)),
    ]
    half = replace(found, believed=0.5, names=None, missed=(), advice=())
    assert half.lines() == ["5 shots, each tested without itself: 80 % are nearest to their class, 50 % are believed"]
    assert half.to_json()["names"] is None
    alone = report(bundle, bank_of(bundle, {"a": [[1, 0]]}))
    assert alone.lines() == [f"advice: {sentence}" for sentence in alone.advice]


def test_names_that_cannot_be_told_apart(bundle: Bundle) -> None:
    bank = replace(bank_of(bundle, {"a": [[1, 0, 0]], "b": [[0, 1, 0]], "c": [[0, 0, 1]]}), names=("Mug", "mug", "key"))
    found = report(bundle, bank)
    assert found.advice[0] == (
        "are 'Mug' and 'mug' one class? Their names differ in capitals, spaces or the form of characters alone: remove one, "
        "and teach its pictures under the other's name"
    )
    same = replace(bank, names=("x", "y", "z"), prompts=np.array([[3, 4, 0, 0], [6, 8, 0, 0], [0, 1, 0, 0]], np.float32))
    told = "'x' and 'y' have one and the same prompt: only their pictures tell them apart. Teach them anew with --description"
    assert told in report(bundle, same).advice
    ignored = replace(same, strengths=np.zeros(3))
    assert told not in report(bundle, ignored).advice
    assert told not in report(bundle, replace(same, strengths=np.array([0, 1.0, 1.0]))).advice
    twice = replace(bank, prompts=same.prompts)
    assert not any("the same prompt" in line for line in report(bundle, twice).advice), "it is told as one of spelling"
    named = ignored.add_by_name("w", same.prompts[0], np.ones(D, np.float32)).with_strength("x", 1).with_strength("w", 0)
    assert any(line.startswith("'x' and 'w' have one and the same prompt") for line in report(bundle, named).advice)


def test_three_groups_of_names_are_told(bundle: Bundle) -> None:
    shots = {f"{letter}{number}": [[1.0, 0.0]] for letter in "abcd" for number in range(2)}
    bank = bank_of(bundle, shots)
    prompts = np.repeat(np.eye(4, dtype=np.float32), 2, axis=0)
    same = [line for line in report(bundle, replace(bank, prompts=prompts)).advice if "the same prompt" in line]
    assert [line[:13] for line in same] == [f"'{letter}0' and '{letter}1'" for letter in "abc"]
    spelled = replace(bank, names=("a", "A", "b", "B", "c", "C", "d", "D"))
    asked = [line for line in report(bundle, spelled).advice if line.endswith("the other's name")]
    assert [line[:15] for line in asked] == [f"are '{letter}' and '{letter.upper()}'" for letter in "abc"]


def test_one_class_and_none(bundle: Bundle) -> None:
    assert report(bundle, Bank.empty(bundle)).advice[0].startswith("teach a class")
    one = report(bundle, bank_of(bundle, {"a": [[1, 0], [1, 0.1]]}))
    assert (one.accuracy, one.confusions) == (1.0, ())


@given(seed=st.integers(0, 999), block=st.sampled_from([2, 3, 512]))
@settings(deadline=None, max_examples=30)
def test_blocks_and_order_change_nothing(bundle: Bundle, seed: int, block: int) -> None:
    random = np.random.default_rng(seed)
    shots = {f"class {c}": random.normal(size=(random.integers(1, 4), D)).tolist() for c in range(2)}
    whole = report(bundle, bank_of(bundle, shots))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "BLOCK", block)
        other = report(bundle, bank_of(bundle, dict(reversed(shots.items()))))
    assert other.accuracy == whole.accuracy
    assert other.believed == whole.believed
    assert [c.probability for c in other.confusions] == pytest.approx([c.probability for c in whole.confusions], abs=1e-4)


def test_a_large_bank_is_judged_by_its_nearest_classes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "BLOCK", 2)
    bank = bank_of(bundle, {"a": [[1, 0, 0], [1, 0, 0]], "b": [[1, 0.05, 0], [1, 0.05, 0]], "c": [[0, 0, 1], [0, 0, 1]]})
    assert {(c.name, c.other) for c in report(bundle, bank).confusions} == {("a", "b"), ("b", "a")}


def test_shots_left_out_by_hand(bundle: Bundle) -> None:
    # The third shot of 'a' is nearer to 'b' once it is left out; the only shot of 'b' cannot be.
    bank = bank_of(bundle, {"a": [[1, 0, 0, 0, 0, 0], [1, 0.1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]], "b": [[0.1, 1, 0, 0, 0, 0]]})
    found = left_out(bank)
    assert found is not None
    assert (found.count, found.total) == (2, 3)
    assert left_out(Bank.empty(bundle)) is None
    assert left_out(bank.remove("a")) is None


def test_leaving_out_takes_blocks_of_shots(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    bank = bank_of(bundle, {f"class {c}": random.normal(size=(3, D)).tolist() for c in range(5)})
    whole = left_out(bank)
    monkeypatch.setattr(advice, "BLOCK", 4)
    assert left_out(bank) == whole
