"""Captures cameras that send pictures over HTTP: one after the other in a multipart answer, or one for each question."""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import ImageError, SourceError
from sp_edge.pictures import load_image
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.request import Captured, CaptureRequest

PAUSE = 0.5  # seconds between two questions for a still picture
MOST_BYTES = 1 << 26  # of one picture
MOST_HEADERS = 64
CHUNK = 1 << 16
_START, _END = 0xD8, 0xD9


def capture_pictures(request: CaptureRequest) -> tuple[float | None, Iterator[Captured | None]] | None:
    """Opens a camera that sends pictures; None where the address gives anything else, such as a video.

    Raises:
        SourceError: nobody answers, or the answer is an error.
    """
    ask = partial(_ask, _opener(request.address), request)
    answer = ask()
    kind = answer.headers.get_content_type()
    if kind.startswith("multipart/"):
        parts = Parts(answer.read1, answer.headers.get_boundary())
        return None, _captured(parts, answer.close, request)
    if kind.startswith("image/"):
        return 1 / PAUSE, _captured(_asked_again(answer, ask), answer.close, request)
    answer.close()
    return None


def _captured(pictures: Iterator[bytes], close: Callable[[], None], request: CaptureRequest) -> Iterator[Captured | None]:
    name = redact(request.address)
    number = damaged = 0
    try:
        while True:
            try:
                content = next(pictures, None)
            except (OSError, HTTPException, ValueError) as cause:
                raise SourceError(f"{name} broke off", expected="further pictures", got=str(cause)) from cause
            if content is None:
                raise SourceError(f"{name} broke off", expected="further pictures")
            seconds, captured = time.time(), time.monotonic()
            image_rgb = _whole(content) if number % request.stride == 0 else None
            if image_rgb is not None:
                yield Captured(number, seconds, captured, image_rgb, damaged)
            elif number % request.stride:
                yield None
            else:
                damaged += 1
            number += 1
    finally:
        close()


def _whole(content: bytes) -> NDArray[np.uint8] | None:
    try:
        return load_image(content)
    except ImageError:
        return None


def _asked_again(answer: Any, ask: Callable[[], Any]) -> Iterator[bytes]:
    """A still picture, asked for again and again."""
    while True:
        with answer:
            yield answer.read(MOST_BYTES)
        time.sleep(PAUSE)
        answer = ask()


class Parts(Iterator[bytes]):
    """The bodies of a multipart answer, each as soon as its last byte is there.

    A body's length is what its header says, but no body goes beyond the boundary: what was cut ends there. Without a length a
    JPEG ends with its end marker, and anything else before the boundary.

    Args:
        read: gives the bytes that are there, at most so many, waiting for one; none at the end.
        boundary: from the answer's header; None where it has none.
    """

    def __init__(self, read: Callable[[int], bytes], boundary: str | None) -> None:
        self._read = read
        # Some cameras write the two dashes into the header, too.
        self._boundary = b"--" + (boundary or "").removeprefix("--").encode()
        self._buffer = bytearray()

    def __next__(self) -> bytes:
        """The next body."""
        while True:
            headers = self._headers()
            told = headers.get("content-length", "")
            end = partial(self._complete, int(told)) if told.isdecimal() else self._end
            if body := self._take(self._until(end)):
                return body

    def _headers(self) -> Message:
        """The lines before a body; the boundary is one of them."""
        headers = Message()
        for _ in range(MOST_HEADERS):
            line = self._take(self._until(lambda: self._buffer.find(b"\n") + 1 or None)).strip()
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                headers[name.strip()] = value.strip()
            elif not line and len(headers):
                return headers
            elif line == self._boundary + b"--":
                raise StopIteration
        raise ValueError("no picture between its headers")

    def _complete(self, length: int) -> int | None:
        named = len(self._boundary) > len(b"--")
        cut = self._buffer.find(b"\r\n" + self._boundary, 0, length) if named else -1
        if cut >= 0:
            return cut
        return length if len(self._buffer) >= length else None

    def _end(self) -> int | None:
        ends = (self._buffer.find(b"\r\n" + self._boundary), jpeg_end(self._buffer))
        return min((end for end in ends if end is not None and end >= 0), default=None)

    def _until(self, length: Callable[[], int | None]) -> int:
        """Reads until there are as many bytes as `length` then says."""
        while (found := length()) is None:
            if len(self._buffer) > MOST_BYTES:
                raise ValueError(f"a picture of more than {MOST_BYTES:,} bytes")
            more = self._read(CHUNK)
            if not more:
                raise StopIteration
            self._buffer += more
        return found

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken


def jpeg_end(content: bytes | bytearray) -> int | None:
    """Where a JPEG that begins at 0 ends; None while its end is not there. What is cut ends before the next one begins.

    Its segments are passed over by their length, since a small picture in one of them has an end of its own.
    """
    if content[:1] != b"\xff":
        return None
    at = 0
    while True:
        at = content.find(b"\xff", at)
        if at < 0 or at + 1 >= len(content):
            return None
        marker = content[at + 1]
        if marker == _END:
            return at + 2
        if marker == _START and at:
            return at
        if marker in (0x00, 0xFF, 0x01, _START) or 0xD0 <= marker <= 0xD7:
            at += 1
        elif at + 3 < len(content):
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        else:
            return None


def _ask(opener: Any, request: CaptureRequest) -> Any:
    scheme, host, path, query, _ = urlsplit(request.address)
    address = urlunsplit((scheme, host.rpartition("@")[2], path, query, ""))
    try:
        return opener.open(address, timeout=request.timeout)
    except urllib.error.HTTPError as cause:
        cause.close()
        got = f"HTTP {cause.code} {cause.reason}"
        raise request.unopened(expected="a camera that answers", got=got, check_with="a browser") from cause
    except (OSError, HTTPException, ValueError) as cause:
        got = str(getattr(cause, "reason", cause))
        raise request.unopened(expected="a camera that answers", got=got, check_with="a browser") from cause


def _opener(address: str) -> Any:
    """Opens addresses with the user and password in this one, whatever certificate a camera has made for itself."""
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    parts = urlsplit(address)
    if parts.username is not None:
        host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        passwords.add_password(None, host, unquote(parts.username), unquote(parts.password or ""))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
