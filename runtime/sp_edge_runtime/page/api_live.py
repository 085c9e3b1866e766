"""Routes that show: state, health, frames, events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from sp_edge.view import Region
from sp_edge_runtime.page import models
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.parts import Place, ThePage, source
from sp_edge_runtime.page.watch import Watched, jpeg
from sp_edge_runtime.streams.result import FrameResult

router = APIRouter(tags=["live"])
REPORTED = 0.1  # seconds between two looks for results and events
ALIVE = 15.0  # seconds after which a silent stream of events says that it is still there
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
BOUNDARY = "frame"


@router.get("/health", responses={503: {"model": models.Health}})
def health(page: ThePage) -> JSONResponse:
    """Whether all works: 200, or 503 where a source is lost, stale or failed. It asks for no token and names nothing."""
    found = page.health()
    return JSONResponse(found.model_dump(), 200 if found.healthy else 503)


@router.get("/api/state")
def state(page: ThePage) -> models.PageState:
    """Sources, classes, and what the model can do."""
    return page.state()


@router.get("/api/sources")
def sources(page: ThePage) -> list[models.SourceState]:
    """Each source as it is now."""
    return page.sources()


@router.put("/api/sources/{place}/region")
def look(page: ThePage, place: Place, sent: models.Look) -> models.Ok:
    """Looks at a part of a source from the next frame on; it is kept beside the bank."""
    region = None if sent.region is None else Region(*sent.region)
    with page.gate.changing():
        source(page, place)
        page.regions.set(place, region)
    return models.Ok()


@router.post("/api/sources/{place}/regions")
def add_region(page: ThePage, place: Place, sent: models.NewRegion) -> models.Added:
    """Recognizes another part of a source from the next frame on, as a source of its own; it is kept beside the bank."""
    region = Region(*sent.region)
    with page.gate.changing():
        source(page, place)
        return models.Added(id=page.regions.add(place, sent.name.strip(), region))


@router.patch("/api/sources/{place}")
def rename_region(page: ThePage, place: Place, sent: models.RegionName) -> models.Ok:
    """Gives a region another name. A source itself is named by --source-name."""
    with page.gate.changing():
        source(page, place)
        page.regions.rename(place, sent.name.strip())
    return models.Ok()


@router.delete("/api/sources/{place}")
def remove_region(page: ThePage, place: Place) -> models.Ok:
    """Recognizes a region no more."""
    with page.gate.changing():
        source(page, place)
        page.regions.remove(place)
    return models.Ok()


@router.get("/api/sources/{place}/result")
def result(page: ThePage, place: Place) -> dict[str, Any]:
    """What the newest frame was recognized as; the fields are those of `sp-edge stream --json`."""
    one = source(page, place)
    return {**_newest(one).to_json(), "source": one.shown}


@router.get("/api/sources/{place}/frame.jpg", response_class=Response, responses=_JPEG)
def frame(page: ThePage, place: Place) -> Response:
    """The newest frame, at most 960 pixels a side."""
    found = source(page, place).picture()
    if found is None:
        raise HTTPException(404)
    return Response(found[1], media_type="image/jpeg", headers={"cache-control": "no-store"})


@router.get("/api/sources/{place}/seen.jpg", response_class=Response, responses=_JPEG)
def seen(page: ThePage, place: Place, name: Annotated[str, Query(max_length=512)] = "") -> Response:
    """What the network sees of the newest frame; with a name, what looks like it is light and the rest dark."""
    crop = _newest(source(page, place)).prediction.crop_rgb
    if crop is None:
        raise HTTPException(404)
    if name:
        with page.gate.recognizing():
            crop = page.recognizer.look(crop, name, prepared=True).picture()
    return Response(jpeg(crop, 90), media_type="image/jpeg", headers={"cache-control": "no-store"})


@router.get("/api/sources/{place}/live.mjpeg", response_class=StreamingResponse)
async def live(page: ThePage, place: Place) -> StreamingResponse:
    """The frames as they come, for an `<img>`: the newest one each time, up to 15 a second, fewer on a slow machine."""
    watched = source(page, place)
    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    return StreamingResponse(_frames(page, place, watched), media_type=kind, headers={"cache-control": "no-store"})


@router.get("/api/events", response_class=StreamingResponse)
async def events(page: ThePage) -> StreamingResponse:
    """Server-sent events: `result` of each source as it changes, `event` (a class appeared or left), `changed` (read state)."""
    return StreamingResponse(_events(page), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _newest(watched: Watched) -> FrameResult:
    if watched.newest is None:
        raise HTTPException(404)
    return watched.newest


async def _frames(page: Page, place: int, watched: Watched) -> AsyncIterator[bytes]:
    shown = 0
    while not page.closing and page.watch.sources.get(place) is watched:
        if watched.number != shown:
            found = await run_in_threadpool(watched.picture)
            if found is not None:
                shown = found[0]
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(found[1])}\r\n\r\n"
                yield head.encode() + found[1] + b"\r\n"
        await asyncio.sleep(watched.pause)


async def _events(page: Page) -> AsyncIterator[bytes]:
    shown: dict[int, int] = {}
    told = page.watch.events(0)
    last = told[-1][0] if told else 0
    changed: object = None
    silent = 0.0
    while not page.closing:
        lines = []
        for place, one in page.watch.sources.items():
            if one.newest is not None and shown.get(place) != one.number:
                shown[place] = one.number
                lines.append(_event("result", {**one.newest.to_json(), "source": one.shown, "id": place, "fps": one.fps}))
        told = page.watch.events(last)
        last = told[-1][0] if told else last
        lines += [_event("event", event) for _, event in told]
        stale = [one.stale for one in page.watch.sources.values()]
        now = (page.recognizer.bank.version, page.watch.changes, page.harvest.version, stale)
        if now != changed:
            changed = now
            lines.append(_event("changed", {"bank_version": now[0]}))
        silent = 0.0 if lines else silent + REPORTED
        if silent > ALIVE:
            silent, lines = 0.0, [b": here\n\n"]
        if lines:
            yield b"".join(lines)
        await asyncio.sleep(REPORTED)


def _event(kind: str, content: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(content)}\n\n".encode()
