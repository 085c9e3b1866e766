"""Routes about frames that were kept: what they are, filing them, and what a threshold would do to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Response
from fastapi import Path as InPath

from sp_edge.accuracy import Share
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop
from sp_edge.errors import InputError
from sp_edge.files import utf8_text
from sp_edge.matching.decide import Match
from sp_edge_runtime.page import models
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.parts import ThePage
from sp_edge_runtime.page.teach import RefusedError, teach_crops
from sp_edge_runtime.sinks.harvest import Kept

router = APIRouter(prefix="/api", tags=["recent"])
Named = Annotated[str | None, Query(max_length=512, description="of a class; without it, all")]


@router.get("/recent")
def recent(page: ThePage) -> list[models.KeptFrame]:
    """The kept frames, the newest first, as the bank recognizes them now."""
    kept = page.harvest.kept[::-1]
    return [
        models.KeptFrame(
            number=one.number, time=one.time, source=utf8_text(one.source), label=match.label, name=match.name,
            similarity=match.similarity, why=one.why,
        )
        for one, match in zip(kept, _matches(page, kept), strict=True)
    ]  # fmt: skip


@router.get("/recent/{number}.jpg", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
def picture(page: ThePage, number: Annotated[int, InPath(ge=0)]) -> Response:
    """A kept frame, as the network saw it."""
    for one in page.harvest.kept:
        if one.number == number:
            return Response(one.crop, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})
    raise HTTPException(404)


@router.post("/recent/file")
def file(page: ThePage, sent: models.Filed) -> models.Gain:
    """Files frames under a class, and says what that gained; without a name, as none of what they are taken for."""
    kept = _chosen(page, sent.numbers)
    with page.gate.changing():
        everything = page.harvest.kept
        before, labels = _right(page), [match.label for match in _matches(page, everything)]
        groups = {sent.name: kept} if sent.name is not None else _by_name(page, kept)
        taken, refused = 0, Counter[str]()
        for name, members in groups.items():
            crops = [decode_crop(one.crop) for one in members]
            try:
                done = teach_crops(page.recognizer, name, crops, negative=sent.name is None)
            except RefusedError as error:
                if len(groups) == 1:
                    raise
                refused.update(error.reasons)
                continue
            taken += done.taken
            refused.update(done.refused)
        now = [match.label for match in _matches(page, everything)]
        page.harvest.drop({one.number for one in kept})
    changed = sum(one != other for one, other in zip(labels, now, strict=True))
    return models.Gain(taken=taken, refused=dict(refused), changed=changed, before=before, after=_right(page))


@router.post("/recent/drop")
def drop(page: ThePage, sent: models.Dropped) -> models.Ok:
    """Lets frames go."""
    page.harvest.drop(set(sent.numbers))
    return models.Ok()


@router.get("/threshold")
def effect(page: ThePage, value: Annotated[float, Query(ge=-1, le=1)], name: Named = None) -> models.Effect:
    """What a threshold would do to the kept frames that are most like a class; nothing is changed."""
    kept = page.harvest.kept
    own = name and page.recognizer.bank.spelling(name)
    about = [
        (one, match) for one, match in zip(kept, _matches(page, kept), strict=True)
        if match.name in page.recognizer.bank.classes and own in (None, "", match.name)
    ]  # fmt: skip
    accepted = [one.number for one, match in about if match.similarity >= value]
    return models.Effect(
        value=value,
        now=_threshold(page, own or None),
        accepted=accepted,
        refused=[one.number for one, match in about if match.similarity < value],
        share=Share(len(accepted), len(about)).to_json() if about else None,
    )


@router.put("/threshold")
def set_threshold(page: ThePage, sent: models.Threshold) -> models.Ok:
    """Sets the threshold of a class or, in one step, of every class."""
    with page.gate.changing():
        taught = page.recognizer.bank
        names = taught.classes if sent.name is None else (taught.spelling(sent.name),)
        if not names:
            raise InputError("Nothing is taught yet", expected="a class")

        def changed(bank: Bank) -> Bank:
            for name in names:
                bank = bank.with_threshold(name, sent.value)
            return bank

        page.recognizer.change(changed)
    return models.Ok()


def _matches(page: Page, kept: Sequence[Kept]) -> list[Match]:
    if not kept:
        return []
    return page.recognizer.head.matches(np.stack([one.feature for one in kept]), topk=1)


def _threshold(page: Page, name: str | None) -> float:
    """That of a class, or the middle one of all; 0 where nothing is taught."""
    head = page.recognizer.head
    rows = [row for row, one in enumerate(head.names) if not head.rejects[row] and name in (None, one)]
    return float(np.median(head.thresholds[rows])) if rows else 0.0


def _chosen(page: Page, numbers: Sequence[int]) -> list[Kept]:
    kept = [one for one in page.harvest.kept if one.number in numbers]
    if not kept:
        raise InputError("These pictures are gone", expected="pictures that are still kept")
    return kept


def _by_name(page: Page, kept: Sequence[Kept]) -> dict[str, list[Kept]]:
    """The frames by the class that each is taken for; those that are most like a reject count for its class."""
    bank = page.recognizer.bank
    groups: dict[str, list[Kept]] = {}
    for one, match in zip(kept, _matches(page, kept), strict=True):
        name = bank.rejects.get(match.name, match.name)
        if name:
            groups.setdefault(name, []).append(one)
    if not groups:
        raise InputError("Nothing is taught yet", expected="a class that these pictures are not of")
    return groups


def _right(page: Page) -> dict[str, object] | None:
    """How many of the bank's pictures are told right without themselves."""
    right = page.recognizer.advice().right
    return None if right is None else right.to_json()
