"""Recognizes the classes that it was taught: image -> preprocess -> backend -> matching -> label."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.advice import Report, review
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop, thumbnails
from sp_edge.bank.file import BankFile
from sp_edge.bank.head import Head
from sp_edge.bank.quality import Problem, problems
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, BundleError, PromptError, SettingsError
from sp_edge.options import number, whole
from sp_edge.preprocess import Picture, Pictures, picture_rgb, pictures_rgb
from sp_edge.prompts.table import clean_name
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.features import Features
from sp_edge_runtime.live_bank import LiveBank
from sp_edge_runtime.naming import Namer, Prompt
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.camera import kind_of, open_sources
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import FrameResult, StreamEvent
from sp_edge_runtime.streams.stream import results
from sp_edge_runtime.teaching import Look, Taught, Teacher

AnyPicture = TypeVar("AnyPicture", bound=Picture)


class Recognizer:
    """A model with the classes that it was taught. One thread may classify while others teach.

    Args:
        bundle: the exported model.
        bank: the taught classes, in memory or, as a `LiveBank`, in a file; `Bank.empty(bundle)` to begin with none.
        backend: what runs the bundle's graphs; `close` closes it.
        threshold: least cosine, -1 to 1, at which any class is believed; the user's and the calibrated ones by default.
        classifier: 'prototype' or 'lr'; see `sp_edge.bank.head.Head`.
        topk: how many classes a prediction lists.

    Raises:
        BankError: the bank was made with another bundle.
        SettingsError: threshold, classifier or topk is out of range.
    """

    def __init__(
        self,
        bundle: Bundle,
        bank: Bank | LiveBank,
        backend: Backend,
        *,
        threshold: float | None = None,
        classifier: str = "prototype",
        topk: int = 5,
    ) -> None:
        if threshold is not None and not number(threshold, -1, 1):
            raise SettingsError("the threshold is out of range", expected="a cosine, -1 to 1", got=repr(threshold)[:80])
        if not whole(topk, 1):
            raise SettingsError("topk is out of range", expected="a whole number, 1 or more", got=repr(topk)[:80])
        self.bundle = bundle
        self.backend = backend
        self._threshold = threshold
        self._classifier = classifier
        self._background = bundle.background()
        self._topk = topk
        self._live = bank if isinstance(bank, LiveBank) else LiveBank(bank)
        self._check_fits(self.bank)
        self._live.prepare_with(self._head_of)
        self._namer = Namer(bundle)
        self._features = Features(bundle, backend)
        self._teacher = Teacher(bundle, self._features)

    @classmethod
    def load(
        cls,
        bundle_path: str | Path,
        *,
        bank: str | Path | None = None,
        follow: bool = False,
        device: str = "auto",
        precision: str | None = None,
        engines: str | Path | None = None,
        build_engine: bool = False,
        threshold: float | None = None,
        classifier: str = "prototype",
        topk: int = 5,
    ) -> Recognizer:
        """Opens a bundle, and a bank where one is given, on a device.

        Args:
            bundle_path: of the exported model.
            bank: a file of taught classes, which takes every change at once; the first class makes it where there is none.
                Without it, what is taught is in memory alone until `save`.
            follow: take up what other programs write into that file, within a second, until `close`.
            device: auto, cpu, cuda, tensorrt or openvino; `open_backend` says what each is.
            precision: fp32, fp16 or int8, the bundle's by default; bf16 in OpenVINO.
            engines: folder of TensorRT engines; the user's cache by default.
            build_engine: build the engine beside the work where it is missing, and hand over to it.
            threshold, classifier, topk: as above.

        Raises:
            BundleError, BankError, BackendError, PlanError, MissingExtraError, SettingsError: what cannot be opened.
        """
        if not isinstance(bundle_path, str | Path):
            raise BundleError("the path of a bundle is text", expected="str or Path", got=repr(bundle_path)[:80])
        if follow and bank is None:
            raise BankError("there is no file to follow", expected="the path of a bank", got="none")
        bundle = Bundle.load(Path(bundle_path))
        live = LiveBank(Bank.empty(bundle)) if bank is None else LiveBank.open(Path(bank), bundle)
        folder = None if engines is None else Path(engines)
        backend = open_backend(bundle, device, precision, engines=folder, build_engine=build_engine)
        try:
            recognizer = cls(bundle, live, backend, threshold=threshold, classifier=classifier, topk=topk)
        except BaseException:
            backend.close()
            raise
        if follow:
            live.follow()
        return recognizer

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

    @property
    def head(self) -> Head:
        """What decides on features, made from the bank."""
        return self._live.ready[1]

    def _head_of(self, bank: Bank) -> Head:
        calibration = self.bundle.manifest.calibration
        return Head.of(bank, self._background, calibration, classifier=self._classifier, threshold=self._threshold)

    @overload
    def classify(self, images: Picture, /) -> Prediction: ...

    @overload
    def classify(self, images: list[AnyPicture] | tuple[AnyPicture, ...], /) -> list[Prediction]: ...

    def classify(self, images: Picture | Sequence[Picture], /) -> Prediction | list[Prediction]:
        """Recognizes one picture, or several in one run of the query graph for each 32 of them.

        Args:
            images: a picture of any size, or a list or tuple of pictures; each uint8 (H, W, 3) RGB, a PIL picture, or the path
                of a file.

        Returns:
            One prediction of one picture, a list of a list.

        Raises:
            ImageError: no such picture.
            BackendError: the inference engine failed.
        """
        if not isinstance(images, list | tuple):
            return self._classify([cast("Picture", images)])[0]
        return self._classify(images) if images else []

    def _classify(self, images: Sequence[Picture]) -> list[Prediction]:
        bank, head = self._live.ready  # one look, so that teaching meanwhile cannot mix two banks
        started = time.perf_counter()
        prepared = [self.bundle.manifest.preprocess(picture_rgb(image)) for image in images]
        preprocessed = time.perf_counter()
        features = self._features.queries(prepared)
        inferred = time.perf_counter()
        matches = head.matches(features, topk=self._topk)
        times = (started, preprocessed, inferred, time.perf_counter())
        stages = zip(("preprocess", "inference", "postprocess"), times, times[1:], strict=False)
        speed = {stage: (end - begin) * 1000 / len(images) for stage, begin, end in stages}
        return [
            Prediction(
                **vars(found),
                class_index=None if found.unknown else head.index(found.name),
                speed=speed,
                bank_version=bank.version,
            )
            for found in matches
        ]

    def enroll(
        self,
        name: str,
        images: Pictures,
        *,
        prompt: Prompt | NDArray[np.float32] | None = None,
        description: str | Sequence[str] | None = None,
        strength: float | None = None,
        views: int = 1,
    ) -> Taught:
        """Teaches a class, or further shots of one; it is recognized from the next image on.

        Args:
            name: of the class.
            images: K >= 1 shots: a list of pictures as `classify` takes them, uint8 (K, H, W, 3) RGB, or one picture.
            prompt: what `prompt` gave, or float32 (T,) as the prompt table holds them; by default what `prompt` finds.
            description: a sentence that stands for the name, or several, whose vectors are averaged; the bank keeps them.
            strength: of the class's prompt against its pictures, 0 to 1: the prompt's share beside one picture, which falls
                with their number (`sp_edge.matching.decide.share`); 0 is the plain prototype. By default a class that the bank
                knows keeps its own, and a new one takes the bundle's, which training chose, times `familiarity`.
            views: of each shot, 1 to 50: the mean feature of the shot and of views - 1 crops of it stands for the shot.

        Returns:
            How much of the name the model can read, and how much of it each picture bears out.

        Raises:
            BankError: no image, the class was taught with another prompt, the strength is not within 0 to 1, or the bundle
                was exported without prompts.
            PromptError: no prompt is known for the name, or it is not such an array.
            ImageError: an image is no picture.
            BackendError: the inference engine failed.
        """
        found = self._found(name, prompt, description)
        learn, taught = self._teacher.lesson(name, images, found, strength=strength, views=views)
        self._live.change(learn)
        return taught

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
        found = self._found(name, prompt, description)
        learn, taught = self._teacher.by_name(name, found, strength=strength)
        self._live.change(learn)
        return taught

    def enroll_not(self, name: str, images: Pictures, *, views: int = 1) -> None:
        """Teaches what a class is not: a picture that is most like these is 'unknown', and its best name is not '<name>'.

        Args:
            name: of a taught class.
            images, views: pictures of what is taken for it, as `enroll` takes them.

        Raises:
            BankError: no such class, or no image.
            ImageError, BackendError: as `enroll`.
        """
        self._live.change(self._teacher.reject(name, images, views=views))

    def enroll_many(
        self,
        classes: Mapping[str, Pictures] | Iterable[tuple[str, Pictures]],
        *,
        prompts: Mapping[str, Prompt | NDArray[np.float32]] | None = None,
        strength: float | None = None,
        views: int = 1,
    ) -> tuple[Taught, ...]:
        """Teaches several classes at once: all of them, written in one step, or none.

        Args:
            classes: name -> shots of each class, or pairs of them, which are taken one by one.
            prompts: name, spelt as in `classes` -> prompt; that of any other class is what `prompt` finds.
            strength, views: of every class; see `enroll`.

        Returns:
            What `enroll` returns, of each class.

        Raises:
            BankError, PromptError, ImageError, BackendError: as `enroll`; nothing was taught.
        """
        pairs = classes.items() if isinstance(classes, Mapping) else classes
        given = prompts or {}
        lessons = [
            self._teacher.lesson(
                name, images, given[name] if name in given else self.prompt(name), strength=strength, views=views
            )
            for name, images in pairs
        ]
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
    ) -> Look:
        """Says where in a picture something looks like a name; nothing is taught.

        Args:
            image: as `classify` takes it.
            name: of a class, taught or not.
            prompt, description: as `enroll` takes them.

        Raises:
            BundleError: the bundle's network does not tell.
            PromptError, ImageError, BackendError: as `enroll`.
        """
        return self._teacher.look(name, image, self._found(name, prompt, description))

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
            for shot, heat in zip(own, self._teacher.heats(crops, bank.prompts[row]), strict=True):
                found[shot] = heat
        return tuple(found)

    def problems(self, name: str, images: Pictures) -> list[Problem]:
        """What speaks against shots of a class: dark, overexposed, empty or blurred ones, and copies; see `bank.quality`.

        Nothing is taught. `enroll` teaches whatever it is given.

        Raises:
            ImageError: one is no picture.
        """
        bank, clean = self.bank, clean_name(name)
        known = thumbnails(bank.pictures(clean) if clean in bank.rows else ())
        return problems(list(pictures_rgb(images)), self.bundle.manifest.preprocess, known)

    def advice(self) -> Report:
        """What the taught shots say about the bank: see `sp_edge.bank.advice.review`."""
        return review(*self._live.ready)

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

    def save(self, path: str | Path) -> None:
        """Writes the taught classes to a file, in place of those that a bank of this bundle has there.

        Raises:
            BankError: the file is something else, or of another bundle.
            OSError: it cannot be written.
        """
        bank = self.bank
        BankFile(Path(path), self.bundle).change(lambda _: bank)

    def stream(
        self,
        source: str | Path | Source | Sequence[str | Path | Source],
        options: StreamOptions = StreamOptions(),
        opening: SourceOptions = SourceOptions(),
        *,
        on_event: Callable[[StreamEvent], None] | None = None,
    ) -> Iterator[FrameResult]:
        """Recognizes every frame of a source, or of several, which are closed when the frames end or the iteration stops.

        Args:
            source: as `open_source` takes it, or an open source, or several.
            options: how to recognize the frames.
            opening: how to open the sources that are named. Several are waited for where they are not there yet.
            on_event: is called with the sources' changes of state, and with events that belong to no frame.

        Raises:
            SettingsError: an option does not fit a source, or there is no source; at once.
            SourceError: what cannot be a source, at once; one that cannot be opened, when the iteration begins.
        """
        if not isinstance(options, StreamOptions) or not isinstance(opening, SourceOptions):
            got = f"{type(options).__name__} and {type(opening).__name__}"
            raise SettingsError("these are no options of a stream", expected="StreamOptions and SourceOptions", got=got)
        several = isinstance(source, Sequence) and not isinstance(source, str)
        wanted: list[str | Path | Source] = list(source) if several else [source]  # type: ignore[arg-type, list-item]
        for one in wanted:
            if not isinstance(one, Source):
                kind_of(one, opening)
        if not wanted:
            raise SettingsError("there is no source", expected="1 or more", got="none")

        def recognized() -> Iterator[FrameResult]:
            with (
                open_sources(wanted, opening) as opened,
                closing(results(self, opened, options, on_event=on_event)) as found,  # type: ignore[type-var]
            ):
                yield from found

        return recognized()

    def close(self) -> None:
        """Closes the backend and the text encoder, and follows the bank's file no more."""
        self._live.close()
        self._namer.close()
        self.backend.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _found(
        self, name: str, prompt: Prompt | NDArray[np.float32] | None, description: str | Sequence[str] | None
    ) -> Prompt | NDArray[np.float32]:
        """The prompt that was given, or else what `prompt` finds."""
        if prompt is not None and description is not None:
            raise PromptError(f"'{name}' was given a prompt and a description", expected="one of them")
        return self.prompt(name, description) if prompt is None else prompt

    def _check_fits(self, bank: Bank) -> None:
        if bank.fingerprint != self.bundle.fingerprint:
            raise BankError(
                "the bank was made with another bundle",
                expected=f"bundle {self.bundle.fingerprint[:12]}",
                got=f"bundle {bank.fingerprint[:12]}",
                next_step="renew it: sp-edge bank renew BUNDLE --bank FILE, or sp_edge_runtime.renew in Python",
            )
