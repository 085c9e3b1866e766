"""What an export needs beside a network: real pictures to compare its stages on, and what its features are like on others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from sp_edge.data.pictures import PictureSet
from sp_edge.matching.metric import Background
from sp_edge.matching.unknown import Calibration
from sp_edge.prompts.table import PromptTable
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export.background import background_of, base_pictures, calibrate
from sp_edge_export.probe import probe_pictures


class Material(Protocol):
    """Pictures first; the rest is asked for once the graphs have passed."""

    @property
    def origin(self) -> str:
        """Of the pictures that the network has learned from, in words, for the card."""

    @property
    def pictures(self) -> PictureSet:
        """On which the stages are compared. The prompt table knows their classes."""

    @property
    def background(self) -> Background:
        """What features of many pictures are like."""

    def calibration(self, prompts: PromptTable) -> Calibration:
        """The probability that a picture shows a taught class."""


class OfDataSet:
    """What a trained checkpoint makes of its own data set."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def origin(self) -> str:
        """The data set, and how many of its classes."""
        base = len(self._checkpoint.classes.get("train", ()))
        return f"{self._checkpoint.settings.data.source}, {base} base classes"

    @cached_property
    def pictures(self) -> PictureSet:
        """Of validation classes, or of base classes where there are no others."""
        return probe_pictures(self._checkpoint)

    @cached_property
    def background(self) -> Background:
        """Of base classes.

        Raises:
            ExportError: no class has two pictures.
        """
        return background_of(self._checkpoint, base_pictures(self._checkpoint))

    def calibration(self, prompts: PromptTable) -> Calibration:
        """Fitted to simulated banks of `pictures`."""
        return calibrate(self._checkpoint, self.pictures, prompts, self.background)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured before.

    Attributes:
        origin, pictures, background: as in `Material`.
        fitted: the calibration.
    """

    origin: str
    pictures: PictureSet
    background: Background
    fitted: Calibration

    def calibration(self, prompts: PromptTable) -> Calibration:
        """As it was fitted."""
        del prompts
        return self.fitted
