from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toy
from sp_edge.errors import BankError, PromptError
from sp_edge_runtime.naming import Prompt, given_prompt
from sp_edge_runtime.recognizer import Recognizer


@pytest.fixture
def naming(naming_bundle: Path) -> Iterator[Recognizer]:
    with Recognizer.load(naming_bundle, device="cpu") as recognizer:
        yield recognizer


def test_a_name_that_the_bundle_does_not_know_is_encoded_here(naming: Recognizer) -> None:
    naming.enroll("uni_cycle", [toy.picture("red")])
    expected = toy.prompt("A photo of uni cycle")
    np.testing.assert_allclose(naming.bank.prompts, expected[None], atol=1e-5)
    image = naming.bundle.manifest.preprocess(toy.picture("red"))
    np.testing.assert_allclose(naming.bank.support, toy.features(image[None], expected[None]), atol=1e-5)
    assert naming.prompt("uni cycle").source == "bank"


def test_where_a_prompt_comes_from(naming: Recognizer) -> None:
    table = naming.prompt("red")
    assert table.source == "table"
    np.testing.assert_array_equal(table.vector, toy.prompts().vector("red"))
    assert naming.prompt("unicycle").source == "text encoder"
    for description in ("a colour", ["a colour"], ("a colour", "like blood")):
        described = naming.prompt("red", description)
        assert described.source == "description", "what the user says counts more than the table"
        sentences = [description] if isinstance(description, str) else description
        np.testing.assert_allclose(described.vector, toy.prompt(*sentences), atol=1e-5)


def test_a_description_stands_for_the_name(naming: Recognizer) -> None:
    naming.enroll("red", [toy.picture("red")], description="a colour")
    np.testing.assert_allclose(naming.bank.prompts, toy.prompt("a colour")[None], atol=1e-5)
    naming.enroll("red", [toy.picture("red", seed=1)])
    naming.enroll("red", [toy.picture("red", seed=2)], description="a  colour")
    assert naming.bank.shots("red") == 3
    with pytest.raises(BankError, match="taught with another prompt"):
        naming.enroll("red", [toy.picture("red")], description="something else")


def test_a_name_that_cannot_be_read_leaves_it_to_the_pictures(naming: Recognizer) -> None:
    with pytest.raises(PromptError, match="cannot read the description of 'red'"):
        naming.enroll("red", [toy.picture("red")], description="独轮车")
    for seed, name in enumerate(("独轮车", "摩托车!")):
        taught = naming.enroll(name, [toy.picture("red", seed=seed)])
        assert (taught.familiarity, taught.unread) == (0, tuple(name))
        assert naming.prompt(name).source == "bank"
    assert naming.bank.strengths.tolist() == [0, 0], "else both would be encoded with one and the same prompt"
    part = naming.enroll("bike 独", [toy.picture("green")])
    assert (part.familiarity, part.unread) == (1, ("独",))
    assert naming.enroll("bike", [toy.picture("blue")]).unread == ()


def test_further_pictures_come_under_any_spelling(naming: Recognizer) -> None:
    naming.enroll("Red Bike", [toy.picture("red")])
    assert naming.enroll("red\u00a0bike", [toy.picture("red", seed=1)]).name == "Red Bike"
    assert naming.prompt("RED BIKE").source == "bank"
    assert [one.name for one in naming.enroll_many({"rEd bike": [toy.picture("red", seed=2)]})] == ["Red Bike"]
    assert (naming.bank.names, naming.bank.shots("Red Bike")) == (("Red Bike",), 3)
    assert naming.problems("RED bike", [toy.picture("red")])[0].shot == 0, "a copy of what the class has"


def test_descriptions_that_cannot_be(naming: Recognizer) -> None:
    cases: list[Any] = ["", [], ["fine", " "], "a\0b", "x" * 2001, "a" * 65, 3, [3], b"a sentence"]
    for description in cases:
        with pytest.raises(PromptError):
            naming.enroll("red", [toy.picture("red")], description=description)
    with pytest.raises(PromptError, match="a prompt and a description"):
        naming.enroll("red", [toy.picture("red")], prompt=toy.prompt("a"), description="a")
    assert naming.bank.names == ()


def test_without_text_encoder_it_lists_near_names_and_both_ways_on(toy_bundle: Path) -> None:
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        with pytest.raises(PromptError, match="the bundle has no class 'dark knight'") as raised:
            recognizer.enroll("dark_knight", [toy.picture("red")])
        assert raised.value.expected.startswith("one of its 8 names, such as dark night")
        for way in ("sp-edge prompts 'dark knight' --out", "sp-edge export --with-text int8"):
            assert way in raised.value.next_step
        with pytest.raises(PromptError, match="cannot encode the description of 'red'") as raised:
            recognizer.enroll("red", [toy.picture("red")], description="a colour")
        assert raised.value.expected == "a bundle that carries its text encoder"


@pytest.mark.parametrize(
    ("prompt", "got"),
    [
        (np.zeros(3, np.float32), "float32 (3,)"),
        (np.zeros(5, np.float32), "float32 (5,)"),
        (np.zeros((4, 1), np.float32), "float32 (4, 1)"),
        (np.zeros(4), "float64 (4,)"),
        (np.zeros(4, np.float16), "float16 (4,)"),
        (np.zeros(4, np.int32), "int32 (4,)"),
        ([0.0] * 4, "list"),
        (np.array([0, 0, 0, np.inf], np.float32), "others"),
    ],
)
def test_a_given_prompt_is_a_vector_as_the_table_holds_them(prompt: Any, got: str) -> None:
    for given in (prompt, Prompt(prompt, "given")):
        with pytest.raises(PromptError, match="the prompt of 'red' does not fit") as raised:
            given_prompt("red", given, 4)
        assert raised.value.got == got
    fitting = np.arange(4, dtype=np.float32)
    assert given_prompt("red", fitting, 4).vector is fitting
    described = Prompt(fitting, "description", ("a colour",))
    assert given_prompt("red", described, 4) is described


def test_long_texts_are_shown_by_their_first_eighty_letters(naming: Recognizer, toy_bundle: Path) -> None:
    name, unread = "a" * 100, "\u72ec" * 60
    with pytest.raises(PromptError) as raised:
        naming.prompt(name, [])
    assert raised.value.what == f"the description of '{name[:80]}' is empty"
    with pytest.raises(PromptError) as raised:
        naming.prompt(name, unread)
    assert raised.value.what == f"the text encoder cannot read the description of '{name[:80]}'"
    assert raised.value.got == "unknown to it: " + " ".join(unread)[:80]
    assert raised.value.next_step.endswith(f"sp-edge enroll --name {name} --description SENTENCE")
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        for description, what in ((None, f"the bundle has no class '{name[:80]}'"), ("b", "cannot encode the description of")):
            with pytest.raises(PromptError) as raised:
                recognizer.prompt(name, description)
            assert raised.value.what == (what if description is None else f"{what} '{name[:80]}'")
            assert raised.value.got == "one without"
