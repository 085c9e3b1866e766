"""Teaches a bank its classes from names and pictures, while others may recognize with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop, thumbnails
from sp_edge.bank.file import BankFile
from sp_edge.bank.quality import Problem, problems
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, PromptError
from sp_edge.pictures import Picture, Pictures, pictures_rgb
from sp_edge.prompts.spelling import spelling_key
from sp_edge.view import Fit, Region, View
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.features import Features
from sp_edge_runtime.live_bank import LiveBank
from sp_edge_runtime.looking import Look, Looker
from sp_edge_runtime.naming import Namer, Prompt
from sp_edge_runtime.teaching import Lesson, Taught, Teacher


class Learner:
    """A bundle and the bank that is taught with it; what recognizes, too, is a `Recognizer`.

    Args:
        bundle: the exported model.
        bank: the taught classes, in memory or in a file.
        backend: what runs the bundle's graphs; it belongs to the caller.
        fit: how pictures become the network's square, 'crop', 'squash' or 'pad' (`sp_edge.view.View`). The first picture
            that is taught records it in the bank, whose own it is from then on. By default the bank's; 'crop' of a new one.

    Raises:
        BankError: the bank was made with another bundle, or taught with another fit.
        SettingsError: no such fit.
    """

    def __init__(self, bundle: Bundle, bank: Bank | LiveBank, backend: Backend, *, fit: Fit | None = None) -> None:
        self.bundle = bundle
        self._live = bank if isinstance(bank, LiveBank) else LiveBank(bank)
        self._fit = fit
        self._check_fits(self.bank)
        if fit is not None:
            self.bank.with_fit(fit)
        self._namer = Namer(bundle)
        self._features = Features(bundle, backend)
        self._teacher = Teacher(bundle, self._features)
        self._looker = Looker(bundle, self._features)

    @property
    def bank(self) -> Bank:
        """The taught classes as they are now; `enroll`, `forget`, `undo` and `replace_bank` change them."""
        return self._live.bank

    def replace_bank(self, bank: Bank) -> None:
        """Puts another bank in place of what was taught, and where there is a file, writes it there.

        Raises:
            BankError: it was made with another bundle, or the file cannot be used.
            OSError: the file cannot be written.
        """
        self._check_fits(bank)
        self._live.change(lambda _: bank)

    def enroll(
        self,
        name: str,
        images: Pictures,
        *,
        prompt: Prompt | NDArray[np.float32] | None = None,
        description: str | Sequence[str] | None = None,
        strength: float | None = None,
        views: int = 1,
        prepared: bool = False,
        region: Region | None = None,
    ) -> Taught:
        """Teaches a class, or further shots of one; it is recognized from the next image on.

        Args:
            name: of the class. A class that the bank has keeps its spelling: 'mug' is a further shot of 'Mug'.
            images: K >= 1 shots: a list of pictures as `classify` takes them, uint8 (K, H, W, 3) RGB, or one picture.
            prompt: what `prompt` gave, or float32 (T,) as the prompt table holds them; by default what `prompt` finds.
            description: a sentence that stands for the name, or several, whose vectors are averaged; the bank keeps them.
            strength: of the class's prompt against its pictures, 0 to 1: the prompt's share beside one picture, which falls
                with their number (`sp_edge.matching.decide.share`); 0 is the plain prototype. By default a class that the bank
                knows keeps its own, and a new one takes the bundle's, which training chose, times `familiarity`.
            views: of each shot, 1 to 50: the mean feature of the shot and of views - 1 crops of it stands for the shot.
            prepared: the images are what the network sees: uint8 (S, S, 3) RGB, as `Prediction.crop_rgb` is, or a bank's crop.
            region: the part of each picture that is looked at; the whole by default.

        Returns:
            How much of the name the model can read, and how much of it each picture bears out.

        Raises:
            BankError: no image, the class was taught with another prompt, the strength is not within 0 to 1, or the bundle
                was exported without prompts.
            PromptError: no prompt is known for the name, or it is not such an array.
            ImageError: an image is no picture.
            SettingsError: the region does not lie within one.
            BackendError: the inference engine failed.
        """
        name = self.bank.spelling(name)
        found = self._found(name, prompt, description)
        view = self._view(region)
        learn, taught = self._teacher.lesson(name, images, found, strength=strength, views=views, prepared=prepared, view=view)
        self.change(learn)
        return taught

    def lesson(self, name: str, crops: Pictures) -> Lesson:
        """What `enroll` would do with a class's shots, for a change that does more than that in one step.

        Args:
            name: of the class.
            crops: K >= 1 shots that are prepared, as `enroll` takes them.

        Raises:
            BankError, PromptError, ImageError, BackendError: as `enroll`.
        """
        name, view = self.bank.spelling(name), self._view(None)
        return self._teacher.lesson(name, crops, self.prompt(name), strength=None, views=1, prepared=True, view=view)[0]

    def change(self, change: Callable[[Bank], Bank]) -> None:
        """Changes the bank in one step, from the next image on; where there is a file, it is written.

        Args:
            change: gives the changed bank of the one that it gets, which another program may have written.

        Raises:
            SpEdgeError: what `change` raises, or the file cannot be used; the bank stays as it is.
            OSError: the file cannot be written.
        """
        self._live.change(change)

    def enroll_by_name(
        self,
        name: str,
        *,
        prompt: Prompt | NDArray[np.float32] | None = None,
        description: str | Sequence[str] | None = None,
        strength: float | None = None,
    ) -> Taught:
        """Teaches a class by its name alone, without a picture, where the bundle tells what names look like.

        It is less sure than a class with pictures; `bank.by_name` marks it. The first pictures that `enroll` gets of it take
        the name's place.

        Args:
            name: of the class.
            prompt, description: as `enroll` takes them.
            strength: of the name from the first picture on, as `enroll` takes it.

        Raises:
            BankError: the bundle cannot, or the class has pictures already.
            PromptError: no prompt is known for the name.
        """
        name = self.bank.spelling(name)
        found = self._found(name, prompt, description)
        learn, taught = self._teacher.by_name(name, found, strength=strength)
        self._live.change(learn)
        return taught

    def enroll_not(
        self, name: str, images: Pictures, *, views: int = 1, prepared: bool = False, region: Region | None = None
    ) -> None:
        """Teaches what a class is not: a picture that is most like these is 'unknown', and its best name is not '<name>'.

        Args:
            name: of a taught class.
            images, views, prepared, region: pictures of what is taken for it, as `enroll` takes them.

        Raises:
            BankError: no such class, or no image.
            ImageError, SettingsError, BackendError: as `enroll`.
        """
        view = self._view(region)
        self._live.change(self._teacher.reject(name, images, views=views, prepared=prepared, view=view))

    def enroll_many(
        self,
        classes: Mapping[str, Pictures] | Iterable[tuple[str, Pictures]],
        *,
        prompts: Mapping[str, Prompt | NDArray[np.float32]] | None = None,
        strength: float | None = None,
        views: int = 1,
        region: Region | None = None,
    ) -> tuple[Taught, ...]:
        """Teaches several classes at once: all of them, written in one step, or none.

        Args:
            classes: name -> shots of each class, or pairs of them, which are taken one by one. Spellings of one name are one
                class; of a new one the first counts.
            prompts: name, spelt as in `classes` -> prompt; that of any other class is what `prompt` finds.
            strength, views, region: of every class; see `enroll`.

        Returns:
            What `enroll` returns, of each class.

        Raises:
            BankError, PromptError, ImageError, SettingsError, BackendError: as `enroll`; nothing was taught.
        """
        view = self._view(region)
        pairs = classes.items() if isinstance(classes, Mapping) else classes
        given, first = prompts or {}, dict[str, str]()

        def lesson(name: str, images: Pictures) -> tuple[Lesson, Taught]:
            own = self.bank.spelling(name)
            own = own if own in self.bank.rows else first.setdefault(spelling_key(own), own)
            found = given[name] if name in given else self.prompt(own)
            return self._teacher.lesson(own, images, found, strength=strength, views=views, view=view)

        lessons = [lesson(name, images) for name, images in pairs]
        if not lessons:
            raise BankError("nothing to learn", expected="one class or more", got="none")

        def learn(bank: Bank) -> Bank:
            for lesson, _ in lessons:
                bank = lesson(bank)
            return bank

        self._live.change(learn)
        return tuple(taught for _, taught in lessons)

    def look(
        self,
        image: Picture,
        name: str,
        *,
        prompt: Prompt | NDArray[np.float32] | None = None,
        description: str | Sequence[str] | None = None,
        prepared: bool = False,
        region: Region | None = None,
    ) -> Look:
        """Says where in a picture something looks like a name; nothing is taught.

        Args:
            image: as `classify` takes it.
            name: of a class, taught or not.
            prompt, description, region, prepared: as `enroll` takes them.

        Raises:
            BundleError: the bundle's network does not tell.
            PromptError, ImageError, SettingsError, BackendError: as `enroll`.
        """
        found, view = self._found(name, prompt, description), self._view(region)
        return self._looker.look(name, image, found, view, prepared=prepared)

    def heats(self) -> tuple[NDArray[np.float32] | None, ...]:
        """Where the names of the taught classes are in their own pictures: of each of the bank's shots float32 (h, w).

        None of a class of the name alone, and of rejects.

        Raises:
            BundleError: the bundle's network does not tell.
            BackendError: the inference engine failed.
        """
        bank = self.bank
        found: list[NDArray[np.float32] | None] = [None] * len(bank.owners)
        for row in np.flatnonzero(bank.pictured).tolist():
            own = np.flatnonzero(bank.owners == row).tolist()
            crops = np.stack([decode_crop(bank.crops[shot]) for shot in own])
            for shot, heat in zip(own, self._looker.heats(crops, bank.prompts[row]), strict=True):
                found[shot] = heat
        return tuple(found)

    def problems(self, name: str, images: Pictures, *, prepared: bool = False, region: Region | None = None) -> list[Problem]:
        """What speaks against shots of a class: dark, overexposed, empty or blurred ones, copies, and such that
        show more outside of what is looked at; see `bank.quality`.

        Nothing is taught. `enroll`, which takes the same arguments, teaches whatever it is given.

        Raises:
            ImageError: one is no picture.
            SettingsError: the region does not lie within one.
        """
        bank, own = self.bank, self.bank.spelling(name)
        known = thumbnails(bank.pictures(own) if own in bank.rows else ())
        preprocess = None if prepared else self.bundle.manifest.preprocess
        return problems(list(pictures_rgb(images)), preprocess, known, self._view(region))

    def prompt(self, name: str, description: str | Sequence[str] | None = None) -> Prompt:
        """The prompt that `enroll` would use: of the description, else the bank's, the table's or the text encoder's.

        Args:
            name: of the class.
            description: a sentence that stands for the name, or several, whose vectors are averaged; it counts more than
                what bank and table know.

        Raises:
            PromptError: not a name or sentence, or one for which the bundle would need its text encoder and carries none.
            BundleError, BackendError: the text encoder cannot be used.
        """
        return self._namer.prompt(self.bank, name, description)

    def familiarity(self, prompt: NDArray[np.float32]) -> float:
        """How much of a prompt, float32 (T,), the model can read, 0 to 1: a new class gets as much of the bundle's strength.

        1 where the bundle does not tell; see `sp_edge.prompts.familiarity`.
        """
        return self._teacher.familiarity(prompt)

    @property
    def names_alone(self) -> bool:
        """Whether the bundle tells what a name looks like, so that `enroll_by_name` can teach one."""
        return self._teacher.names_alone

    def set_strength(self, name: str, strength: float) -> None:
        """Changes how strongly a taught class's prompt counts against its pictures, from the next image on; see `enroll`.

        Raises:
            BankError: no such class, the strength is not within 0 to 1, or the bundle was exported without prompts.
        """
        self._live.change(lambda bank: bank.with_strength(name, strength))

    def set_threshold(self, name: str, threshold: float | None) -> None:
        """Sets the least cosine, -1 to 1, at which a taught class is believed; None leaves it to the calibration again.

        Raises:
            BankError: no such class, or no cosine.
        """
        self._live.change(lambda bank: bank.with_threshold(name, threshold))

    def forget(self, name: str) -> None:
        """Takes a class out of the bank.

        Raises:
            BankError: no such class.
        """
        self._live.change(lambda bank: bank.remove(name))

    def undo(self) -> None:
        """Takes the last change of the bank back, whatever it was; again, the one before, up to ten.

        Raises:
            BankError: nothing to take back.
        """
        self._live.undo()

    def undoable(self) -> int:
        """How many changes `undo` can take back, one after the other.

        Raises:
            BankError: the bank's file cannot be used.
        """
        return self._live.undoable()

    def save(self, path: str | Path) -> None:
        """Writes the taught classes to a file, in place of those that a bank of this bundle has there.

        Raises:
            BankError: the file is something else, or of another bundle.
            OSError: it cannot be written.
        """
        bank = self.bank
        BankFile(Path(path), self.bundle).change(lambda _: bank)

    def close(self) -> None:
        """Closes the text encoder, and follows the bank's file no more."""
        self._live.close()
        self._namer.close()

    def _found(
        self, name: str, prompt: Prompt | NDArray[np.float32] | None, description: str | Sequence[str] | None
    ) -> Prompt | NDArray[np.float32]:
        """The prompt that was given, or else what `prompt` finds."""
        if prompt is not None and description is not None:
            raise PromptError(f"'{name}' was given a prompt and a description", expected="one of them")
        return self.prompt(name, description) if prompt is None else prompt

    def _view(self, region: Region | None, bank: Bank | None = None) -> View:
        """What is looked at of a picture: with the bank's fit, or the one that was chosen where the bank has no picture yet.

        Args:
            region: of the picture.
            bank: this moment's by default.
        """
        bank = self.bank if bank is None else bank
        return View(region, bank.fit if self._fit is None or not bank.by_name.all() else self._fit)

    def _check_fits(self, bank: Bank) -> None:
        if bank.fingerprint != self.bundle.fingerprint:
            raise BankError(
                "the bank was made with another bundle",
                expected=f"bundle {self.bundle.fingerprint[:12]}",
                got=f"bundle {bank.fingerprint[:12]}",
                next_step="renew it: sp-edge bank renew BUNDLE --bank FILE, or sp_edge_runtime.renew in Python",
            )
