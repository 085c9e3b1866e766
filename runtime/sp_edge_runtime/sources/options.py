"""What a user may choose about a source of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sp_edge.options import check, number, whole

Flip = Literal["none", "horizontal", "vertical", "rotate-90", "rotate-180", "rotate-270"]

MAX_SIDE = 16384


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is opened.

    Attributes:
        vid_stride: Take every n-th frame; 1 or more.
        loop: Begin a file again when it ends.
        size_wh: Ask a camera for this width and height, pixels, 1 to 16384 a side. Without it, the camera chooses.
        rate: Ask a camera for this many frames a second, above 0 and up to 1000. Without it, the camera chooses.
        flip: Mirror the frames, or turn them clockwise.
        timeout: Call a live source lost after this many seconds without a frame, above 0 and up to 3600.
        wait: Wait for a live source that is not there yet. Several sources are always waited for.

    Raises:
        SettingsError: an option is out of range.
    """

    vid_stride: int = 1
    loop: bool = False
    size_wh: tuple[int, int] | None = None
    rate: float | None = None
    flip: Flip = "none"
    timeout: float = 5.0
    wait: bool = False

    def __post_init__(self) -> None:
        check(
            self,
            vid_stride=(whole(self.vid_stride, 1), "a whole number, 1 or more"),
            size_wh=(self.size_wh is None or _is_size(self.size_wh), f"width and height, 1 to {MAX_SIDE} pixels"),
            rate=(self.rate is None or number(self.rate, most=1000, above=0), "frames a second, above 0 and up to 1000"),
            flip=(self.flip in get_args(Flip), ", ".join(get_args(Flip))),
            timeout=(number(self.timeout, most=3600, above=0), "seconds, above 0 and up to 3600"),
        )


def _is_size(size_wh: object) -> bool:
    return isinstance(size_wh, tuple) and len(size_wh) == 2 and all(whole(side, 1, MAX_SIDE) for side in size_wh)
