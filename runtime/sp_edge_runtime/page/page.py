"""What the page's requests share: the recognizer, what is watched, the gate before the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sp_edge.errors import PromptError
from sp_edge.prompts.familiarity import LITTLE
from sp_edge_runtime.page import models
from sp_edge_runtime.page.edits import shot_id
from sp_edge_runtime.page.gate import Gate
from sp_edge_runtime.page.regions import Regions
from sp_edge_runtime.page.watch import Watch, Watched
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.harvest import Harvest
from sp_edge_runtime.streams.result import Sink


@dataclass(eq=False)
class Page:
    """The recognizer and those who look.

    Attributes:
        recognizer: that the stream uses, and that is taught.
        watch: what the stream shows.
        regions: what is looked at of each source.
        model: the bundle's name.
        token: that a request must bring; None where none is asked for.
        secure: whether the page is served over TLS.
        gate: before the network.
        closing: whether the server is about to stop.
        harvest: frames that are worth a look.
        sinks: where results go besides.
    """

    recognizer: Recognizer
    watch: Watch
    regions: Regions
    model: str
    token: str | None = None
    secure: bool = False
    gate: Gate = field(init=False)
    closing: bool = False
    harvest: Harvest = field(default_factory=Harvest)
    sinks: Sequence[Sink] = ()

    def __post_init__(self) -> None:
        self.gate = Gate(lambda: self.watch.busy() if self.watch.running() else None)
        self._ids: tuple[int, dict[str, bytes]] = (-1, {})

    @property
    def served(self) -> str:
        """What programs call the model."""
        return self.model.removesuffix(".spedge") or "sp-edge"

    def shots(self) -> dict[str, bytes]:
        """Id -> JPEG of every shot of the bank."""
        bank = self.recognizer.bank
        if self._ids[0] != bank.version:
            self._ids = (bank.version, {shot_id(crop): crop for crop in bank.crops if crop})
        return self._ids[1]

    def sources(self) -> list[models.SourceState]:
        """Each source as it is now."""
        return [self._source(number, one) for number, one in self.watch.sources.items()]

    def _source(self, number: int, one: Watched) -> models.SourceState:
        region, newest = one.part.region, one.newest
        return models.SourceState(
            id=number, of=one.of, name=one.shown, fixed=self.regions.fixed(number), live=one.live,
            state=one.state.value, reason=one.reason, stale=one.stale, fps=one.fps, frames=one.number,
            region=None if region is None else str(region),
            size=None if newest is None else newest.frame.image_rgb.shape[1::-1],
        )  # fmt: skip

    def classes(self) -> list[models.ClassState]:
        """Each class of the bank, those that tell what is no class among them."""
        bank, thresholds = self.recognizer.bank, self.recognizer.head.thresholds
        ids: list[list[models.Shot]] = [[] for _ in bank.names]
        for owner, crop in zip(bank.owners.tolist(), bank.crops, strict=True):
            if crop:
                ids[owner].append(models.Shot(id=shot_id(crop)))
        return [
            models.ClassState(
                name=name,
                by_name=bool(bank.by_name[row]),
                told_from=bank.rejects.get(name),
                threshold=None if math.isnan(bank.thresholds[row]) else float(bank.thresholds[row]),
                believed_from=float(thresholds[row]) if row < len(thresholds) else 0.0,
                strength=float(bank.strengths[row]),
                shots=ids[row],
            )
            for row, name in enumerate(bank.names)
        ]

    def state(self) -> models.PageState:
        """All of it."""
        manifest = self.recognizer.bundle.manifest
        return models.PageState(
            model=self.model,
            device=self.recognizer.backend.description,
            sources=self.sources(),
            classes=self.classes(),
            bank_version=self.recognizer.bank.version,
            names_alone=self.recognizer.names_alone,
            shows_names=manifest.scores is not None,
            recent=len(self.harvest.kept),
            failure=self.watch.failure,
        )

    def health(self) -> models.Health:
        """Whether every source does what it should; of no source, whether the page does."""
        states = ["stale" if one.stale else one.state.value for one in self.watch.sources.values()]
        healthy = not self.watch.failure and all(one.healthy for one in self.watch.sources.values())
        return models.Health(healthy=healthy, sources=states)

    def name(self, name: str) -> models.NameKnown:
        """What the model makes of a name.

        Raises:
            PromptError: it is no name.
            BusyError: the stream leaves no time for it now.
        """
        clean = self.recognizer.bank.spelling(name)
        taught = clean in self.recognizer.bank.classes
        with self.gate.recognizing():
            try:
                prompt = self.recognizer.prompt(clean)
            except PromptError:
                return models.NameKnown(name=clean, taught=taught, readable=False, encodable=False)
            readable = not prompt.reading.unreadable and self.recognizer.familiarity(prompt.vector) >= LITTLE
        return models.NameKnown(name=clean, taught=taught, readable=readable, encodable=True)
