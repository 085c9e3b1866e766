from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.errors import PromptError
from sp_edge.prompts.spelling import spelled_alike, spelling_key
from sp_edge.prompts.table import clean_name


@pytest.mark.parametrize(
    "other",
    [
        "Coffee Mug", "COFFEE_MUG", " coffee\u00a0mug ", "coffee\u200b mug", "\ufeffcoffee mug", "cof\u00adfee mug",
        "\uff23offee\u3000mu\uff27", "coﬀee mug", "coffee mug\ufe0f", "\ufe00coffee mug",
    ],
)  # fmt: skip
def test_spellings_of_one_name(other: str) -> None:
    assert spelling_key(other) == spelling_key("coffee mug")


@pytest.mark.parametrize(
    ("one", "two"),
    [("coffee mug", "coffeemug"), ("café", "cafe"), ("mug", "mugs"), ("mug", "mug\ufe10"), ("mug", "\ufdfamug"), ("🚲", "🛵")],
)
def test_other_names(one: str, two: str) -> None:
    assert spelling_key(one) != spelling_key(two)


def test_letters_with_several_lower_forms() -> None:
    assert spelling_key("STRASSE") == spelling_key("straße")
    assert spelling_key("ΟΔΟΣ") == spelling_key("οδος") == spelling_key("οδοσ")


def test_groups_are_in_order() -> None:
    assert spelled_alike(["mug", "key", "Mug", "KEY", "cup", "mug"]) == [("mug", "Mug"), ("key", "KEY")]
    assert spelled_alike([]) == []


@given(st.text(max_size=8))
def test_any_name_is_its_own_spelling(name: str) -> None:
    try:
        clean = clean_name(name)
    except PromptError:
        with pytest.raises(PromptError):
            spelling_key(name)
        return
    assert spelling_key(clean) == spelling_key(name)
