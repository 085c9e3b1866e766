"""A backend that gives what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from sp_edge.bundle.manifest import OUTPUTS


class FakeBackend:
    """Answers with given features, and can be made to wait."""

    description = "fake"

    def __init__(self, feature: np.ndarray, plain: np.ndarray | None = None) -> None:
        self.outputs = {"feature": feature, "plain": feature if plain is None else plain}
        self.runs: list[tuple[str, int]] = []
        self.asked, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.closed = False

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.asked.set()
        assert self.go.wait(30)
        self.runs.append((graph, len(inputs["image"])))
        return {name: self.outputs[name] for name in (*OUTPUTS[graph], *sorted({"scores"} & set(self.outputs)))}

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeBackend:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
