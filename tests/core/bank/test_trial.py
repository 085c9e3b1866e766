import json

import pytest

from sp_edge.accuracy import Share
from sp_edge.bank.trial import Foreign, Mistaken, Taught, trial
from sp_edge.errors import DataError
from sp_edge.matching.decide import Match
from sp_edge.matching.label import UNKNOWN


def found(label: str, name: str | None = None) -> Match:
    return Match(label, name or label, 0.5, 0.5, 0.1, ())


SEEN = [
    *[("mug", found("mug"))] * 5,
    ("mug", found("key")),
    ("mug", found(UNKNOWN, "mug")),
    ("mug", found(UNKNOWN, "key")),
    ("key", found("key")),
    ("key", found("mug")),
    ("dog", found(UNKNOWN, "mug")),
    *[("dog", found("key"))] * 2,
    ("unknown", found(UNKNOWN, "mug")),
]


def test_pictures_are_counted() -> None:
    counted = trial(SEEN, ("key", "mug", "pen"))
    assert counted.taught == (Taught("mug", 8, 5, 1, 2, 1), Taught("key", 2, 1, 1, 0, 0))
    assert counted.foreign == (Foreign("dog", 3, 2), Foreign("unknown", 1, 0))
    assert counted.mistaken == (Mistaken("dog", "key", 2), Mistaken("key", "mug", 1), Mistaken("mug", "key", 1))
    assert counted.untried == ("pen",)
    assert (counted.accuracy, counted.unknown, counted.accepted) == (Share(6, 10), Share(2, 10), Share(2, 4))


def test_a_class_that_was_forgotten_is_foreign() -> None:
    counted = trial([("mug", found("mug")), ("key", found("mug")), ("key", found(UNKNOWN, "mug"))], ["mug"])
    assert counted.foreign == (Foreign("key", 2, 1),)


def test_as_json() -> None:
    read = json.loads(json.dumps(trial(SEEN, ("key", "mug", "pen")).to_json()))
    assert (read["accuracy"]["count"], read["accuracy"]["total"], read["accuracy"]["share"]) == (6, 10, 0.6)
    assert read["taught"][0] == {"name": "mug", "pictures": 8, "right": 5, "taken": 1, "unknown": 2, "nearest": 1}
    assert read["mistaken"][0] == {"name": "dog", "other": "key", "pictures": 2}
    assert read["accepted"]["share"] == 0.5
    assert trial([("mug", found("mug"))], ["mug"]).to_json()["accepted"] is None


@pytest.mark.parametrize("seen", [[], [("dog", found(UNKNOWN, "mug"))]])
def test_without_a_picture_of_a_taught_class_there_is_no_accuracy(seen: list[tuple[str, Match]]) -> None:
    with pytest.raises(DataError, match="no picture is of a taught class") as raised:
        trial(seen, [*"abcdefg"])
    assert raised.value.expected == "folders called as the classes are: a, b, c, d, e and 2 more"
    assert raised.value.got == ("dog" if seen else "none")
