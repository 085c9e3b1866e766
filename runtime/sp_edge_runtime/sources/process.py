"""Reads frames from a capture that runs in a process of its own, and ends that process whatever it does."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import time
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import MissingExtraError, SourceError
from sp_edge.processes import python_command
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.capture import LENGTH
from sp_edge_runtime.sources.frames import VideoFrame
from sp_edge_runtime.sources.options import MAX_SIDE
from sp_edge_runtime.sources.request import CaptureRequest

START = 60.0  # seconds for the process to load its libraries: a small board that has just started is slow
PIPE = 1 << 20  # bytes: as much as Linux gives without privileges
MAX_MESSAGE = 1 << 16
PATIENCE = 5.0  # seconds for a killed process to go; one that hangs in a driver of the kernel cannot
_F_SETPIPE_SZ = 1031


class CaptureFailedError(SourceError):
    """A capture failed; `fatal` where trying again cannot mend it."""

    def __init__(self, what: str, *, fatal: bool = False, expected: str = "", got: str = "", next_step: str = "") -> None:
        super().__init__(what, expected=expected, got=got, next_step=next_step)
        self.fatal = fatal


class CaptureProcess:
    """One attempt at a live source.

    It owns the process, and `close`, which any thread may call, kills it: a driver that hangs leaves nothing behind.

    Args:
        request: what to capture. Its timeout is the watchdog's: without a frame for so long, `read` raises.

    Attributes:
        fps: frames a second as the source claims them; None where it claims nothing, and before `open`.
        damaged: frames that the capture left out because not all of them arrived, so far.

    Raises:
        SourceError: the process cannot be started.
    """

    def __init__(self, request: CaptureRequest) -> None:
        self._name = redact(request.address)
        self._timeout = request.timeout
        self.fps: float | None = None
        self.damaged = 0
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                python_command("sp_edge_runtime.sources.capture"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what FFmpeg writes there may hold a password
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the program, which then ends this
            )
        except OSError as cause:
            raise SourceError(f"cannot start capturing {self._name}", expected="a new process", got=str(cause)) from cause
        if self._process.stdin is None or self._process.stdout is None:
            raise SourceError(f"cannot start capturing {self._name}", expected="a process with pipes")
        self._request, self._answers = self._process.stdin, self._process.stdout
        self._ready = select.poll()
        self._ready.register(self._answers, select.POLLIN)
        with suppress(OSError):  # without it, it is only slower
            fcntl.fcntl(self._answers, _F_SETPIPE_SZ, PIPE)
        with suppress(BrokenPipeError):  # `read` finds out why
            self._request.write(json.dumps(request.to_json()).encode() + b"\n")

    def open(self) -> None:
        """Waits until the source is open.

        Raises:
            SourceError: it is not.
        """
        self._message(START, "ready")
        # The libraries have limits of their own, which say more than a watchdog can.
        self.fps = self._message(self._timeout + 1, "opened")["opened"]

    def read(self) -> VideoFrame | None:
        """The next frame; None when the source is over.

        Raises:
            SourceError: it failed, or there was no frame in time.
        """
        while "alive" in (message := self._message(self._timeout + 0.5, "frame", "alive", "ended")):
            pass  # each is a sign of life
        if "ended" in message:
            return None
        self.damaged = message["damaged"]
        height, width = message["shape"]
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise SourceError(f"{self._name} gives frames that cannot be used", got=f"{width}x{height} pixels")
        image_rgb: NDArray[np.uint8] = np.empty((height, width, 3), np.uint8)
        self._fill(image_rgb.data.cast("B"), time.monotonic() + self._timeout)
        return VideoFrame(image_rgb, message["frame"], message["time"], message["captured"])

    def close(self) -> None:
        """Ends the process at once; a second call does nothing."""
        with suppress(OSError):
            self._process.kill()

    def release(self) -> None:
        """Ends the process, waits for it and closes the pipes; for the thread that reads."""
        self.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self._request.close()
        self._answers.close()

    def _message(self, seconds: float, *kinds: str) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        length = bytearray(LENGTH.size)
        self._fill(memoryview(length), deadline)
        content = bytearray(min(LENGTH.unpack(length)[0], MAX_MESSAGE))
        self._fill(memoryview(content), deadline)
        message: dict[str, Any] = json.loads(content)
        if error := message.get("error"):
            package, extra, fatal = (error.pop(name) for name in ("package", "extra", "fatal"))
            if package:
                raise MissingExtraError(error["what"], package=package, extra=extra)
            raise CaptureFailedError(**error, fatal=fatal)
        if not any(kind in message for kind in kinds):
            raise SourceError(f"{self._name} answers out of order", expected=" or ".join(kinds), got=", ".join(message))
        return message

    def _fill(self, content: memoryview, deadline: float) -> None:
        """Reads as many bytes as fit."""
        while content:
            if not self._ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise SourceError(
                    f"{self._name} stopped delivering frames",
                    expected=f"a frame within {self._timeout:g} s",
                    got="none",
                    next_step="check the cable or network",
                )
            read = os.readv(self._answers.fileno(), [content])
            if not read:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(PATIENCE)
                got = f"its process ended ({self._process.returncode})"
                raise SourceError(f"{self._name} was lost", expected="further frames", got=got)
            content = content[read:]
