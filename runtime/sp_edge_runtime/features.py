"""Turns prepared pictures into features that can be used, through a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import OUTPUTS
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.backend import Backend

SHOTS = 8  # encoded at once: enrolling a large folder must not take a small board's memory
QUERIES = 32  # recognized at once


class Features:
    """A bundle's two graphs.

    Args:
        bundle: the exported model.
        backend: what runs its graphs; it belongs to the caller.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self._dim = bundle.manifest.feature_dim
        self._backend = backend

    def queries(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features of pictures to be recognized: N of uint8 (S, S, 3) RGB, as `Preprocess` gives them -> float32 (N, D).

        Raises:
            BackendError: the inference engine failed, or its features cannot be used.
        """
        batches = [prepared[i : i + QUERIES] for i in range(0, len(prepared), QUERIES)]
        return np.concatenate([self._run("query", {"image": np.stack(batch)})["feature"] for batch in batches])

    def shots(
        self, prepared: NDArray[np.uint8], prompt: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features of a class's shots: uint8 (K, S, S, 3) RGB, float32 (T,) -> float32 (K, D) with the prompt, and without.

        Raises:
            BackendError: the inference engine failed, or its features cannot be used.
        """
        batches = [prepared[i : i + SHOTS] for i in range(0, len(prepared), SHOTS)]
        made = [self._run("support", {"image": batch, "prompt": np.tile(prompt, (len(batch), 1))}) for batch in batches]
        return np.concatenate([one["feature"] for one in made]), np.concatenate([one["plain"] for one in made])

    def _run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs = self._backend.run(graph, inputs)
        expected = (len(inputs["image"]), self._dim)
        for features in (outputs[name] for name in OUTPUTS[graph]):
            if features.shape != expected or not np.isfinite(features).all():
                raise BackendError(
                    f"the {graph} graph gave features that cannot be used",
                    expected=f"finite float32 {expected}",
                    got=f"{features.dtype} {features.shape}" + ("" if np.isfinite(features).all() else ", not all finite"),
                    next_step="--precision fp32, and sp-edge verify to find the stage that broke",
                )
        return outputs
