"""Recognizes the boxes that another program found in a source's frames, as messages ask for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from sp_edge.errors import InputError, SettingsError
from sp_edge.files import json_text, refuse_constant
from sp_edge.view import Region
from sp_edge_runtime.streams.result import Classifier, FrameResult

MOST = 32  # boxes in a message
LARGEST = 1 << 16  # bytes of a message
LONGEST = 100  # characters of its id
_EXPECTED = f'{{"boxes": [[X, Y, W, H], ...]}}, 1 to {MOST} of them, in shares of 0 to 1 or in pixels'


def recognized(classifier: Classifier, result: FrameResult, boxes: Sequence[Region]) -> list[dict[str, Any]]:
    """What the boxes of a result's frame show: fields of a prediction and `frame_id`, one a box, in their order.

    Raises:
        SettingsError: a box in pixels does not lie within the frame.
        BackendError: the inference engine failed.
    """
    found = classifier.classify([result.frame.image_rgb] * len(boxes), region=boxes)
    return [{**one.to_json(), "frame_id": result.frame.frame_id} for one in found]


class Boxes:
    """Messages with boxes wait for the next frame of their source, and are answered with what its boxes show.

    A message is a JSON object with `boxes`: X,Y,W,H each, of the whole frame, as shares of 0 to 1 or in pixels; and an `id`, if
    the answer is to have it. The answer has `source`, `frame_id`, `frame_timestamp` and `results`, one a box; or `error`. One
    message of each source waits: where the next one comes first, that is the answer to it.

    Args:
        classifier: recognizes them, in the thread that gives the frames.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: dict[str, tuple[list[Region], Any]] = {}
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
            before = self._waiting.get(source)
            self._waiting[source] = boxes, mark
        return None if before is None else _refusal(SettingsError("another message came before the next frame"), before[1])

    def give_up(self, source: str) -> bytes | None:
        """The answer to the message that waits for a source which is lost, if there is one."""
        with self._lock:
            waiting = self._waiting.pop(source, None)
        return None if waiting is None else _refusal(SettingsError("the source is lost"), waiting[1])

    def answer(self, source: str, result: FrameResult) -> bytes | None:
        """The answer to the message that waits for a source's frame, if there is one.

        Raises:
            BackendError: the inference engine failed.
        """
        with self._lock:
            waiting = self._waiting.pop(source, None)
        if waiting is None:
            return None
        boxes, mark = waiting
        try:
            found = recognized(self._classifier, result, boxes)
        except InputError as error:
            return _refusal(error, mark)
        frame = result.frame
        about = {"source": result.source, "frame_id": frame.frame_id, "frame_timestamp": frame.timestamp}
        return _encoded({**about, "results": found}, mark)


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


def _encoded(content: dict[str, Any], mark: Any) -> bytes:
    return json_text(content if mark is None else {"id": mark, **content}).encode()
