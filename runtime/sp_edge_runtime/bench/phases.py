"""What a bench does at an engine's turn: single pictures and batches, an enrollment, a stretch of a stream, a fresh process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle, Golden
from sp_edge.errors import BackendError
from sp_edge_runtime.bench.energy import Meter
from sp_edge_runtime.bench.figures import BATCHES, Figures
from sp_edge_runtime.bench.fresh import Job, start
from sp_edge_runtime.bench.timing import taken_ms
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import Source
from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.scenes import PERIOD, scene
from sp_edge_runtime.streams.options import StreamOptions
from sp_edge_runtime.streams.stream import results

TEST = "test://"
SIZE_WH, RATE = (1280, 720), 30.0  # of test://, and of the picture that is taught
WARM, RUNS = 1, 8  # with one picture, at each turn
FRAMES, SETTLING = 30, 3  # of a stretch of a stream, and how many before them do not count
LONGEST = 2.0  # seconds that the runs of a turn, a batch or a stretch of a stream may take
CLASSES = 5  # that the bank holds, fewer where there are fewer golden prompts


def opened_source(source: str) -> Source:
    """What a bench takes its frames from: test:// as fast and large as a camera, any other as it comes.

    Raises:
        SettingsError, SourceError, MissingExtraError: as `open_source`.
    """
    return open_source(source, SourceOptions(rate=RATE, size_wh=SIZE_WH) if source == TEST else SourceOptions())


class Phases:
    """The turns of some engines, by their number; what they find goes into their figures.

    A turn raises BackendError where its engine fails, and `camera` SourceError where the source does.

    Args:
        bundle: the exported model.
        recognizers: one an engine, with an empty bank each.
        figures: of each engine.
        folder: for the files of fresh processes; it outlives this.
        source: as `open_source` takes it.
        engines: folder of TensorRT engines, or None.
        meter: of energy, or None.

    Attributes:
        sources: closes the source that stays open between turns; it belongs to the caller.

    Raises:
        BackendError: no engine can be taught; of the last.
    """

    def __init__(
        self,
        bundle: Bundle,
        recognizers: Sequence[Recognizer],
        figures: Sequence[Figures],
        *,
        folder: Path,
        source: str,
        engines: Path | None,
        meter: Meter | None,
    ) -> None:
        self._bundle, self._recognizers, self._figures = bundle, recognizers, figures
        self._folder, self._engines, self._meter = folder, engines, meter
        self._wanted = source
        self._source: Source | None = None
        self.sources = ExitStack()
        golden = bundle.golden()
        self._images: NDArray[np.uint8] = golden.images
        self._prompt = golden.prompts[0]
        self._bank = self._taught(golden)
        for recognizer in recognizers:
            recognizer.replace_bank(self._bank)
        self._frame = scene(0, SIZE_WH)
        self._bank.save(folder / "classes.spbank")
        Image.fromarray(self._frame).save(folder / "frame.jpg", quality=90)

    def _taught(self, golden: Golden) -> Bank:
        """A bank that the first engine that works was taught."""
        side = golden.images.shape[1]
        failure: BackendError | None = None
        for recognizer, into in zip(self._recognizers, self._figures, strict=True):
            try:
                for number, prompt in enumerate(golden.prompts[:CLASSES]):
                    shown = scene(PERIOD // CLASSES * number, (side, side))  # no two classes may have one picture
                    recognizer.enroll(f"class {number + 1}", [shown], prompt=prompt, prepared=True)
            except BackendError as error:  # noqa: PERF203
                into.fail(error)
                failure = error
            else:
                return recognizer.bank
        raise failure or BackendError("no engine is to be measured")

    def speed(self, place: int) -> None:
        """The query graph with one picture and, where they would not take too long, with several; and a shot that is taught."""
        recognizer, into = self._recognizers[place], self._figures[place]
        into.one_ms += taken_ms(self._query(recognizer, 1), RUNS, warm=WARM, longest_s=LONGEST)
        for size in BATCHES:
            if size * np.median(into.one_ms) < 1000 * LONGEST:
                into.batch_ms[size] += taken_ms(self._query(recognizer, size), 1)
        into.enroll_ms += taken_ms(lambda: recognizer.enroll("one more", [self._frame], prompt=self._prompt), 1)
        recognizer.replace_bank(self._bank)

    def _query(self, recognizer: Recognizer, size: int) -> Callable[[], object]:
        images = self._images[np.arange(size) % len(self._images)]
        return lambda: recognizer.backend.run("query", {"image": images})

    def camera(self, place: int) -> None:
        """A stretch of a stream: ages of its frames, and what of the processor and of energy it takes meanwhile."""
        into, source = self._figures[place], self._opened()
        options = StreamOptions(max_frames=FRAMES + SETTLING)
        ages: list[float] = []
        with closing(results(self._recognizers[place], source, options)) as found:  # type: ignore[type-var]
            began = self._now()
            for number, result in enumerate(found):
                if number < SETTLING:
                    began = self._now()
                    continue
                ages.append(result.age_ms)
                if self._now()[0] - began[0] > LONGEST:
                    break
            took = [end - begin for begin, end in zip(began, self._now(), strict=True)]
        into.age_ms += ages
        if ages:
            into.camera_s += took[0]
            into.camera_cpu_s += took[1]
            if self._meter and (not self._meter.devices or into.device in self._meter.devices):
                into.camera_joules = (into.camera_joules or 0.0) + took[2]

    def _opened(self) -> Source:
        """A live source stays open; a file is opened anew, since it ends."""
        if self._source is None or not self._source.live:
            self.sources.close()
            self._source = self.sources.enter_context(opened_source(self._wanted))
        return self._source

    def _now(self) -> tuple[float, float, float]:
        """Seconds, seconds of the processor in this process, joules."""
        return time.perf_counter(), time.process_time(), self._meter.joules() if self._meter else 0.0

    def fresh(self, place: int) -> None:
        """A process that starts, gives a label, and then streams."""
        self.sources.close()  # so that nothing is captured meanwhile
        self._source = None
        into = self._figures[place]
        job = Job(
            bundle=str(self._bundle.path),
            bank=str(self._folder / "classes.spbank"),
            picture=str(self._folder / "frame.jpg"),
            device=into.device,
            precision=into.precision or None,
            engines=None if self._engines is None else str(self._engines),
        )
        found = start(job)
        into.label_s.append(found.label_s)
        into.memory_mb.append(found.memory_mb)
        into.capture_mb.append(found.capture_mb)
