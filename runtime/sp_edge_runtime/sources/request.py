"""What a capture process is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CaptureRequest:
    """What is to be captured.

    Attributes:
        kind: a camera ('device'), an address for FFmpeg ('stream'), a 'gstreamer' pipeline or the 'test' scenes.
        address: the device's path or number, the URI, the pipeline's text.
        size_wh: of a camera's or the test scenes' frames; None leaves the choice to the driver.
        rate: frames a second of the same.
        stride: send every how manieth frame.
        timeout: seconds for opening, and between two frames.
    """

    kind: Literal["device", "stream", "gstreamer", "test"]
    address: str
    size_wh: tuple[int, int] | None = None
    rate: float | None = None
    stride: int = 1
    timeout: float = 5.0

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> CaptureRequest:
        """What `to_json` gave."""
        size = fields.pop("size_wh")
        return CaptureRequest(**fields, size_wh=None if size is None else (size[0], size[1]))


class Captured(NamedTuple):
    """A captured frame: its number, its time of day and monotonic time, and uint8 (H, W, 3) RGB."""

    number: int
    time: float
    captured: float
    image_rgb: NDArray[np.uint8]
