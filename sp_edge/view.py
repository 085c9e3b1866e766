"""Says which part of a picture is looked at, and how that part is fitted into the network's square."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from sp_edge.errors import SettingsError
from sp_edge.options import number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Fit = Literal["crop", "squash", "pad"]
Box = tuple[int, int, int, int]  # x, y, width, height in a picture's pixels

_EXPECTED = (
    "X,Y,W,H as shares of the picture, such as 0.1,0.2,0.5,0.5, where X + W and Y + H are at most 1, "
    "or as whole pixels, such as 100,50,640,480"
)
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")


@dataclass(frozen=True)
class Region:
    """A rectangle in pictures. Numbers of 0 to 1 are shares of the picture's width and height; larger ones are pixels.

    Attributes:
        x, y: of its upper left corner, from the picture's.
        width, height: of the rectangle, above 0.

    Raises:
        SettingsError: no such rectangle, or shares that leave the picture.
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        sides = (self.x, self.y, self.width, self.height)
        fits = all(number(side, 0) for side in sides) and self.width > 0 and self.height > 0
        if fits and self.in_shares:
            fits = self.x + self.width <= 1 + 1e-9 and self.y + self.height <= 1 + 1e-9  # 0.7 + 0.3 is a little more than 1
        elif fits:
            fits = all(float(side).is_integer() for side in sides) and self.width >= 1 and self.height >= 1
        if not fits:
            raise SettingsError("the region is no part of a picture", expected=_EXPECTED, got=str(self))

    def __str__(self) -> str:
        """As `parse` takes it."""
        return ",".join(f"{side:.10g}" if number(side) else repr(side) for side in (self.x, self.y, self.width, self.height))

    @staticmethod
    def parse(text: str) -> Region:
        """A region of the form X,Y,W,H.

        Raises:
            SettingsError: of another form, or out of range.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4 or not all(map(_NUMBER.fullmatch, parts)):
            raise SettingsError("the region is no part of a picture", expected=_EXPECTED, got=text[:80])
        return Region(*map(float, parts))

    @property
    def in_shares(self) -> bool:
        """Whether the numbers are shares of a picture, which fit pictures of any size."""
        return max(self.x, self.y, self.width, self.height) <= 1

    def box(self, height: int, width: int) -> Box:
        """The region in a picture of this size: x, y, width and height, whole pixels, at least one.

        Raises:
            SettingsError: a region in pixels that does not lie within such a picture.
        """
        if not self.in_shares:
            if self.x + self.width > width or self.y + self.height > height:
                raise SettingsError(
                    f"the region {self} leaves the picture",
                    expected=f"a region within {width}x{height} pixels",
                    got=f"one that ends at {self.x + self.width:g}x{self.y + self.height:g}",
                    next_step="give it in shares, such as 0.1,0.2,0.5,0.5, which fit pictures of any size",
                )
            return int(self.x), int(self.y), int(self.width), int(self.height)
        left, top = min(round(self.x * width), width - 1), min(round(self.y * height), height - 1)
        right = max(round((self.x + self.width) * width), left + 1)
        bottom = max(round((self.y + self.height) * height), top + 1)
        return left, top, right - left, bottom - top


@dataclass(frozen=True)
class View:
    """What is looked at of a picture.

    Attributes:
        region: the part of the picture that counts; None is the whole.
        fit: how it becomes a square. 'crop' cuts the square out of its middle; 'squash' takes all of it and lets its sides
            shrink unequally; 'pad' takes all of it and fills up the rest with grey.

    Raises:
        SettingsError: no region, or no such fit.
    """

    region: Region | None = None
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if not (self.region is None or isinstance(self.region, Region)):
            got = type(self.region).__name__
            raise SettingsError("this is no region", expected="a Region, such as Region.parse('0.1,0.2,0.5,0.5')", got=got)
        check_fit(self.fit)

    def box(self, height: int, width: int) -> Box:
        """The region in a picture of this size, as `Region.box` gives it."""
        return (0, 0, width, height) if self.region is None else self.region.box(height, width)

    def cut(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The region of a picture, uint8 (H, W, 3): the same memory, nothing is copied.

        Raises:
            SettingsError: as `Region.box`.
        """
        if self.region is None:
            return image_rgb
        x, y, width, height = self.box(*image_rgb.shape[:2])
        return image_rgb[y : y + height, x : x + width]


def check_fit(fit: str) -> None:
    """Refuses what is no `Fit`.

    Raises:
        SettingsError: so it is.
    """
    if fit not in get_args(Fit):
        raise SettingsError("the fit is not known", expected=" or ".join(get_args(Fit)), got=repr(fit)[:80])


WHOLE = View()  # of a picture: the square in its middle
