"""Recognizes the boxes that another program found in a source's frames, as messages ask for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sp_edge.errors import InputError, SettingsError
from sp_edge.files import json_text, refuse_constant
from sp_edge.view import Region
from sp_edge_runtime.streams.result import Classifier, FrameResult

MOST = 32  # boxes in a message
LARGEST = 1 << 16  # bytes of a message
LONGEST = 100  # characters of its id
PATIENCE = 5.0  # seconds that a message waits for a frame: after that it is about another scene
_EXPECTED = f'{{"boxes": [[X, Y, W, H], ...]}}, 1 to {MOST} of them, in shares of 0 to 1 or in pixels'


def recognized(classifier: Classifier, result: FrameResult, boxes: Sequence[Region]) -> list[dict[str, Any]]:
    """What the boxes of a result's frame show: fields of a prediction and `frame_id`, one a box, in their order.

    Raises:
        SettingsError: a box in pixels does not lie within the frame.
        BackendError: the inference engine failed.
    """
    found = classifier.classify([result.frame.image_rgb] * len(boxes), region=boxes)
    return [{**one.to_json(), "frame_id": result.frame.frame_id} for one in found]


@dataclass(frozen=True)
class _Message:
    boxes: list[Region]
    mark: Any
    came: float


class Boxes:
    """Messages with boxes wait for the next frame of their source, and are answered with what its boxes show.

    A message is a JSON object with `boxes`: X,Y,W,H each, of the whole frame, as shares of 0 to 1 or in pixels; and an `id`, if
    the answer is to have it. The answer has `source`, `frame_id`, `frame_timestamp` and `results`, one a box; or `error`. One
    message of each source waits: where the next one comes first, that is the answer to it. None waits longer than
    `patience`, and none for a source that gives no frames.

    Args:
        classifier: recognizes them, in the thread that gives the frames.
        patience: seconds that a message waits for a frame.
    """

    def __init__(self, classifier: Classifier, patience: float = PATIENCE) -> None:
        self._classifier = classifier
        self._patience = patience
        self._waiting: dict[str, _Message] = {}
        self._gone: dict[str, str] = {}  # sources that give no frames: why
        self._lock = threading.Lock()

    def take(self, source: str, message: bytes) -> bytes | None:
        """Lets a message wait for a source's next frame; any thread may call it.

        Returns:
            The answer to a message that will not be recognized: this one, or the one that waited.
        """
        try:
            boxes, mark = _read(message)
        except InputError as error:
            return _refusal(error, _mark(message))
        with self._lock:
            gone, before = self._gone.get(source), self._waiting.get(source)
            if gone is None:
                self._waiting[source] = _Message(boxes, mark, time.monotonic())
        if gone is not None:
            return _given_up(gone, mark)
        return None if before is None else _given_up("another message came before the next frame", before.mark)

    def give_up(self, source: str, why: str) -> bytes | None:
        """Refuses messages to a source that gives no frames, until it is `back`.

        Args:
            source: which.
            why: what the answers say.

        Returns:
            The answer to the message that waits, if there is one.
        """
        with self._lock:
            self._gone[source] = why
            waiting = self._waiting.pop(source, None)
        return None if waiting is None else _given_up(why, waiting.mark)

    def back(self, source: str) -> None:
        """Takes messages to a source again."""
        with self._lock:
            self._gone.pop(source, None)

    def waiting(self) -> list[str]:
        """The sources to which messages wait."""
        with self._lock:
            return list(self._waiting)

    def overdue(self, source: str) -> bytes | None:
        """The answer to a source's message that has waited for too long, if there is one; any thread may call it."""
        with self._lock:
            waiting = self._waiting.get(source)
            if waiting is None or not self._late(waiting):
                return None
            del self._waiting[source]
        return self._too_late(waiting)

    def answer(self, source: str, result: FrameResult) -> bytes | None:
        """The answer to the message that waits for a source's frame, if there is one.

        Raises:
            BackendError: the inference engine failed.
        """
        with self._lock:
            waiting = self._waiting.pop(source, None)
        if waiting is None:
            return None
        if self._late(waiting):
            return self._too_late(waiting)
        try:
            found = recognized(self._classifier, result, waiting.boxes)
        except InputError as error:
            return _refusal(error, waiting.mark)
        frame = result.frame
        about = {"source": result.source, "frame_id": frame.frame_id, "frame_timestamp": frame.timestamp}
        return _encoded({**about, "results": found}, waiting.mark)

    def _late(self, message: _Message) -> bool:
        return time.monotonic() - message.came > self._patience

    def _too_late(self, message: _Message) -> bytes:
        return _given_up(f"no frame came within {self._patience:g} s", message.mark)


def _read(message: bytes) -> tuple[list[Region], Any]:
    """Boxes and the id of a message; raises SettingsError where it is of another form."""
    try:
        if len(message) > LARGEST:
            raise ValueError
        content = json.loads(message, parse_constant=refuse_constant)
        given = content["boxes"]
        if not isinstance(given, list) or not 1 <= len(given) <= MOST:
            raise TypeError
        return [Region(*(float(_number(side)) for side in box)) for box in given], _kept(content.get("id"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as cause:
        raise SettingsError("the message has no boxes", expected=_EXPECTED, got=repr(message[:80])[1:]) from cause


def _number(side: Any) -> int | float:
    if isinstance(side, bool) or not isinstance(side, int | float):
        raise TypeError
    return side


def _kept(mark: Any) -> str | int | float | None:
    """What an answer repeats as its id: a short text or a number."""
    if isinstance(mark, str):
        return mark if len(mark) <= LONGEST else None
    return mark if isinstance(mark, int | float) and abs(mark) < 1 << 53 else None


def _mark(message: bytes) -> Any:
    """The id of a message whose boxes cannot be used, if it has one."""
    try:
        return _kept(json.loads(message[:LARGEST], parse_constant=refuse_constant)["id"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _refusal(error: InputError, mark: Any) -> bytes:
    return _encoded({"error": error.what, "expected": error.expected, "got": error.got}, mark)


def _given_up(why: str, mark: Any) -> bytes:
    return _refusal(SettingsError(why), mark)


def _encoded(content: dict[str, Any], mark: Any) -> bytes:
    return json_text(content if mark is None else {"id": mark, **content}).encode()
