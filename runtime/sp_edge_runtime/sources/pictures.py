"""Reads picture files as frames, one a frame."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from sp_edge.errors import ImageError
from sp_edge.pictures import load_image
from sp_edge_runtime.sources.frames import Source, VideoFrame, flipped
from sp_edge_runtime.sources.options import SourceOptions

_log = logging.getLogger(__name__)


class PictureSource(Source):
    """Picture files, one a frame. Those that cannot be read are passed over: logged, and kept in `unreadable`.

    Args:
        paths: at least one.
        name: what the user asked for.
        options: stride, from the first picture on; flip; loop, in which the frames' numbers count on.
    """

    def __init__(self, paths: Sequence[Path], name: str, options: SourceOptions = SourceOptions()) -> None:
        super().__init__(name, timed=False)
        self._paths = paths
        self._options = options

    def __iter__(self) -> Iterator[VideoFrame]:
        """The pictures in order. With `loop`, they end with a round in which none could be read."""
        for lap in itertools.count() if self._options.loop else range(1):
            read = False
            for index in range(0, len(self._paths), self._options.vid_stride):
                if self._closed.is_set():
                    return
                path = self._paths[index]
                try:
                    image_rgb = load_image(path)
                except ImageError as error:
                    if str(path) not in self.unreadable:
                        _log.warning("%s", error.what + (f": {error.got}" if error.got else ""))
                    self.unreadable[str(path)] = error.got or error.what
                    continue
                read = True
                yield VideoFrame(flipped(image_rgb, self._options.flip), lap * len(self._paths) + index, 0.0)
            if not read:
                return
