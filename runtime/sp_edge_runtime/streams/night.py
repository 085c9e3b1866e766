"""Says when a source's frames lose their color, as in infrared at night, and when they have it again."""

from __future__ import annotations

import logging

ROW = 10  # frames of a camera or video that must agree before the change is told
_log = logging.getLogger(__name__)


class NightWatch:
    """Logs each change of a source once.

    Args:
        source: its name.
        timed: whether its frames follow each other; of pictures, only the first without color is told.
    """

    def __init__(self, source: str, *, timed: bool) -> None:
        self._source = source
        self._timed = timed
        self._gray = False
        self._row = 0  # frames since the last that was as before

    def update(self, gray: bool) -> None:
        """Takes one frame's `Prediction.gray`."""
        self._row = self._row + 1 if gray != self._gray else 0
        if not self._row or (self._timed and self._row < ROW) or not (self._timed or gray):
            return
        self._gray, self._row = gray, 0
        if gray:
            _log.warning(
                "%s, and classes were taught in color: what differs by color is not told apart. "
                "Teach each class from such pictures, too",
                f"{self._source} is gray, as in infrared" if self._timed else f"a picture of {self._source} is gray",
            )
        else:
            _log.info("%s has color again", self._source)
