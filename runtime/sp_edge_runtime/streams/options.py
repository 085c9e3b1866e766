"""What a user may choose about a stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from sp_edge.options import check, number, whole
from sp_edge.view import Region
from sp_edge_runtime.streams.parts import NamedRegion
from sp_edge_runtime.streams.smoothing import Smoothing


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How frames are recognized.

    Attributes:
        smoothing: Smooth the labels of a camera or video over this many seconds, 0 to 3600. 0 shows each frame's own.
        max_staleness: Drop a live source's result that is older than this many seconds, above 0. Files are never too old.
        max_frames: Stop after this many frames of all sources together, 1 or more. A frame with its regions counts once.
        max_fps: Recognize at most this many frames of each source a second, above 0. Of a live source the newest frame is
            taken. A frame with its regions counts once.
        regions: Look at this part of the frames, X,Y,W,H, as shares of 0 to 1 or in pixels. Give it once for all sources, or
            once for each.
        named_regions: Recognize this part of the frames, too, as a source of its own, called NAME. The frames are read once. Of
            several sources, say which: NAME=SOURCE:X,Y,W,H. It can be given again: 32 sources and regions are the most.

    Raises:
        SettingsError: an option is out of range.
    """

    smoothing: Smoothing = field(default_factory=Smoothing)
    max_staleness: float | None = None
    max_frames: int | None = None
    max_fps: float | None = None
    regions: tuple[Region, ...] = ()
    named_regions: tuple[NamedRegion, ...] = ()

    def __post_init__(self) -> None:
        check(
            self,
            smoothing=(isinstance(self.smoothing, Smoothing), "a Smoothing"),
            max_staleness=(self.max_staleness is None or number(self.max_staleness, above=0), "seconds, above 0"),
            max_frames=(self.max_frames is None or whole(self.max_frames, 1), "a whole number, 1 or more"),
            regions=(isinstance(self.regions, tuple) and all(isinstance(one, Region) for one in self.regions), "Regions"),
            named_regions=(
                isinstance(self.named_regions, tuple) and all(isinstance(one, NamedRegion) for one in self.named_regions),
                "NamedRegions",
            ),
            max_fps=(self.max_fps is None or number(self.max_fps, above=0), "frames a second, above 0"),
        )
