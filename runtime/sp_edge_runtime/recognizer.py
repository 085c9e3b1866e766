"""Recognises the classes that it was taught: image -> preprocess -> backend -> matching -> label."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.advice import Report, review
from sp_edge.bank.bank import Bank, thumbnail
from sp_edge.bank.file import BankFile
from sp_edge.bank.head import Head
from sp_edge.bank.quality import Problem, problems
from sp_edge.bank.views import views as make_views
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError, BankError, PromptError, SettingsError
from sp_edge.prompts.table import clean_name
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.live_bank import LiveBank
from sp_edge_runtime.naming import Namer, Prompt
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.streams.result import FrameResult, StreamEvent
from sp_edge_runtime.streams.smoothing import Smoothing
from sp_edge_runtime.streams.stream import results

BATCH = 8  # shots encoded at once: enrolling a large folder must not take a small board's memory


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
        if threshold is not None and not -1 <= threshold <= 1:
            raise SettingsError("the threshold is out of range", expected="a cosine, -1 to 1", got=str(threshold))
        if topk < 1:
            raise SettingsError("topk is out of range", expected="1 or more", got=str(topk))
        self.bundle = bundle
        self.backend = backend
        self._threshold = threshold
        self._classifier = classifier
        self._within = bundle.background()
        self._familiarity = bundle.familiarity()
        self._topk = topk
        self._live = bank if isinstance(bank, LiveBank) else LiveBank(bank)
        self._check_fits(self.bank)
        self._live.prepare_with(self._head_of)
        self._namer = Namer(bundle)

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
        """The taught classes. Assigning another bank changes them from the next image on."""
        return self._live.bank

    @bank.setter
    def bank(self, bank: Bank) -> None:
        self._check_fits(bank)
        self._live.change(lambda _: bank)

    @property
    def head(self) -> Head:
        """What decides on features, made from the bank."""
        return self._live.ready[1]

    def _head_of(self, bank: Bank) -> Head:
        calibration = self.bundle.manifest.calibration
        return Head.of(bank, self._within, calibration, classifier=self._classifier, threshold=self._threshold)

    def classify(self, image_rgb: NDArray[np.uint8]) -> Prediction:
        """Recognises one image: uint8 (H, W, 3) RGB of any size.

        Raises:
            ImageError: not such an array.
            BackendError: the inference engine failed.
        """
        return self.classify_batch([image_rgb])[0]

    def classify_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Recognises images in one run of the query graph: each uint8 (H, W, 3) RGB, sizes may differ."""
        if len(images) == 0:
            return []
        bank, head = self._live.ready  # one look, so that teaching meanwhile cannot mix two banks
        started = time.perf_counter()
        prepared = [self.bundle.manifest.preprocess(image) for image in images]
        preprocessed = time.perf_counter()
        features = self._run("query", {"image": np.stack(prepared)})["feature"]
        inferred = time.perf_counter()
        matches = head.matches(features, topk=self._topk)
        times = (started, preprocessed, inferred, time.perf_counter())
        stages = zip(("preprocess", "inference", "postprocess"), times, times[1:], strict=False)
        speed = {stage: (end - begin) * 1000 / len(images) for stage, begin, end in stages}
        return [
            Prediction(
                **vars(found),
                class_index=head.index(found.name),
                speed=speed,
                bank_version=bank.version,
            )
            for found in matches
        ]

    def enroll(
        self,
        name: str,
        images: Sequence[NDArray[np.uint8]],
        *,
        prompt: Prompt | NDArray[np.float32] | None = None,
        description: str | Sequence[str] | None = None,
        strength: float | None = None,
        views: int = 1,
    ) -> None:
        """Teaches a class, or further shots of one; it is recognised from the next image on.

        Args:
            name: of the class.
            images: K >= 1 shots, each uint8 (H, W, 3) RGB.
            prompt: what `prompt` gave, or float32 (T,) as the prompt table holds them; by default what `prompt` finds.
            description: a sentence that stands for the name, or several, whose vectors are averaged; the bank keeps them.
            strength: of the class's prompt against its pictures, 0 to 1: the prompt's share beside one picture, which falls
                with their number (`sp_edge.matching.decide.share`); 0 is the plain prototype. By default a class that the bank
                knows keeps its own, and a new one takes the bundle's, which training chose, times `familiarity`.
            views: of each shot, 1 to 50: the mean feature of the shot and of views - 1 crops of it stands for the shot.

        Raises:
            BankError: no image, the class was taught with another prompt, the strength is not within 0 to 1, or the bundle
                was exported without prompts.
            PromptError: no prompt is known for the name, or it is not such an array.
            ImageError: an image is not such an array.
            BackendError: the inference engine failed.
        """
        if len(images) == 0:
            raise BankError(f"nothing to learn '{name}' from", expected="one to five pictures", got="none")
        if prompt is None:
            prompt = self.prompt(name, description)
        elif description is not None:
            raise PromptError(f"'{name}' was given a prompt and a description", expected="one of them")
        found = prompt if isinstance(prompt, Prompt) else Prompt(prompt, "given")
        vector, dim = found.vector, self.bundle.manifest.text.dim
        if vector.shape != (dim,) or vector.dtype != np.float32 or not np.isfinite(vector).all():
            got = f"{vector.dtype} {vector.shape}"
            raise PromptError(f"the prompt of '{name}' does not fit", expected=f"finite float32 ({dim},)", got=got)
        flip = bool(self.bundle.manifest.training.get("settings", {}).get("augment", {}).get("flip", False))
        prepared = np.concatenate([make_views(self.bundle.manifest.preprocess(image), views, flip=flip) for image in images])
        batches = [prepared[i : i + BATCH] for i in range(0, len(prepared), BATCH)]
        made = [self._run("support", {"image": batch, "prompt": np.tile(vector, (len(batch), 1))}) for batch in batches]
        support, query = (
            np.concatenate([outputs[name] for outputs in made]).reshape(len(images), views, -1).mean(axis=1)
            for name in ("feature", "plain")
        )
        shots = (support, query, np.stack([thumbnail(image) for image in images]))
        familiarity, said = self.familiarity(vector), found.description
        self._live.change(
            lambda bank: bank.add(name, vector, *shots, strength=strength, familiarity=familiarity, description=said)
        )

    def problems(self, name: str, images: Sequence[NDArray[np.uint8]]) -> list[Problem]:
        """What speaks against shots of a class: dark, overexposed, empty or blurred ones, and copies; see `bank.quality`.

        Nothing is taught. `enroll` teaches whatever it is given.

        Raises:
            ImageError: not uint8 (H, W, 3).
        """
        bank, clean = self.bank, clean_name(name)
        return problems(images, bank.thumbnails[bank.owners == bank.rows.get(clean, -1)])

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
        return 1.0 if self._familiarity is None else float(self._familiarity(prompt))

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
        source: str | Source | Sequence[str | Source],
        *,
        smoothing: Smoothing | None = None,
        on_event: Callable[[StreamEvent], None] | None = None,
        max_staleness: float | None = None,
        max_frames: int | None = None,
        max_fps: float | None = None,
    ) -> Iterator[FrameResult]:
        """Recognises every frame of a source, or of several, which are closed when the frames end or the iteration stops.

        Args:
            source: as `open_source` takes it, or an open source, or several. Of several that are named, those which are not
                there yet are waited for.
            smoothing: of the labels, for results with `smoothed` and `events`.
            on_event: is called with the sources' changes of state, and with events that belong to no frame.
            max_staleness: seconds after which a live result is not handed on.
            max_frames: after which to stop.
            max_fps: frames a second at most.
        """
        wanted = [source] if isinstance(source, str | Source) else list(source)
        with ExitStack() as stack:
            opened = [
                stack.enter_context(open_source(one, wait=len(wanted) > 1) if isinstance(one, str) else one) for one in wanted
            ]
            found = results(
                self,
                opened,
                smoothing=smoothing,
                on_event=on_event,
                max_staleness=max_staleness,
                max_frames=max_frames,
                max_fps=max_fps,
            )
            with closing(found):  # type: ignore[type-var]
                yield from found

    def close(self) -> None:
        """Closes the backend and the text encoder, and follows the bank's file no more."""
        self._live.close()
        self._namer.close()
        self.backend.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _check_fits(self, bank: Bank) -> None:
        if bank.fingerprint != self.bundle.fingerprint:
            raise BankError(
                "the bank was made with another bundle",
                expected=f"bundle {self.bundle.fingerprint[:12]}",
                got=f"bundle {bank.fingerprint[:12]}",
                next_step="enrol its classes again, from their pictures",
            )

    def _run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """A graph's outputs, features all of them, which must be usable."""
        outputs = self.backend.run(graph, inputs)
        expected = (len(inputs["image"]), self.bundle.manifest.feature_dim)
        for features in outputs.values():
            if features.shape != expected or not np.isfinite(features).all():
                raise BackendError(
                    f"the {graph} graph gave features that cannot be used",
                    expected=f"finite float32 {expected}",
                    got=f"{features.dtype} {features.shape}" + ("" if np.isfinite(features).all() else ", not all finite"),
                    next_step="--precision fp32, and sp-edge verify to find the stage that broke",
                )
        return outputs
