"""A page that is served for a test, a source that shows what the test wants, and a client."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import toy
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sources.frames import Source, VideoFrame
from threads import PATIENCE, until

EVERYWHERE = "0.0.0.0"  # noqa: S104 - behind a token, as a test shows


class Showing(Source):
    """Shows one picture, again and again, until another one is put there; a failure, if one is put there."""

    def __init__(self, name: str = "camera", *, live: bool = True) -> None:
        super().__init__(name, live=live)
        self.image: np.ndarray = toy.picture("red", side=64)
        self.failure: Exception | None = None
        self.paused = threading.Event()

    def __iter__(self) -> Iterator[VideoFrame]:
        number = 0
        while not self._closed.wait(0.01):
            if self.failure:
                raise self.failure
            if not self.paused.is_set():
                yield VideoFrame(self.image, number, time.time())
                number += 1


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """A page that is served."""

    address: str
    recognizer: Recognizer
    sources: list[Showing]
    stop: Callable[[], None]
    headers: dict[str, str] = field(default_factory=dict)
    failed: list[BaseException] = field(default_factory=list)

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    @property
    def token(self) -> str:
        return urlsplit(self.address).fragment.removeprefix("token=")

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; a body that is no bytes goes as JSON."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE)
        if self.address.startswith("https:"):
            # The certificate is the test's own.
            context = ssl._create_unverified_context()  # noqa: S323
            connection = http.client.HTTPSConnection(self.host, timeout=PATIENCE, context=context)
        try:
            connection.request(method, path, body, sent)
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def patiently(self, method: str, path: str, body: Any = None) -> Answer:
        """The answer once the page is not busy any more."""
        while (found := self.ask(method, path, body)).status == 429:
            time.sleep(0.05)
        return found

    def show(self, name: str, *, side: int = 64, seed: int = 0, source: int = 0) -> None:
        """Puts a picture before a camera, and waits until it was recognized."""
        self.sources[source].image = toy.picture(name, side=side, seed=seed)
        seen = self.number(source)
        until(lambda: self.number(source) > seen + 3)

    def number(self, source: int = 0) -> int:
        found: int = self.get("/api/sources").json[source]["frames"]
        return found

    def until_label(self, label: str, source: int = 0) -> None:
        """Waits until a frame is recognized so."""
        until(lambda: self.get(f"/api/sources/{source}/result").json.get("label") == label)

    def classes(self) -> dict[str, int]:
        """Name -> number of pictures of every class."""
        return {one["name"]: len(one["shots"]) for one in self.get("/api/classes").json}


Opened = Callable[..., Site]
