"""A page on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from page_site import Opened, Showing, Site
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.streams.options import StreamOptions
from threads import PATIENCE, until

pytest.importorskip("fastapi", reason="the extra web is not installed")
pytest.importorskip("uvicorn", reason="the extra web is not installed")

from sp_edge_runtime.page.options import PageOptions
from sp_edge_runtime.page.server import serve


@pytest.fixture
def opened(recognizer: Recognizer) -> Iterator[Opened]:
    """`opened(sources, **options)` serves a page."""
    sites: list[tuple[Site, threading.Thread]] = []

    def start(
        sources: list[Showing] | None = None,
        *,
        taught: Recognizer | None = None,
        stream: StreamOptions = StreamOptions(),
        **options: Any,
    ) -> Site:
        shown = [Showing()] if sources is None else sources
        ready = threading.Event()
        site = Site("", taught or recognizer, shown, lambda: None)

        def open_it(address: str, stop: Callable[[], None]) -> None:
            site.address, site.stop = address, stop
            ready.set()

        def run() -> None:
            try:
                page = PageOptions(**{"port": 0, **options})
                serve(site.recognizer, shown, page, stream=stream, model="toy", ready=open_it)
            except BaseException as error:
                site.failed.append(error)
                ready.set()

        thread = threading.Thread(target=run)
        thread.start()
        sites.append((site, thread))
        assert ready.wait(PATIENCE)
        if not site.failed:
            until(lambda: site.get("/health").status != 421)
        return site

    yield start
    for site, thread in sites:
        site.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def site(opened: Opened) -> Site:
    """A page with one camera."""
    found = opened()
    until(lambda: found.get("/health").status == 200)
    return found
