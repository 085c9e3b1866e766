"""Keeps frames that are worth a person's look: the first of a label, changes, unsure ones, and the most different."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from sp_edge.bank.crops import encode_crop
from sp_edge.bank.quality import judge
from sp_edge.errors import SourceError
from sp_edge.matching.decide import Floats, unit
from sp_edge_runtime.streams.result import FrameResult, StreamEvent

Why = Literal["first", "change", "unsure", "different"]

MOST = 120  # frames
MOST_BYTES = 16 << 20  # of their JPEGs together
MOST_FILES, MOST_FILE_BYTES = 2000, 256 << 20  # in a folder
PAUSE = 3.0  # seconds between two frames of a source that are kept because they are unsure or different
LOOK = 0.5  # seconds between two looks at a source for such frames
UNSURE = (0.35, 0.65)  # confidence
ALIKE = 0.9  # cosine from which two frames show the same
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3} .*\.jpg")
_log = logging.getLogger("sp_edge_runtime")


@dataclass(frozen=True, eq=False)
class Kept:
    """A frame that was kept.

    Attributes:
        number: which never comes again.
        time: of day, `time.time`.
        source: its source's name.
        label: what was shown then.
        why: for which it was kept.
        crop: what the network saw, as JPEG.
        feature: float32 (D,), raw.
        file: where it lies, too.
    """

    number: int
    time: float
    source: str
    label: str
    why: Why
    crop: bytes
    feature: Floats
    file: Path | None = None


class Harvest:
    """A sink; any thread may read what it kept. Dark, empty and blurred frames are passed over.

    It is bounded in number and bytes: where there are too many, the older one of the two that are most alike goes.

    Args:
        folder: takes each frame that is kept, too, as `<time> <label>.jpg`; what was kept earlier stays until there are more
            than 2000 files or 256 MB, and the oldest go. Folders that are missing are made.

    Raises:
        SourceError: the folder cannot be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._files: list[tuple[Path, int]] = []
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                found = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
                self._files = [(path, path.stat().st_size) for path in found]
            except OSError as cause:
                raise SourceError(f"cannot keep frames in {folder}", expected="a folder to write to", got=str(cause)) from cause
        self._lock = threading.Lock()
        self._kept: list[Kept] = []
        self._directions: Floats = np.zeros((0, 0), np.float32)
        self._labels: set[str] = set()
        self._looked: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._number = 0
        self._broken = False
        self.version = 0  # counts the changes

    @property
    def kept(self) -> list[Kept]:
        """What is kept, the oldest first."""
        return list(self._kept)

    def drop(self, numbers: Collection[int]) -> None:
        """Lets some go; those that are gone already do no harm. Files stay: they are the user's."""
        with self._lock:
            self._keep_all([one.number not in numbers for one in self._kept])

    def write(self, result: FrameResult) -> None:
        """Takes one result, and keeps its frame if that is worth it."""
        seen = result.prediction
        why = self._why(result)
        if why is None or seen.crop_rgb is None or seen.feature is None or judge(seen.crop_rgb) is not None:
            return
        now = time.time()
        self._took[result.source] = time.monotonic()
        self._labels.add(result.label)
        crop = encode_crop(seen.crop_rgb)
        file = self._write(crop, now, result.label) if self._folder else None
        with self._lock:
            self._number += 1
            kept = Kept(self._number, now, result.source, result.label, why, crop, seen.feature, file)
            direction = unit(seen.feature[None])
            self._directions = np.concatenate([self._directions, direction]) if self._kept else direction
            self._kept = [*self._kept, kept]
            self.version += 1
            while len(self._kept) > MOST or sum(len(one.crop) for one in self._kept) > MOST_BYTES:
                self._keep_all(self._without_the_most_alike())

    def event(self, event: StreamEvent) -> None:
        """Takes an event; what it tells of is in the results."""

    def close(self) -> None:
        """There is nothing to finish."""

    def _why(self, result: FrameResult) -> Why | None:
        seen, now = result.prediction, time.monotonic()
        if result.label not in self._labels:
            return "first"
        if any(event.kind == "appeared" for event in result.events):
            return "change"
        since = now - self._took.get(result.source, -PAUSE)
        if since < PAUSE or now - self._looked.get(result.source, -LOOK) < LOOK or seen.feature is None:
            return None
        self._looked[result.source] = now
        nearest = float((self._directions @ unit(seen.feature[None])[0]).max()) if self._kept else -1.0
        if nearest >= ALIKE:
            return None
        return "unsure" if UNSURE[0] <= seen.confidence <= UNSURE[1] else "different"

    def _without_the_most_alike(self) -> list[bool]:
        cosines = self._directions @ self._directions.T
        np.fill_diagonal(cosines, -np.inf)
        older = int(min(divmod(int(cosines.argmax()), len(cosines)))) if len(cosines) > 1 else 0
        return [place != older for place in range(len(self._kept))]

    def _keep_all(self, which: list[bool]) -> None:
        self._kept = [one for one, kept in zip(self._kept, which, strict=True) if kept]
        self._directions = self._directions[which]
        self.version += 1

    def _write(self, crop: bytes, now: float, label: str) -> Path | None:
        """Puts a frame into the folder; a full disk costs frames, and never the stream."""
        readable = re.sub(r'[\\/:*?"<>|\s\x00-\x1f]+', " ", label).encode()[:80].decode(errors="ignore").strip(" .")
        stamp = datetime.fromtimestamp(now).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        path = (self._folder or Path()) / f"{stamp} {readable}.jpg"
        try:
            path.write_bytes(crop)
            self._files.append((path, len(crop)))
            while len(self._files) > MOST_FILES or sum(size for _, size in self._files) > MOST_FILE_BYTES:
                self._files.pop(0)[0].unlink(missing_ok=True)
        except OSError as cause:
            if not self._broken:
                _log.warning("cannot keep frames in %s: %s", self._folder, cause)
            self._broken = True
            return None
        self._broken = False
        return path
