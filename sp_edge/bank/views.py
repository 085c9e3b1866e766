"""Views of a shot, for a class that is taught from few: the picture itself, and crops of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sp_edge.errors import SettingsError
from sp_edge.options import whole

LEAST_AREA = 0.7  # share of the picture that a crop keeps at least
MOST = 50


def views(image_rgb: NDArray[np.uint8], count: int, *, flip: bool, seed: int = 0) -> NDArray[np.uint8]:
    """Views of a prepared picture, the first of them the picture itself; the same arguments give the same ones.

    Args:
        image_rgb: uint8 (S, S, 3) RGB, as `Preprocess` gives it.
        count: V, 1 to 50.
        flip: mirror half of the crops, as training did where a mirrored thing is the same thing.
        seed: of the crops.

    Returns:
        uint8 (V, S, S, 3) RGB; a crop has 70 to 100 % of the area and is resized back (`RandomResizedCrop`, square).

    Raises:
        SettingsError: count is out of range.
    """
    if not whole(count, 1, MOST):
        expected = f"a whole number, 1 to {MOST}"
        raise SettingsError("the number of views is out of range", expected=expected, got=repr(count)[:80])
    rng = np.random.default_rng(seed)
    side = len(image_rgb)
    shown = Image.fromarray(image_rgb)
    found = [image_rgb]
    for _ in range(count - 1):
        kept = side * float(np.sqrt(rng.uniform(LEAST_AREA, 1)))
        left, top = rng.uniform(0, side - kept, 2).tolist()
        crop = shown.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + kept, top + kept))
        found.append(np.asarray(crop)[:, ::-1] if flip and rng.random() < 0.5 else np.asarray(crop))
    return np.stack(found)
