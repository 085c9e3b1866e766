from typing import Any

import numpy as np
import pytest

import toy
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, ImageError, PromptError
from sp_edge_runtime.features import Features
from sp_edge_runtime.teaching import Taught, Teacher


def test_a_lesson_can_be_given_to_several_banks(bundle: Bundle, features: Features) -> None:
    vector = toy.prompts().vector("red")
    lesson, told = Teacher(bundle, features).lesson(" red", [toy.picture("red")], vector, strength=None, views=1)
    assert told == Taught("red", 1.0)
    empty = Bank.empty(bundle)
    once = lesson(empty)
    assert (empty.names, once.names, once.shots("red")) == ((), ("red",), 1)
    assert lesson(once).shots("red") == 2


@pytest.mark.parametrize(
    ("images", "prompt", "error"),
    [
        ([], np.ones(toy.TEXT.dim, np.float32), BankError),
        ([None], np.ones(toy.TEXT.dim, np.float32), ImageError),
        ([toy.picture("red")], np.ones(toy.TEXT.dim + 1, np.float32), PromptError),
        ([toy.picture("red")], np.full(toy.TEXT.dim, np.inf, np.float32), PromptError),
        ([toy.picture("red")], [1.0] * toy.TEXT.dim, PromptError),
    ],
)
def test_what_nothing_can_be_learnt_from(bundle: Bundle, features: Features, images: Any, prompt: Any, error: type) -> None:
    with pytest.raises(error):
        Teacher(bundle, features).lesson("red", images, prompt, strength=None, views=1)
