"""Reads what kind of source a user's text names, and hides the credentials in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import unquote

from sp_edge.errors import SourceError

Kind = Literal["camera", "csi", "stream", "gstreamer", "test", "file"]

CAMERA = re.compile(r"(?:v4l2://)?(?:(?:/dev/video)?([0-9]{1,3})|(/dev/v4l/by-(?:id|path)/[^/\0]+))")
CSI = re.compile(r"csi://([0-9]{1,2})")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PIPELINE = re.compile(r"\S.*!\s*appsink\b.*", re.DOTALL)
# Inside a pipeline an address ends at a blank or quote; a property's value may be quoted.
_INNER_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']*")
# What was meant as an address is shown in the error that it is none: a slash may be missing, or the scheme.
_MEANT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.*)", re.DOTALL)
_INNER_MEANT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}([^\s\"']*)|[^\s/=:\"']*:[^\s\"']*@")
_SECRET = re.compile(
    r"\b((?:[\w-]*(?:user|pw|pass|password|secret|token|key|auth)[\w-]*)\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)", re.I
)

_STREAMS = ("rtsp", "rtsps", "http", "https")
_ADDRESSES = ("v4l2", "csi", "test", *_STREAMS)
KINDS = "a camera, stream, video, picture, folder or glob"


def source_kind(text: str) -> Kind:
    """What a source's text names, by its form alone.

    Raises:
        SourceError: empty, or an address of a kind that is not supported.
    """
    if not text.strip() or "\0" in text:
        raise SourceError("no source was named", expected=KINDS, got=repr(text))
    if CAMERA.fullmatch(text):
        return "camera"
    if _PIPELINE.fullmatch(text):
        return "gstreamer"
    uri = _URI.fullmatch(text)
    if uri is None:
        return "file"
    scheme = uri[1].lower()
    if scheme == "test":
        return "test"
    if scheme == "csi" and CSI.fullmatch(text):
        return "csi"
    if scheme in _STREAMS:
        return "stream"
    if scheme in _ADDRESSES:
        example = {"csi": "csi://0", "v4l2": "v4l2:///dev/video0"}[scheme]
        raise SourceError("no such camera can be named", expected=f"for instance {example}", got=redact(text)[:200])
    expected = ", ".join(f"{scheme}://" for scheme in _ADDRESSES)
    raise SourceError("this kind of address is not supported", expected=expected, got=f"{uri[1]}://")


def redact(text: str) -> str:
    """A source's text without credentials.

    In an address all before the last '@' and behind '?', '#' or ';' becomes '***', and everywhere the value of what is called
    user, password, token or key, as in a pipeline and in the paths of some cameras. What is no address may be a mistyped one.
    """
    address = None if _PIPELINE.fullmatch(text) else _MEANT.fullmatch(text.strip())
    if address:
        return _redacted(address)
    return _SECRET.sub(r"\1***", _INNER_MEANT.sub(_redacted, text))


def _redacted(address: re.Match[str]) -> str:
    """Of a scheme and what follows it; of a user and password alone nothing is left."""
    scheme, content = address.groups()
    if scheme is None:
        return "***@"
    if scheme.lower() == "test":
        return address[0]
    # A password may hold any character, and so may a token: where they cannot be told from the host, nothing is shown.
    before, at, rest = content.rpartition("@")
    if any(mark in before for mark in "?#;"):
        return f"{scheme}://***"
    rest = re.sub(r"([?#;]).*", r"\1***", rest, flags=re.DOTALL)
    return f"{scheme}://{'***@' if at else ''}" + _SECRET.sub(r"\1***", rest)


def distinct(names: Iterable[str]) -> list[str]:
    """The names in order, those that are taken with a number: two channels of one recorder may differ only in what is hidden.

    'camera', 'camera' become 'camera', 'camera (2)'; so the names are the same whenever the sources are.
    """
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name} ({number})"
        found.append(free)
    return found


def is_name(name: object) -> bool:
    """Whether a person may call a source so: in printable text."""
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()


def redact_within(message: str, text: str) -> str:
    """What a library said about a source, without the source's credentials."""
    shown = redact(text)
    if shown == text:
        return message
    secrets = {text, *(address for address in _INNER_URI.findall(text) if redact(address) != address)}
    for address in [text, *_INNER_URI.findall(text)]:
        if found := _URI.fullmatch(address):
            user, at, rest = found[2].rpartition("@")
            secrets |= {user, *user.split(":", 1)} if at else set()
            secrets |= set(re.split(r"[?#;]", rest, maxsplit=1)[1:])
    secrets |= {value.strip("\"'") for _, value in _SECRET.findall(text)}
    secrets |= {unquote(secret) for secret in secrets}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        message = message.replace(secret, shown if secret == text else "***")
    return message
