"""Finds the places in a picture that look like a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sp_edge.bank.heat import heat_picture
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BundleError
from sp_edge.matching.evidence import evidence
from sp_edge.pictures import Picture, picture_rgb
from sp_edge.view import View
from sp_edge_runtime.features import Features
from sp_edge_runtime.naming import Prompt, given_prompt


@dataclass(frozen=True, eq=False)
class Look:
    """Where in a picture a name was found.

    Attributes:
        image_rgb: uint8 (S, S, 3) RGB, what the network saw of the picture.
        heat: float32 (h, w), of a grid of places over it: how much more each looks like the name than places of unrelated
            photographs do, in standard deviations.
        evidence: how much in the picture looks like the name: the mean of the five highest.
    """

    image_rgb: NDArray[np.uint8]
    heat: NDArray[np.float32]
    evidence: float

    def picture(self) -> NDArray[np.uint8]:
        """The picture with what does not look like the name dark: uint8 (S, S, 3) RGB."""
        return heat_picture(self.image_rgb, self.heat)


class Looker:
    """Looks for names in pictures, where the bundle's network weighs the places of its last feature map.

    Args:
        bundle: the exported model.
        features: its graphs.
    """

    def __init__(self, bundle: Bundle, features: Features) -> None:
        self._manifest = bundle.manifest
        self._features = features

    def look(
        self, name: str, image: Picture, prompt: Prompt | NDArray[np.float32], view: View, *, prepared: bool = False
    ) -> Look:
        """Looks for a name in a picture; see `Recognizer.look`.

        Raises:
            BundleError: the network does not tell.
            PromptError: the prompt does not fit the bundle.
            ImageError: the image is no picture.
            SettingsError: the view's region does not lie within it.
            BackendError: the inference engine failed.
        """
        vector = given_prompt(name, prompt, self._manifest.text.dim).vector
        picture = picture_rgb(image)
        crop = picture if prepared else self._manifest.preprocess(picture, view)
        (heat,) = self.heats(crop[None], vector)
        return Look(crop, heat, float(evidence(heat)))

    def heats(self, prepared: NDArray[np.uint8], prompt: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where a name, float32 (T,), is in pictures that are prepared, uint8 (K, S, S, 3) RGB: float32 (K, h, w).

        Raises:
            BundleError: the network does not tell.
            BackendError: the inference engine failed.
        """
        scores = self._features.shots(prepared, prompt).scores if self._manifest.scores else None
        if scores is None:
            raise BundleError(
                "this bundle's network does not tell where it finds a name",
                expected="one whose names count on its last feature map",
                got="one without",
                next_step="sp-edge ready makes such a bundle",
            )
        return scores
