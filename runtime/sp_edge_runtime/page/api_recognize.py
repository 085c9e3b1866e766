"""Routes that recognize pictures which come with the request."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request

from sp_edge.errors import ImageError, InputError
from sp_edge.view import Region
from sp_edge_runtime.page import models
from sp_edge_runtime.page.parts import MAX_PIXELS, Content, Place, ThePage, read_picture, source
from sp_edge_runtime.sinks.boxes import recognized

router = APIRouter(prefix="/api", tags=["recognition"])
RAW = "application/octet-stream"
_BODY = {
    "requestBody": {
        "required": True,
        "description": "a picture; raw bytes are uint8 RGB, row by row, of `width` times `height` pixels",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/jpeg", "image/png", RAW)},
    }
}
Side = Annotated[int | None, Query(ge=1, le=16384)]


@router.post("/classify", openapi_extra=_BODY)
def classify(page: ThePage, request: Request, content: Content, width: Side = None, height: Side = None) -> dict[str, Any]:
    """Recognizes one picture; the fields are those of `sp-edge classify --json`.

    Where a stream needs the network, requests beyond what it leaves are answered with 429.
    """
    if request.headers.get("content-type", "").partition(";")[0] == RAW:
        image = _raw(content, width, height)
    else:
        image = read_picture(content)
    with page.gate.recognizing():
        return page.recognizer.classify(image).to_json()


@router.post("/sources/{place}/boxes")
def boxes(page: ThePage, place: Place, sent: models.Boxes) -> list[dict[str, Any]]:
    """Recognizes parts of a source's newest frame, such as another program's detections; one result a box, in their order."""
    one = source(page, place)
    newest = one.newest
    if newest is None or one.stale:
        raise InputError("The camera shows nothing new", expected="a camera that shows something")
    regions = [Region(*box) for box in sent.boxes]
    with page.gate.recognizing():
        return recognized(page.recognizer, newest, regions)


def _raw(content: bytes, width: int | None, height: int | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if width is None or height is None or width * height > MAX_PIXELS or len(content) != 3 * width * height:
        expected = "?width=W&height=H, and 3 W H bytes"
        raise ImageError("the raw picture does not fit its size", expected=expected, got=f"{len(content)} bytes")
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)
