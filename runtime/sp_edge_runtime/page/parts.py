"""What the routes need of a request: the page, one of its sources, pictures."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import Depends, HTTPException, Path, Request
from numpy.typing import NDArray

from sp_edge.pictures import load_image
from sp_edge_runtime.page.page import Page
from sp_edge_runtime.page.watch import Watched

MAX_PIXELS = 50_000_000  # of a picture that comes in by a request


def _page(request: Request) -> Page:
    page: Page = request.app.state.page
    return page


async def _content(request: Request) -> bytes:
    return await request.body()


ThePage = Annotated[Page, Depends(_page)]
Content = Annotated[bytes, Depends(_content)]  # of the request's body, as it is
Place = Annotated[int, Path(ge=0, le=1 << 31, description="number of the source, from 0")]


def source(page: Page, place: int) -> Watched:
    """A source by its number.

    Raises:
        HTTPException: 404 where there is none.
    """
    found = page.watch.sources.get(place)
    if found is None:
        raise HTTPException(404)
    return found


def read_picture(content: bytes) -> NDArray[np.uint8]:
    """A picture that came with a request: uint8 (H, W, 3) RGB.

    Raises:
        ImageError: it cannot be read, or has more than 50 million pixels.
    """
    return load_image(content, most=MAX_PIXELS)
