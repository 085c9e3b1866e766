"""Routes about the bank as a whole: download, compare, merge, replace, history."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from sp_edge.bank.bank import Bank
from sp_edge.bank.diff import diff
from sp_edge.bank.merge import merge
from sp_edge.errors import BankError
from sp_edge_runtime.page import models
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.parts import Content, ThePage

router = APIRouter(prefix="/api/bank", tags=["bank"])
KIND = "application/octet-stream"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "a bank's file, of the same bundle",
        "content": {KIND: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("", response_class=Response, responses={200: {"content": {KIND: {}}}})
def download(page: ThePage) -> Response:
    """The bank's file: the taught classes, with their pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.spbank"
        page.recognizer.bank.save(path)
        content = path.read_bytes()
    return Response(content, media_type=KIND, headers={"content-disposition": 'attachment; filename="classes.spbank"'})


@router.post("/compare", openapi_extra=_BODY)
def compare(page: ThePage, content: Content) -> models.Compared:
    """What another bank has that this one has not, and what it lacks; nothing is changed."""
    theirs, ours = _read(page, content), page.recognizer.bank
    conflict = ""
    try:
        merge(ours, theirs)
    except BankError as error:
        conflict = error.got or error.what
    return models.Compared(classes=[change.to_json() for change in diff(ours, theirs)], conflict=conflict)


@router.post("", openapi_extra=_BODY)
def take(
    page: ThePage,
    content: Content,
    how: Annotated[Literal["merge", "replace"], Query()] = "merge",
    prefer: Annotated[Literal["ours", "theirs"] | None, Query(description="whose values count where the banks differ")] = None,
) -> models.Ok:
    """Takes another bank's classes into this one, or takes it in this one's place; `undo` takes it back."""
    theirs = _read(page, content)
    with page.gate.changing():
        if how == "replace":
            page.recognizer.replace_bank(theirs)
        else:
            page.recognizer.change(lambda ours: merge(ours, theirs, prefer=prefer))
    return models.Ok()


@router.get("/history")
def history(page: ThePage) -> models.History:
    """How many changes can be taken back."""
    return models.History(undoable=page.recognizer.undoable())


def _read(page: Page, content: bytes) -> Bank:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.spbank"
        path.write_bytes(content)
        try:
            return Bank.load(path, page.recognizer.bundle)
        except BankError as error:
            told = error.what.replace(str(path), "the file")
            got = error.got.replace(str(path), "the file")
            raise BankError(told, expected=error.expected, got=got) from error
