"""Turns prepared pictures into features that can be used, through a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS, SCORES
from sp_edge.errors import BackendError
from sp_edge_runtime.backends.backend import Backend

SHOTS = 8  # encoded at once: enrolling a large folder must not take a small board's memory
QUERIES = 32  # recognized at once


@dataclass(frozen=True, eq=False)
class Shots:
    """What the support graph gives of a class's K shots.

    Attributes:
        support: float32 (K, D), raw, with the prompt.
        query: float32 (K, D), raw, without it.
        scores: float32 (K, h, w), how much more each place looks like the name than places usually do, in standard
            deviations; None where the network does not tell.
    """

    support: NDArray[np.float32]
    query: NDArray[np.float32]
    scores: NDArray[np.float32] | None = None


class Features:
    """A bundle's two graphs.

    Args:
        bundle: the exported model.
        backend: what runs its graphs; it belongs to the caller.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        self._forms: dict[str, dict[str, tuple[int, ...]]] = {
            graph: dict.fromkeys(manifest.outputs(graph), (manifest.feature_dim,)) for graph in GRAPHS
        }
        if manifest.scores is not None:
            self._forms["support"][SCORES] = manifest.scores
        self._backend = backend

    def queries(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features of pictures to be recognized: N of uint8 (S, S, 3) RGB, as `Preprocess` gives them -> float32 (N, D).

        Raises:
            BackendError: the inference engine failed, or its features cannot be used.
        """
        batches = [prepared[i : i + QUERIES] for i in range(0, len(prepared), QUERIES)]
        return np.concatenate([self._run("query", {"image": np.stack(batch)})["feature"] for batch in batches])

    def shots(self, prepared: NDArray[np.uint8], prompt: NDArray[np.float32]) -> Shots:
        """Encodes a class's shots: uint8 (K, S, S, 3) RGB, float32 (T,).

        Raises:
            BackendError: the inference engine failed, or its features cannot be used.
        """
        batches = [prepared[i : i + SHOTS] for i in range(0, len(prepared), SHOTS)]
        made = [self._run("support", {"image": batch, "prompt": np.tile(prompt, (len(batch), 1))}) for batch in batches]
        support, query, *scores = (np.concatenate([one[name] for one in made]) for name in self._forms["support"])
        return Shots(support, query, *scores)

    def _run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        outputs = self._backend.run(graph, inputs)
        for name, form in self._forms[graph].items():
            found, expected = outputs[name], (len(inputs["image"]), *form)
            if found.shape != expected or not np.isfinite(found).all():
                raise BackendError(
                    f"the {graph} graph gave {'scores' if name == SCORES else 'features'} that cannot be used",
                    expected=f"finite float32 {expected}",
                    got=f"{found.dtype} {found.shape}" + ("" if np.isfinite(found).all() else ", not all finite"),
                    next_step="--precision fp32, and sp-edge verify to find the stage that broke",
                )
        return outputs
