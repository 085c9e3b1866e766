"""Teaches a class from what a source showed a moment ago, or from pictures, and says which were refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import reject_name
from sp_edge.bank.quality import Problem
from sp_edge.errors import InputError
from sp_edge.matching.decide import Floats
from sp_edge.prompts.familiarity import LITTLE
from sp_edge_runtime.learner import Learner
from sp_edge_runtime.page.choose import different
from sp_edge_runtime.prediction import Prediction

MOST = 5  # shots that holding the button takes
LOOKED_AT = 24  # frames of a hold that are judged
REASONS = {
    "dark": "too dark",
    "overexposed": "too bright",
    "empty": "nothing to see on it",
    "blurred": "blurred",
    "copy": "the same as one that is there",
}


class RefusedError(InputError):
    """No picture would teach anything; `reasons` says of how many why."""

    def __init__(self, reasons: dict[str, int]) -> None:
        told = ", ".join(reasons)
        super().__init__(f"Not taught: {told}", expected="a sharp, bright picture of another view", got=told)
        self.reasons = reasons


@dataclass(frozen=True)
class Outcome:
    """What was taught.

    Attributes:
        name: of the class, as the bank has it.
        taken: how many pictures.
        refused: reason -> how many pictures were left out for it.
        shots: how many the class has now.
        readable: whether the model can read the name; None of what a class is not.
        unlike: how many of the pictures show nothing that looks like the name.
    """

    name: str
    taken: int
    refused: dict[str, int]
    shots: int
    readable: bool | None
    unlike: int = 0


def teach_held(learner: Learner, name: str, held: Sequence[Prediction], *, negative: bool, force: bool) -> Outcome:
    """Teaches up to five different ones of the frames that were shown while a button was held.

    Args:
        learner: who learns.
        name: of the class.
        held: what was seen, the oldest first; at least one.
        negative: teach what the class is not.
        force: keep pictures that would be refused.

    Raises:
        RefusedError: none of them would teach anything.
        BankError, PromptError: as `Learner.enroll`.
    """
    step = max(1, -(-len(held) // LOOKED_AT))
    some = list(held)[::-1][::step][::-1]  # the newest is always among them
    crops = [one.crop_rgb for one in some if one.crop_rgb is not None]
    features = np.array([one.feature for one in some if one.feature is not None], np.float32)
    title = _title(learner, name, negative=negative)
    good, refused = _sifted(learner, title, crops, force=force, prepared=True)
    known = _known(learner, title)
    chosen = sorted(good[place] for place in different(features[good], MOST, known))
    return _taught(learner, name, [crops[place] for place in chosen], refused, negative=negative, prepared=True)


def teach_pictures(
    learner: Learner, name: str, pictures: Sequence[NDArray[np.uint8]], *, negative: bool, force: bool
) -> Outcome:
    """Teaches a class from pictures, uint8 (H, W, 3) RGB each.

    Args:
        learner: who learns.
        name: of the class.
        pictures: at least one.
        negative: teach what the class is not.
        force: keep pictures that would be refused.

    Raises:
        RefusedError: none of them would teach anything.
        BankError, PromptError, ImageError: as `Learner.enroll`.
    """
    return _teach(learner, name, pictures, negative=negative, force=force, prepared=False)


def teach_crops(
    learner: Learner, name: str, crops: Sequence[NDArray[np.uint8]], *, negative: bool, force: bool = False
) -> Outcome:
    """As `teach_pictures`, of pictures as the network sees them: uint8 (S, S, 3) RGB each."""
    return _teach(learner, name, crops, negative=negative, force=force, prepared=True)


def _teach(
    learner: Learner, name: str, images: Sequence[NDArray[np.uint8]], *, negative: bool, force: bool, prepared: bool
) -> Outcome:
    title = _title(learner, name, negative=negative)
    good, refused = _sifted(learner, title, images, force=force, prepared=prepared)
    return _taught(learner, name, [images[place] for place in good], refused, negative=negative, prepared=prepared)


def _title(learner: Learner, name: str, *, negative: bool) -> str:
    """What the bank calls the class, or what is not of it."""
    own = learner.bank.spelling(name)
    return reject_name(own) if negative else own


def teach_name(learner: Learner, name: str) -> Outcome:
    """Teaches a class by its name alone.

    Raises:
        BankError, PromptError: as `Learner.enroll_by_name`.
    """
    taught = learner.enroll_by_name(name)
    return Outcome(taught.name, 0, {}, 0, taught.familiarity >= LITTLE)


def _sifted(
    learner: Learner, title: str, images: Sequence[NDArray[np.uint8]], *, force: bool, prepared: bool
) -> tuple[list[int], dict[str, int]]:
    """Which of the pictures can teach a class something, and why not the others; repeated frames need no word."""
    found: dict[int, Problem] = (
        {} if force else {one.shot: one for one in learner.problems(title, list(images), prepared=prepared)}
    )
    told = Counter(REASONS[one.what] for one in found.values() if not (one.what == "copy" and one.of.startswith("picture")))
    good = [place for place in range(len(images)) if place not in found]
    if not good:
        raise RefusedError(dict(told))
    return good, dict(told)


def _known(learner: Learner, title: str) -> Floats | None:
    """Features of the shots that a class has; None of a new one."""
    bank = learner.bank
    if title not in bank.rows or bank.by_name[bank.rows[title]]:
        return None
    return bank.query[bank.owners == bank.rows[title]]


def _taught(
    learner: Learner, name: str, images: list[NDArray[np.uint8]], refused: dict[str, int], *, negative: bool, prepared: bool
) -> Outcome:
    if negative:
        learner.enroll_not(name, images, prepared=prepared)
        title = _title(learner, name, negative=True)
        return Outcome(title, len(images), refused, learner.bank.shots(title), None)
    taught = learner.enroll(name, images, prepared=prepared)
    shots = learner.bank.shots(taught.name)
    return Outcome(taught.name, len(images), refused, shots, taught.familiarity >= LITTLE, len(taught.unlike))
