"""Encodes what a class is taught from, ready to be added to a bank."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import encode_crop
from sp_edge.bank.views import views as make_views
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, ImageError
from sp_edge.matching.evidence import LEAST, evidence
from sp_edge.pictures import Pictures, pictures_rgb
from sp_edge.prompts.familiarity import LITTLE
from sp_edge.prompts.table import clean_name
from sp_edge.view import WHOLE, View
from sp_edge_runtime.features import Features
from sp_edge_runtime.naming import Prompt, given_prompt, unreadable

Lesson = Callable[[Bank], Bank]


@dataclass(frozen=True)
class Taught:
    """What a class was taught from.

    Attributes:
        name: of the class.
        familiarity: how much of its prompt the model can read, 0 to 1.
        evidence: of each picture, how much in it looks like the name; empty where the network does not tell.
        unread: the parts of the name that the text encoder does not know. Where it knows nothing of it, familiarity is 0.
    """

    name: str
    familiarity: float
    evidence: tuple[float, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def unlike(self) -> tuple[int, ...]:
        """Pictures, counted from 0, in which nothing looks like the name; none where the model cannot read the name."""
        if self.familiarity < LITTLE:
            return ()
        return tuple(number for number, found in enumerate(self.evidence) if found < LEAST)


class Teacher:
    """Makes lessons of pictures and prompts. A lesson adds a class's shots to a bank, and can be given to several banks.

    Args:
        bundle: the exported model.
        features: its graphs.
    """

    def __init__(self, bundle: Bundle, features: Features) -> None:
        self._manifest = bundle.manifest
        self._familiarity = bundle.familiarity()
        self._text_prototype = bundle.text_prototype()
        self._features = features

    def familiarity(self, prompt: NDArray[np.float32]) -> float:
        """How much of a prompt, float32 (T,), the model can read, 0 to 1; 1 where the bundle does not tell."""
        return 1.0 if self._familiarity is None else float(self._familiarity(prompt))

    def known(self, prompt: Prompt) -> float:
        """Familiarity of a prompt; 0 of a name that the text encoder cannot read, whose vector is that of every such name."""
        return 0.0 if prompt.reading.unreadable else self.familiarity(prompt.vector)

    @property
    def names_alone(self) -> bool:
        """Whether the bundle tells what a name looks like."""
        return self._text_prototype is not None

    def lesson(
        self,
        name: str,
        images: Pictures,
        prompt: Prompt | NDArray[np.float32],
        *,
        strength: float | None,
        views: int,
        prepared: bool = False,
        view: View = WHOLE,
    ) -> tuple[Lesson, Taught]:
        """Encodes a class's shots; see `Recognizer.enroll`.

        Raises:
            BankError: no image.
            PromptError: the prompt does not fit the bundle.
            ImageError: an image is no picture.
            SettingsError: the view's region does not lie within one.
            BackendError: the inference engine failed.
        """
        found = given_prompt(name, prompt, self._manifest.text.dim)
        vector = found.vector
        shown = self._shown(name, images, views, view, prepared=prepared)
        made = self._features.shots(np.concatenate(shown), vector)
        support, query = (each.reshape(len(shown), views, -1).mean(axis=1) for each in (made.support, made.query))
        shots = (support, query, [encode_crop(one[0]) for one in shown])
        familiarity, said = self.known(found), found.description

        def learn(bank: Bank) -> Bank:
            return bank.with_fit(view.fit).add(
                name, vector, *shots, strength=strength, familiarity=familiarity, description=said
            )

        seen = () if made.scores is None else tuple(evidence(made.scores[::views]).tolist())
        return learn, Taught(clean_name(name), familiarity, seen, found.reading.unread)

    def by_name(self, name: str, prompt: Prompt | NDArray[np.float32], *, strength: float | None) -> tuple[Lesson, Taught]:
        """Makes a class of what its prompt says; see `Recognizer.enroll_by_name`.

        Raises:
            BankError: the bundle does not tell what a name looks like.
            PromptError: the prompt does not fit the bundle, or the text encoder knows nothing of the name.
        """
        found = given_prompt(name, prompt, self._manifest.text.dim)
        vector = found.vector
        if found.reading.unreadable:
            raise unreadable(f"'{clean_name(name)[:80]}'", name, found.reading)
        if self._text_prototype is None:
            raise BankError(
                f"this bundle cannot know '{name}' by its name alone",
                expected="one to five pictures",
                got="a network that does not tell what a name looks like",
                next_step=f"sp-edge enroll --name {shlex.quote(name)} PICTURES",
            )
        feature, familiarity = self._text_prototype(vector[None])[0], self.known(found)

        def learn(bank: Bank) -> Bank:
            said = found.description
            return bank.add_by_name(name, vector, feature, strength=strength, familiarity=familiarity, description=said)

        return learn, Taught(clean_name(name), familiarity, unread=found.reading.unread)

    def reject(
        self,
        name: str,
        images: Pictures,
        *,
        views: int,
        prepared: bool = False,
        view: View = WHOLE,
    ) -> Lesson:
        """Encodes pictures that are not of a class; see `Recognizer.enroll_not`.

        Raises:
            BankError: no image.
            ImageError: an image is no picture.
            SettingsError: the view's region does not lie within one.
            BackendError: the inference engine failed.
        """
        shown = self._shown(name, images, views, view, prepared=prepared)
        seen = self._features.queries([each for one in shown for each in one])
        query = seen.reshape(len(shown), views, -1).mean(axis=1)
        crops = [encode_crop(one[0]) for one in shown]
        return lambda bank: bank.with_fit(view.fit).add_reject(name, query, crops)

    def _shown(self, name: str, images: Pictures, views: int, view: View, *, prepared: bool) -> list[NDArray[np.uint8]]:
        """The views of each picture, as the network sees them; the pictures may be `prepared`."""
        preprocess, side = self._manifest.preprocess, self._manifest.preprocess.image_size
        shown = []
        for image in pictures_rgb(images):
            if prepared and image.shape != (side, side, 3):
                raise ImageError("the picture is not prepared", expected=f"uint8 ({side}, {side}, 3)", got=str(image.shape))
            crop = image if prepared else preprocess(image, view)
            shown.append(make_views(crop, views, flip=self._manifest.mirrored))
        if not shown:
            raise BankError(f"nothing to learn '{name}' from", expected="one to five pictures", got="none")
        return shown
