"""The figures of a bank's review, restated one shot at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banks import D, prompt
from sp_edge.bank import advice
from sp_edge.bank.advice import left_out, review
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.matching.decide import unit

FEW = settings(deadline=None, max_examples=60)


def drawn(bundle: Bundle, seed: int, most: int, taught: int) -> Bank:
    """A bank whose shots stand in any order: of some classes, of names alone, and of what a class is not."""
    rng, bank = np.random.default_rng(seed), Bank.empty(bundle)
    centers = rng.normal(size=(6, D))
    for step in range(taught):
        number = int(rng.integers(4))
        query = (centers[number] + rng.normal(size=(rng.integers(1, most + 1), D))).astype(np.float32)
        support = (query + rng.normal(size=D)).astype(np.float32)
        bank = bank.add(f"class {number}", prompt(number), support, query, [b"picture"] * len(query))
        if step == 1 and seed % 3 == 0:
            bank = bank.add_by_name("name", prompt(5), centers[5].astype(np.float32))
        if step == 1 and seed % 4 == 0:
            bank = bank.add_reject(f"class {number}", centers[4:5].astype(np.float32), [b"picture"])
    for name in bank.classes:
        bank = bank.with_strength(name, float(rng.choice([0, 0.3, 1])))
    return bank


def without_each(bank: Bank) -> Iterator[tuple[int, Bank | None]]:
    """Each shot of a picture of a class, and the bank as if it had not been taught; None where its class has no other."""
    for row, owner in enumerate(bank.owners.tolist()):
        if bank.pictured[owner]:
            several = (bank.owners == owner).sum() > 1
            yield row, bank.keep(np.arange(len(bank.owners)) != row) if several else None


def restated(bank: Bank, head: Head, exact: bool) -> advice.Report:
    """As `review`, without advice and names; `exact`: every pair of classes is looked at, as in banks that are not large."""
    own: dict[int, float] = {}
    for row, others in without_each(bank):
        if others is not None:
            own[row] = float(head.metric(others.prototypes[bank.owners[row]]) @ head.metric(bank.query[row]))
    several = list(own)
    compact = sum(own.values()) / len(own) if own else (1 + head.thresholds[0]) / 2
    pairs: dict[tuple[int, int], list[float]] = {}
    right, reached, nearest = [], [], {}
    for row, _ in without_each(bank):
        owner = int(bank.owners[row])
        mine = own.setdefault(row, compact)
        cosines = head.similarities(bank.query[row][None])[0].tolist()
        others = [(cosine, -other, other) for other, cosine in enumerate(cosines) if other != owner]
        highest, _, nearest[row] = max(others, default=(-1.0, 0, owner))
        if mine > highest:
            right.append(row)
        if mine >= head.thresholds[owner]:
            reached.append(row)
        for cosine, _, other in others:
            if exact or other == nearest[row]:
                chance = 1 / (1 + np.exp((mine - cosine) / head.calibration.temperature))
                pairs.setdefault((owner, other), []).append(chance)
    chances = {pair: sum(found) / len(found) if exact else max(found) for pair, found in pairs.items()}
    likely = sorted((-chance, pair) for pair, chance in chances.items() if chance >= 0.2)[:10]
    confusions = [advice.Confusion(bank.names[a], bank.names[b], -chance) for chance, (a, b) in likely]
    strays = []
    for row in sorted(several, key=own.__getitem__):
        if row not in right or row not in reached:
            like = "unknown" if row in right else bank.names[nearest[row]]
            owner = bank.owners[row]
            strays.append(advice.Stray(bank.names[owner], bank.owners[:row].tolist().count(owner), like, own[row]))
    share = [sum(row in some for row in several) / len(several) if several else None for some in (right, reached)]
    return advice.Report(len(several), *share, tuple(confusions), tuple(strays[:10]), ())


Told = tuple[advice.Confusion, ...] | tuple[advice.Stray, ...]


def close(found: Told, expected: Told) -> None:
    """Alike, but for the rounding of the number that stands last."""
    ours, theirs = ([tuple(vars(one).values()) for one in told] for told in (found, expected))
    assert [one[:-1] for one in ours] == [one[:-1] for one in theirs]
    assert [one[-1] for one in ours] == pytest.approx([one[-1] for one in theirs], abs=1e-5)


@given(
    seed=st.integers(0, 9999),
    most=st.sampled_from([1, 3]),
    taught=st.integers(1, 9),
    block=st.sampled_from([1, 2, 4, 5, 512]),
    threshold=st.sampled_from([None, 0.2]),
)
@FEW
def test_figures(bundle: Bundle, seed: int, most: int, taught: int, block: int, threshold: float | None) -> None:
    bank = drawn(bundle, seed, most, taught)
    head = Head.of(bank, bundle.background(), bundle.manifest.calibration, threshold=threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "BLOCK", block)
        found = review(bank, head)
    expected = restated(bank, head, exact=len(bank.names) <= block)
    assert (found.left_out, found.accuracy, found.believed) == (expected.left_out, expected.accuracy, expected.believed)
    close(found.confusions, expected.confusions)
    close(found.strays, expected.strays)
    if found.accuracy is None:
        assert found.right is None
    else:
        assert found.right is not None
        assert (found.right.total, found.right.value) == (found.left_out, found.accuracy)


@given(seed=st.integers(0, 9999), taught=st.integers(1, 9), block=st.sampled_from([1, 3, 512]))
@FEW
def test_what_names_gain(bundle: Bundle, seed: int, taught: int, block: int) -> None:
    bank = drawn(bundle, seed, 3, taught)
    head = Head.of(bank, bundle.background(), bundle.manifest.calibration)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "BLOCK", block)
        found = review(bank, head)
    several = [row for row, others in without_each(bank) if others is not None]
    if not several or not any(bank.strengths[bank.owners[row]] for row in several):
        assert found.names is None
        return
    plain = replace(bank, strengths=np.zeros(len(bank.names)))
    blind = restated(plain, head.again(plain), exact=True)
    assert found.names is not None
    assert [share.total for share in found.names] == [len(several)] * 2
    assert found.names[0] == found.right
    assert found.names[1].value == blind.accuracy


@given(seed=st.integers(0, 9999), most=st.sampled_from([1, 3]), taught=st.integers(0, 9), block=st.sampled_from([1, 4, 512]))
@FEW
def test_shots_left_out_by_cosine_alone(bundle: Bundle, seed: int, most: int, taught: int, block: int) -> None:
    bank = drawn(bundle, seed, most, taught)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advice, "BLOCK", block)
        found = left_out(bank)
    right = total = 0
    for row, others in without_each(bank):
        if others is not None:
            cosines = others.prototypes @ unit(bank.query[row])
            total += 1
            right += int(cosines.argmax() == bank.owners[row])
    assert (found and (found.count, found.total)) == ((right, total) if total else None)


@pytest.mark.parametrize(("classifier", "threshold"), [("prototype", 0.7), ("prototype", -1), ("lr", 0.7), ("lr", -1)])
def test_of_many_shots_that_are_missed_the_least_similar_are_told(bundle: Bundle, classifier: str, threshold: float) -> None:
    rng, bank = np.random.default_rng(0), Bank.empty(bundle)
    for number in range(4):
        query = rng.normal(size=(9, D)).astype(np.float32)
        bank = bank.add(f"class {number}", prompt(number), query, query, [b"picture"] * 9)
    head = Head.of(bank, bundle.background(), bundle.manifest.calibration, classifier=classifier, threshold=threshold)
    labels = [match.label for match in head.matches(bank.query)]
    lost = [row for row, owner in enumerate(bank.owners.tolist()) if labels[row] != bank.names[owner]]
    cosines = [float(head.similarities(query[None])[0, owner]) for query, owner in zip(bank.query, bank.owners, strict=True)]
    told = review(bank, head).missed
    assert len(lost) > (10 if threshold > 0 else 0)
    assert threshold > 0 or not set(lost) <= set(np.argsort(cosines)[:10]), "some that are recognized are less similar"
    expected = [(bank.names[bank.owners[row]], row % 9, labels[row]) for row in sorted(lost, key=cosines.__getitem__)[:10]]
    assert [(one.name, one.shot, one.label) for one in told] == expected


def test_without_prompts_in_the_bundle_pictures_decide_alone(bundle: Bundle) -> None:
    bank = drawn(bundle, 1, 3, 9)
    blind = replace(bank, strengths=np.zeros(len(bank.names)))
    promptless = replace(blind, bundle_strength=0.0)
    assert left_out(promptless) == left_out(blind)
