"""Refuses a request that may not come in, before anything else looks at it: by host, origin, token, size and haste."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
import socket
from collections.abc import Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "sp_edge_token"
OPEN = {"/", "/health", "/api/login"}  # without a token; and what lies under /assets/
SMALL = 1 << 16  # bytes of a request's body
LARGE = {"/api/pictures": 64 << 20, "/api/classify": 16 << 20, "/api/bank": 64 << 20, "/api/bank/compare": 64 << 20}
INFER = 32 << 20  # bytes of an inference request
SECONDS = 60.0  # in which a request's body must arrive
AT_ONCE = 64  # requests
VIEWERS = 16  # of those, which last
_LASTING = ("/api/events", "/live.mjpeg")
_RECOGNIZE = ("/infer", "/boxes")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_WORDS = {
    400: "The request is not understood",
    401: "This page asks for a token: open the link that sp-edge serve printed",
    403: "This page is used from its own address alone",
    408: "The request took too long",
    413: "The request is too large",
    421: "This page is not known by that address",
    429: "Busy: try again in a moment",
}


class _RefusedError(Exception):
    """A request ends with this status."""

    def __init__(self, status: int) -> None:
        self.status = status


class Guard:
    """ASGI middleware; nothing that it refuses reaches the application.

    Args:
        app: what it guards.
        token: that a request must bring, as a cookie or a bearer token; None where none is asked for.
        hosts: names of this device, besides its addresses.
        admit: whether a request that recognizes may come in now.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: frozenset[str], admit: Callable[[], bool]) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._admit = admit
        self._at_once = self._viewers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Takes one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        lasting = scope["path"].endswith(_LASTING)
        try:
            limit = self._checked(scope, lasting)
        except _RefusedError as refused:
            await _answer(send, refused.status)
            return
        self._at_once += 1
        self._viewers += lasting
        body = _Body(receive, limit)

        async def told(message: Message) -> None:
            if body.refused and message["type"] == "http.response.start":
                await _answer(send, body.refused)
            if body.refused:
                return  # whatever the application made of it
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in given)]
            await send(message)

        try:
            await self._app(scope, body, told)
        except _RefusedError:
            pass  # the application said so already, or there is nobody to tell
        finally:
            self._at_once -= 1
            self._viewers -= lasting

    def _checked(self, scope: Scope, lasting: bool) -> int:
        """How many bytes the request's body may have."""
        path, headers = scope["path"], _headers(scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise _RefusedError(421)
        if not _same_origin(scope, headers, host):
            raise _RefusedError(403)
        if self._token is not None and path not in OPEN and not path.startswith("/assets/") and not self._knows(headers):
            raise _RefusedError(401)
        recognizes = path == "/api/classify" or path.endswith(_RECOGNIZE)
        if self._at_once >= AT_ONCE or (lasting and self._viewers >= VIEWERS) or (recognizes and not self._admit()):
            raise _RefusedError(429)
        limit = INFER if path.startswith("/v2/models/") else LARGE.get(path, SMALL)
        size = headers.get("content-length", "0")
        if not size.isdecimal():
            raise _RefusedError(400)
        if int(size) > limit:
            raise _RefusedError(413)
        return limit

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this device: a page elsewhere may have its name lead here (DNS rebinding)."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._token is not None

    def _knows(self, headers: MutableMapping[str, str]) -> bool:
        given = headers.get("authorization", "")
        found = given[7:] if given[:7].lower() == "bearer " else ""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        return any(same_token(one, self._token) for one in (found, cookie.value if cookie else ""))


def same_token(given: str, token: str | None) -> bool:
    """Whether what was given is the token that is asked for; how long this takes tells nothing of it."""
    return token is not None and secrets.compare_digest(given.encode(), token.encode())


def host_names(extra: str | None = None) -> frozenset[str]:
    """What this device may be called in an address."""
    own = socket.gethostname().lower()
    names = {"localhost", own, f"{own.partition('.')[0]}.local", own.partition(".")[0]}
    return frozenset(names | ({extra.lower()} if extra else set()))


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _same_origin(scope: Scope, headers: MutableMapping[str, str], host: str) -> bool:
    """Whether a browser says that the request comes from this page, or that a person typed its address.

    A program that is no browser says neither, and carries no one else's rights.
    """
    site = headers.get("sec-fetch-site", "none")
    navigates = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
    if site not in ("same-origin", "none") and not navigates:
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == host


class _Body:
    """A request's body; given up where it is too large or too slow.

    Attributes:
        refused: the status for that; 0 where all is well.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self.refused = 0
        self._receive = receive
        self._left = limit
        self._deadline = asyncio.get_running_loop().time() + SECONDS
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # waits for the other side to leave
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._deadline - asyncio.get_running_loop().time()))
        except asyncio.TimeoutError:
            self.refused = 408
            raise _RefusedError(408) from None
        self._left -= len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self._left < 0:
            self.refused = 413
            raise _RefusedError(413)
        return message


async def _answer(send: Send, status: int) -> None:
    body = json.dumps({"error": _WORDS[status]}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    headers += [(b"retry-after", b"1")] if status == 429 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
