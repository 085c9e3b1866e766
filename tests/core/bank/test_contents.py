"""What no bank may hold, at its edges, and what follows from what it holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from banks import D, T, prompt, shots, taught
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError

# Three classes and six shots.
FORMS: list[tuple[str, Any, str]] = [
    ("prompts", np.zeros((3, T)), f"float64 (3, {T})"),
    ("prompts", np.zeros((2, T), np.float32), f"float32 (2, {T})"),
    ("prompts", np.zeros(3, np.float32), "float32 (3,)"),
    ("prompts", np.zeros((3, T, 1), np.float32), f"float32 (3, {T}, 1)"),
    ("thresholds", np.zeros(3), "float64 (3,)"),
    ("thresholds", np.zeros(4, np.float32), "float32 (4,)"),
    ("thresholds", np.zeros((3, 1), np.float32), "float32 (3, 1)"),
    ("strengths", np.zeros(3, np.float32), "float32 (3,)"),
    ("strengths", np.zeros(2), "float64 (2,)"),
    ("support", np.zeros((6, D), np.float16), f"float16 (6, {D})"),
    ("support", np.zeros(6, np.float32), "float32 (6,)"),
    ("query", np.zeros((6, D)), f"float64 (6, {D})"),
    ("query", np.zeros((5, D), np.float32), f"float32 (5, {D})"),
    ("query", np.zeros((6, D + 1), np.float32), f"float32 (6, {D + 1})"),
    ("owners", np.zeros(6, np.int32), "int32 (6,)"),
    ("owners", np.zeros(7, np.int64), "int64 (7,)"),
    ("crops", np.zeros(6, "S1"), "|S1 (6,)"),
    ("crops", np.full(5, b"", object), "object (5,)"),
]


@pytest.mark.parametrize(("part", "value", "got"), FORMS)
def test_the_form_of_each_part(part: str, value: Any, got: str, bundle: Bundle) -> None:
    with pytest.raises(BankError, match=f"the bank's {part} do not fit") as raised:
        replace(taught(bundle), **{part: value})
    assert raised.value.got == got


@pytest.mark.parametrize(
    "changes", [{"names": ("a", "b", " c")}, {"names": ("a", "b", "")}, {"descriptions": {"café": ("a  b",)}}]
)
def test_names_and_sentences_are_clean(changes: dict[str, Any], bundle: Bundle) -> None:
    with pytest.raises(BankError):
        replace(taught(bundle), **changes)


def test_features_are_rows(bundle: Bundle) -> None:
    for features in (np.zeros(6, np.float32), np.zeros((6, D, 1), np.float32)):
        with pytest.raises(BankError, match="the bank's support do not fit"):
            replace(taught(bundle), support=features, query=features)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"names": ("a", "b", "a")}, "stands twice"),
        ({"descriptions": {"wolf": ("a wolf",)}}, "describes a class that it does not hold"),
        ({"owners": np.array([0, 0, 1, 1, 1, 1])}, "shots and classes do not fit"),
        ({"owners": np.array([0, 0, 1, 2, 2, 3])}, "shots and classes do not fit"),
        ({"owners": np.array([0, 0, 1, 2, 2, -1])}, "shots and classes do not fit"),
        ({"fit": "stretch"}, "fit is not known"),
    ],
)
def test_parts_that_do_not_go_together(changes: dict[str, Any], said: str, bundle: Bundle) -> None:
    with pytest.raises(BankError, match=said) as raised:
        replace(taught(bundle), **changes)
    assert raised.value.expected


@pytest.mark.parametrize("part", ["prompts", "support", "query"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(part: str, number: float, bundle: Bundle) -> None:
    changed = getattr(taught(bundle), part).copy()
    changed[1, 2] = number
    with pytest.raises(BankError, match="not finite"):
        replace(taught(bundle), **{part: changed})


@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        ("thresholds", [-1, 1, np.nan], [-1.001, 1.001, 2, np.inf, -np.inf]),
        ("strengths", [0, 0.5, 1], [-0.001, 1.001, 2, np.nan]),
    ],
)
def test_limits_of_the_settings_of_a_class(part: str, good: list[float], bad: list[float], bundle: Bundle) -> None:
    bank = taught(bundle)
    whole = np.array(good, getattr(bank, part).dtype)
    np.testing.assert_array_equal(getattr(replace(bank, **{part: whole}), part), whole)
    for number in bad:
        changed = whole.copy()
        changed[1] = number
        with pytest.raises(BankError, match=r"threshold that is no cosine|strength is out of range"):
            replace(bank, **{part: changed})


def test_prompts_count_where_the_bundle_takes_them(bundle: Bundle) -> None:
    plain = replace(taught(bundle), strengths=np.zeros(3), bundle_strength=0.0)
    np.testing.assert_array_equal(plain.examples, plain.query)
    with pytest.raises(BankError, match="takes no prompts") as raised:
        replace(plain, strengths=np.array([0, 0, 0.01]))
    assert raised.value.got == "0.01"


def test_what_a_shot_adds_to_its_class(bundle: Bundle) -> None:
    """Of 2, 1 and 3 shots at strength 0.8 the prompt has the share 0.8 / (0.8 + 0.2 K); the support graph's is 0.8."""
    bank = taught(bundle)
    for row, shots_of_class in enumerate([2, 2, 1, 3, 3, 3]):
        prompted = bank.query[row] + (bank.support[row] - bank.query[row]).astype(float) / 0.8
        share = 0.8 / (0.8 + 0.2 * shots_of_class)
        np.testing.assert_allclose(bank.examples[row], share * prompted + (1 - share) * bank.query[row], atol=1e-5)


def test_prototypes_of_shots_in_any_order(bundle: Bundle) -> None:
    bank = taught(bundle)
    order = np.array([3, 0, 5, 2, 1, 4])
    mixed = replace(bank, **{part: getattr(bank, part)[order] for part in ("support", "query", "owners", "crops")})
    np.testing.assert_allclose(mixed.prototypes, bank.prototypes, atol=1e-6)
    assert Bank.empty(bundle).prototypes.shape == (0, D)


def test_spellings(bundle: Bundle) -> None:
    bank = replace(taught(bundle), names=("CAFÉ", "Café", "mug"))
    assert [bank.spelling(name) for name in ("CAFÉ", "Café", "MUG", "new_one")] == ["CAFÉ", "Café", "mug", "new one"]
    with pytest.raises(BankError, match="which class is 'café'") as raised:
        bank.spelling("café")
    assert raised.value.got == "'CAFÉ' and 'Café'"
    for unknown, expected in ((bank, "CAFÉ, Café, mug"), (Bank.empty(bundle), "an empty bank has none")):
        with pytest.raises(BankError, match="the bank has no class 'fork'") as raised:
            unknown.pictures("fork")
        assert raised.value.expected == expected


def test_kinds_of_classes(bundle: Bundle) -> None:
    bank = taught(bundle).add_by_name("hammer", prompt(7), np.ones(D, np.float32)).add_reject("red fox", *shots(2, 40)[1:])
    assert bank.rows == {name: row for row, name in enumerate(bank.names)}
    assert bank.classes == ("red fox", "polar bear", "café", "hammer")
    assert bank.by_name.tolist() == [False, False, False, True, False]
    assert bank.rejecting.tolist() == [False, False, False, False, True]
    assert bank.pictured.tolist() == [True, True, True, False, False]
    assert [bank.shots(name) for name in bank.names] == [2, 1, 3, 0, 2]
