"""Runs a bench: every engine in turn, phase by phase, within a time, and whatever there is when it is stopped."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError, SettingsError, SourceError
from sp_edge.options import number
from sp_edge_runtime.bench.accuracy import Trial, judged
from sp_edge_runtime.bench.candidates import opened
from sp_edge_runtime.bench.energy import open_meter
from sp_edge_runtime.bench.figures import Figures, Report
from sp_edge_runtime.bench.phases import TEST, Phases, opened_source
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.address import redact

# When each phase ends, as a share of the time. Labeled pictures have the rest; without them the others share it.
ENDS = {"speed": 0.45, "camera": 0.6, "fresh": 0.8}
TOLD = {
    "speed": "latency, batches, enrollment",
    "camera": "camera to label",
    "fresh": "fresh processes",
    "accuracy": "accuracy",
}


def bench(
    bundle: Bundle,
    *,
    seconds: float = 60.0,
    source: str = TEST,
    engines: Path | None = None,
    trial: Trial | None = None,
    tell: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Report:
    """Measures a bundle on every engine and precision that opens on this machine.

    Args:
        bundle: the exported model.
        seconds: to take, 1 or more. Every phase makes one round at least, which on a slow board may take longer.
        source: whose frames are recognized, as `open_source` takes it; test:// gives 30 frames a second of 1280x720.
        engines: folder of TensorRT engines; the user's cache by default.
        trial: labeled pictures, of which episodes are drawn.
        tell: is called at each turn, with what is measured then.
        clock: seconds.

    Returns:
        What was found; after Ctrl+C, or where the source fails, what was found so far. An engine that fails in a phase has no
        more turns there, and the reason among its figures.

    Raises:
        SettingsError: the time is out of range, or no engine opens.
        SourceError, MissingExtraError: the source cannot be opened.
        PromptError: a folder's name has no prompt.
    """
    if not number(seconds, 1):
        raise SettingsError("the time is out of range", expected="1 second or more", got=repr(seconds)[:80])
    began = clock()

    def in_time(share: float) -> bool:
        return clock() - began < share * seconds

    with ExitStack() as stack:
        tell("opening")
        opened_source(source).close()  # so that what cannot be opened is told at once
        backends, missing = opened(bundle, stack, engines)
        if not backends:
            raise SettingsError("no engine of this machine runs the bundle", got="; ".join(missing))
        figures = [Figures(*key, backend.title, cosine) for key, (backend, cosine) in backends.items()]
        recognizers = [stack.enter_context(Recognizer(bundle, Bank.empty(bundle), backend)) for backend, _ in backends.values()]
        if trial:
            trial.prepare(recognizers[0])
        meter = open_meter()
        if meter:
            stack.callback(meter.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        phases = Phases(bundle, recognizers, figures, folder=folder, source=source, engines=engines, meter=meter)
        stack.callback(phases.sources.close)
        stopped_by = ""
        try:
            for name, end in ENDS.items():
                turn = getattr(phases, name)
                until = end if trial else end / max(ENDS.values())
                _rounds(turn, figures, partial(in_time, until), partial(tell, TOLD[name]))
            if trial:
                judged(trial, recognizers, figures, partial(in_time, 1.0), partial(tell, TOLD["accuracy"]))
        except KeyboardInterrupt:
            stopped_by = "Ctrl+C"
        except SourceError as error:
            stopped_by = ": ".join(filter(None, (error.what, error.got)))
        preprocess = bundle.manifest.preprocess
        context = {
            "bundle": {"name": bundle.path.name, "fingerprint": bundle.fingerprint, "image_size": preprocess.image_size},
            "source": redact(source),
            "seconds": {"asked": seconds, "taken": round(clock() - began, 1)},
        }
        energy = meter.what if meter and any(one.camera_joules is not None for one in figures) else ""
        return Report([one.to_json() for one in figures], missing, context, energy, stopped_by)


def _rounds(
    turn: Callable[[int], None], figures: Sequence[Figures], in_time: Callable[[], bool], tell: Callable[[], None]
) -> None:
    """Rounds in which each engine has its turn, the first whole, then until the time is up; one that fails has no more."""
    count = len(figures)
    working = set(range(count))
    for number_ in itertools.count():
        if not working or (number_ >= count and not in_time()):
            return
        round_, place = divmod(number_, count)
        place = (place + round_) % count  # another one begins each round
        if place not in working:
            continue
        tell()
        try:
            turn(place)
        except BackendError as error:
            figures[place].fail(error)
            working.remove(place)
