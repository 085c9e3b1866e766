"""Opens every engine and precision that this machine and a bundle have, and keeps why the others are not there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import SettingsError, SpEdgeError
from sp_edge.precisions import PRECISIONS
from sp_edge_runtime.backends.backend import Backend, least_cosine
from sp_edge_runtime.backends.choices import DEVICES
from sp_edge_runtime.backends.devices import open_backend

# 'auto' is one of the others, and '0' another word for one.
CANDIDATES = tuple((device, precision) for device in DEVICES if device not in ("auto", "0") for precision in PRECISIONS)


def opened(
    bundle: Bundle, stack: ExitStack, engines: Path | None, devices: Collection[str] = ()
) -> tuple[dict[tuple[str, str], tuple[Backend, float]], dict[str, list[str]]]:
    """Opens and tries them.

    Args:
        bundle: whose graphs to run.
        stack: which closes the backends.
        engines: folder of TensorRT engines; the user's cache by default.
        devices: only these; all by default.

    Returns:
        Device and precision -> the backend and its least cosine on the golden pictures; and reason -> the names of those that
        cannot be used for it.
    """
    found: dict[tuple[str, str], tuple[Backend, float]] = {}
    missing: dict[str, list[str]] = {}
    for device, precision in CANDIDATES:
        if devices and device not in devices:
            continue
        tried = _tried(bundle, stack, partial(open_backend, bundle, device, precision, engines=engines))
        if isinstance(tried, str):
            missing.setdefault(tried, []).append(f"{device} {precision}")
        else:
            found[device, precision] = tried
    return found, missing


def _tried(bundle: Bundle, stack: ExitStack, opener: Callable[[], Backend]) -> tuple[Backend, float] | str:
    """The backend with its cosine, or why it cannot be used."""
    try:
        with ExitStack() as attempt:
            backend = attempt.enter_context(opener())
            cosine = least_cosine(backend, bundle.golden())
            stack.push(attempt.pop_all())
            return backend, cosine
    except SettingsError as error:
        return error.what  # what it got is this very device
    except SpEdgeError as error:
        more = f": {error.got}" if error.got and error.got not in error.what else ""
        return " ".join(f"{error.what}{more}".split())
