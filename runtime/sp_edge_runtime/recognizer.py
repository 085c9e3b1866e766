"""Recognizes the classes that it was taught: image -> preprocess -> backend -> matching -> label."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast, overload

from sp_edge.bank.advice import Report, review
from sp_edge.bank.bank import Bank
from sp_edge.bank.gray import is_gray
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, BundleError, SettingsError
from sp_edge.options import number, whole
from sp_edge.pictures import Picture, picture_rgb
from sp_edge.view import Fit, Region
from sp_edge_runtime.backends.backend import Backend
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.learner import Learner
from sp_edge_runtime.live_bank import LiveBank
from sp_edge_runtime.prediction import Prediction
from sp_edge_runtime.sources.camera import kind_of, open_sources
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.result import FrameResult, StreamEvent
from sp_edge_runtime.streams.stream import results

AnyPicture = TypeVar("AnyPicture", bound=Picture)


class Recognizer(Learner):
    """A model with the classes that it was taught. One thread may classify while others teach.

    Args:
        bundle: the exported model.
        bank: the taught classes, in memory or, as a `LiveBank`, in a file; `Bank.empty(bundle)` to begin with none.
        backend: what runs the bundle's graphs; `close` closes it.
        threshold: least cosine, -1 to 1, at which any class is believed; the user's and the calibrated ones by default.
        classifier: 'prototype' or 'lr'; see `sp_edge.bank.head.Head`.
        topk: how many classes a prediction lists.
        fit: how pictures become the network's square; see `Learner`.

    Raises:
        BankError: the bank was made with another bundle, or taught with another fit.
        SettingsError: threshold, classifier, topk or fit is out of range.
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
        fit: Fit | None = None,
    ) -> None:
        if threshold is not None and not number(threshold, -1, 1):
            raise SettingsError("the threshold is out of range", expected="a cosine, -1 to 1", got=repr(threshold)[:80])
        if not whole(topk, 1):
            raise SettingsError("topk is out of range", expected="a whole number, 1 or more", got=repr(topk)[:80])
        super().__init__(bundle, bank, backend, fit=fit)
        self.backend = backend
        self._threshold = threshold
        self._classifier = classifier
        self._background = bundle.background()
        self._topk = topk
        self._live.prepare_with(self._head_of)

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
        fit: Fit | None = None,
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
            threshold, classifier, topk, fit: as above.

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
            recognizer = cls(bundle, live, backend, threshold=threshold, classifier=classifier, topk=topk, fit=fit)
        except BaseException:
            backend.close()
            raise
        if follow:
            live.follow()
        return recognizer

    @property
    def head(self) -> Head:
        """What decides on features, made from the bank."""
        return self._live.ready[1]

    def _head_of(self, bank: Bank) -> Head:
        calibration = self.bundle.manifest.calibration
        return Head.of(bank, self._background, calibration, classifier=self._classifier, threshold=self._threshold)

    @overload
    def classify(self, images: Picture, /, *, region: Region | None = None) -> Prediction: ...

    @overload
    def classify(
        self,
        images: list[AnyPicture] | tuple[AnyPicture, ...],
        /,
        *,
        region: Region | Sequence[Region | None] | None = None,
    ) -> list[Prediction]: ...

    def classify(
        self, images: Picture | Sequence[Picture], /, *, region: Region | Sequence[Region | None] | None = None
    ) -> Prediction | list[Prediction]:
        """Recognizes one picture, or several in one run of the query graph for each 32 of them.

        Args:
            images: a picture of any size, or a list or tuple of pictures; each uint8 (H, W, 3) RGB, a PIL picture, or the path
                of a file.
            region: the part that is looked at, of every picture or, in a list, of each; the whole by default.

        Returns:
            One prediction of one picture, a list of a list.

        Raises:
            ImageError: no such picture.
            SettingsError: a region does not lie within its picture, or there are more or fewer than pictures.
            BackendError: the inference engine failed.
        """
        several = isinstance(images, list | tuple)
        shown = cast("Sequence[Picture]", images if several else [images])
        regions = region if several and isinstance(region, list | tuple) else [cast("Region | None", region)] * len(shown)
        if len(regions) != len(shown):
            expected = f"one region, or {len(shown)}"
            raise SettingsError("pictures and regions do not go together", expected=expected, got=str(len(regions)))
        found = self._classify(shown, regions) if shown else []
        return found if several else found[0]

    def _classify(self, images: Sequence[Picture], regions: Sequence[Region | None]) -> list[Prediction]:
        bank, head = self._live.ready  # one look, so that teaching meanwhile cannot mix two banks
        started = time.perf_counter()
        preprocess, prepared, seen, gray = self.bundle.manifest.preprocess, [], [], []
        for image, region in zip(images, regions, strict=True):
            image_rgb, view = picture_rgb(image), self._view(region, bank)
            prepared.append(preprocess(image_rgb, view))
            height, width = image_rgb.shape[:2]
            seen.append(preprocess.seen(height, width, view))
            gray.append(is_gray(view.cut(image_rgb)) and bank.knows_color_alone)
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
                view=view,
                gray=colorless,
                crop_rgb=crop,
                feature=feature,
            )
            for found, view, colorless, crop, feature in zip(matches, seen, gray, prepared, features, strict=True)
        ]

    def advice(self) -> Report:
        """What the taught shots say about the bank: see `sp_edge.bank.advice.review`."""
        return review(*self._live.ready)

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
        super().close()
        self.backend.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
