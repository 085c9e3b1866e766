"""What a capture process is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.address import redact
from sp_edge_runtime.sources.options import SourceOptions

CaptureKind = Literal["device", "stream", "gstreamer", "test"]


@dataclass(frozen=True)
class CaptureRequest:
    """What is to be captured.

    Attributes:
        kind: a camera ('device'), an address for FFmpeg ('stream'), a 'gstreamer' pipeline or the 'test' scenes.
        address: the device's path or number, the URI, the pipeline's text.
        size_wh: of a camera's or the test scenes' frames; None leaves the choice to the driver.
        rate: frames a second of the same.
        stride: send every n-th frame.
        timeout: seconds for opening, and between two frames.
    """

    kind: CaptureKind
    address: str
    size_wh: tuple[int, int] | None = None
    rate: float | None = None
    stride: int = 1
    timeout: float = 5.0

    @staticmethod
    def of(kind: CaptureKind, address: str, options: SourceOptions) -> CaptureRequest:
        """What is to be captured with a user's options."""
        return CaptureRequest(kind, address, options.size_wh, options.rate, options.vid_stride, options.timeout)

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> CaptureRequest:
        """What `to_json` gave."""
        size = fields.pop("size_wh")
        return CaptureRequest(**fields, size_wh=None if size is None else (size[0], size[1]))

    def unopened(self, *, expected: str, got: str, check_with: str) -> SourceError:
        """That nothing usable is at the address; `check_with` names a program that shows what is there."""
        return SourceError(
            f"cannot open {redact(self.address)}",
            expected=expected,
            got=got,
            next_step=f"check address, user name and password with {check_with}",
        )


class Captured(NamedTuple):
    """A captured frame.

    Attributes:
        number: of the frame in its source, from 0; those that are left out count too.
        time: of day when it was captured, `time.time`.
        captured: the same in seconds of `time.monotonic`.
        image_rgb: uint8 (H, W, 3) RGB.
        damaged: frames that were left out because not all of them arrived, so far.
    """

    number: int
    time: float
    captured: float
    image_rgb: NDArray[np.uint8]
    damaged: int = 0
