"""Routes that teach, and that correct what was taught."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, HTTPException, Query, Response, UploadFile
from fastapi import Path as InPath
from numpy.typing import NDArray

from sp_edge.errors import ImageError, InputError
from sp_edge.matching.label import UNKNOWN
from sp_edge_runtime.page import edits, models
from sp_edge_runtime.page.guard import COOKIE, same_token
from sp_edge_runtime.page.parts import ThePage, read_picture, source
from sp_edge_runtime.page.teach import teach_held, teach_name, teach_pictures

router = APIRouter(prefix="/api", tags=["classes"])
MOST_PICTURES = 50  # in one request
Name = Annotated[str, Query(min_length=1, max_length=512, description="of the class")]


@router.post("/login", include_in_schema=False)
def login(page: ThePage, sent: models.Login, response: Response) -> models.Ok:
    """Takes the token of the printed link into a cookie, which scripts cannot read."""
    if page.token is not None:
        if not same_token(sent.token, page.token):
            raise HTTPException(401)
        response.set_cookie(COOKIE, page.token, max_age=400 * 86400, httponly=True, samesite="strict", secure=page.secure)
    return models.Ok()


@router.get("/classes")
def classes(page: ThePage) -> list[models.ClassState]:
    """The taught classes, and what was taught as none of them."""
    return page.classes()


@router.get("/names")
def name(page: ThePage, name: Name) -> models.NameKnown:
    """What the model makes of a name: whether it can read it, and whether it was taught."""
    return page.name(name)


@router.get("/shots/{shot}.jpg", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
def shot(page: ThePage, shot: Annotated[str, InPath(max_length=40)]) -> Response:
    """A picture that a class was taught from, as the network saw it."""
    content = page.shots().get(shot)
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400, immutable"})


@router.post("/teach")
def teach(page: ThePage, sent: models.Teach) -> models.Taught:
    """Teaches up to five different frames of those that a source showed in the last seconds, at most 3; 0 takes the newest."""
    one = source(page, sent.source)
    held = page.watch.held(one, sent.seconds)
    if not held or one.stale:
        raise InputError("There is no picture to teach from", expected="a camera that shows something")
    with page.gate.changing():
        done = teach_held(page.recognizer, sent.name, held, negative=sent.negative, force=sent.force)
    return models.Taught(**asdict(done))


@router.post("/pictures")
def pictures(
    page: ThePage,
    name: Annotated[str, Form(min_length=1, max_length=512)],
    files: Annotated[list[UploadFile], File(max_length=MOST_PICTURES)],
    negative: Annotated[bool, Form()] = False,
    force: Annotated[bool, Form()] = False,
) -> models.Taught:
    """Teaches a class from pictures (JPEG, PNG and others), in one step."""
    read = [_picture(one) for one in files]
    with page.gate.changing():
        done = teach_pictures(page.recognizer, name, read, negative=negative, force=force)
    return models.Taught(**asdict(done))


@router.post("/names")
def teach_by_name(page: ThePage, sent: models.Named) -> models.Taught:
    """Teaches a class by its name alone, where the model can."""
    with page.gate.changing():
        return models.Taught(**asdict(teach_name(page.recognizer, sent.name)))


@router.patch("/classes")
def change(page: ThePage, sent: models.Changed) -> models.Ok:
    """Renames a class, or sets its strength or threshold."""
    learner, given = page.recognizer, sent.model_fields_set
    if ("strength" in given) + ("threshold" in given) + (sent.to is not None) != 1 or (
        sent.strength is None and "strength" in given
    ):
        raise InputError("Nothing says what is to be changed, or several do", expected="one of to, strength and threshold")
    with page.gate.changing():
        if sent.to is not None:
            edits.rename(learner, sent.name, sent.to)
        elif sent.strength is not None:
            learner.set_strength(sent.name, sent.strength)
        else:
            learner.set_threshold(sent.name, sent.threshold)
    return models.Ok()


@router.delete("/classes")
def forget(page: ThePage, name: Name) -> models.Ok:
    """Takes a class out of the bank."""
    with page.gate.changing():
        page.recognizer.forget(name)
    return models.Ok()


@router.post("/shots")
def move(page: ThePage, sent: models.Moved) -> models.Ok:
    """Moves a picture to another class, or takes it out."""
    with page.gate.changing():
        if sent.to is None:
            edits.forget_shot(page.recognizer, sent.name, sent.shot)
        else:
            edits.move_shot(page.recognizer, sent.name, sent.shot, sent.to)
    return models.Ok()


@router.post("/undo")
def undo(
    page: ThePage,
    version: Annotated[int | None, Query(ge=0, description="the bank_version that is to be taken back")] = None,
) -> models.Ok:
    """Takes the last change of the bank back; again, the one before, up to ten. With a version, only while it is the newest."""
    with page.gate.changing():
        if version not in (None, page.recognizer.bank.version):
            raise InputError("Something else was changed since", expected="the last change")
        page.recognizer.undo()
    return models.Ok()


@router.get("/advice")
def advice(page: ThePage) -> models.Advice:
    """How well the classes are told from each other, and what to add: as `sp-edge bank check` says it."""
    with page.gate.recognizing():
        report = page.recognizer.advice()
    lines = [
        f"Picture {one.shot + 1} of '{one.name}' is "
        + ("not recognized" if one.label == UNKNOWN else f"taken for '{one.label}'")
        + " when it is shown again: add another picture, or take this one out"
        for one in report.missed
    ]
    lines += [line[0].upper() + line[1:] for line in report.advice] if page.recognizer.bank.names else []
    return models.Advice(lines=lines, left_out=report.left_out, right=None if report.right is None else report.right.to_json())


def _picture(sent: UploadFile) -> NDArray[np.uint8]:
    try:
        return read_picture(sent.file.read())
    except ImageError as error:
        raise ImageError(
            f"{error.what}: {sent.filename or 'one without a name'}", expected=error.expected, got=error.got
        ) from error
