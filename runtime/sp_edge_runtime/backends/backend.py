"""What a recognizer needs of an inference engine, and what every engine checks in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle, Golden
from sp_edge.errors import BackendError
from sp_edge.matching.decide import row_cosines
from sp_edge.precisions import PRECISIONS

Forms = Mapping[str, Mapping[str, Any]]  # tensor -> `dtype` and `shape`, as the manifest has them

_Self = TypeVar("_Self", bound="Backend")


class UnfitError(BackendError):
    """An engine that is not for this bundle or this machine, however often it is tried."""


class Backend(Protocol):
    """Runs a bundle's graphs on this machine. Several threads may call it at once; `close` gives its memory back.

    Attributes:
        why: the reason for this engine, where the user left the choice.
    """

    why: str = ""

    @property
    def title(self) -> str:
        """Engine, device and precision: 'ONNX Runtime 1.32 on CPU, fp32'."""
        ...

    @property
    def description(self) -> str:
        """For the user: the title, and why where there is a reason to give."""
        return f"{self.title} ({self.why})" if self.why else self.title

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs one graph.

        Args:
            graph: 'query' (input `image`) or 'support' (inputs `image` and `prompt`).
            inputs: `image` uint8 (N, H, W, 3) RGB, `prompt` float32 (N, T); N is 1 or more. They are only read.

        Returns:
            `feature` float32 (N, D), raw; of 'support', whose feature is the prompted one, also `plain` float32 (N, D), what
            the query graph gives. The caller owns them.

        Raises:
            BackendError: the inputs do not fit, the backend was closed, or the engine failed.
        """
        ...

    def close(self) -> None:
        """Gives the engine's memory back; a second call does nothing."""
        ...

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class GraphIO:
    """What a bundle's graphs take and give; checks what goes in, since engines differ in what they would let pass.

    Args:
        bundle: whose manifest says it.

    Attributes:
        inputs, outputs: graph -> name -> form, with `dtype` and `shape` as the manifest has them.
    """

    def __init__(self, bundle: Bundle) -> None:
        io: Mapping[str, Mapping[str, Forms]] = bundle.manifest.to_json()["io"]
        self.inputs = {graph: both["inputs"] for graph, both in io.items()}
        self.outputs = {graph: both["outputs"] for graph, both in io.items()}
        self._wanted = {
            graph: {name: (form["dtype"], tuple(form["shape"][1:])) for name, form in forms.items()}
            for graph, forms in self.inputs.items()
        }

    def check(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The inputs in memory that an engine can read as it stands: C order, copied only where they were not.

        Raises:
            BackendError: no such graph, or a name, dtype or shape is another than the manifest's; N differs or is 0.
        """
        wanted = self._wanted.get(graph)
        if wanted is None:
            raise BackendError("no such graph", expected=" or ".join(self._wanted), got=graph)
        found = {name: (value.dtype.name, value.shape[1:]) for name, value in inputs.items()}
        counts = {value.shape[:1] for value in inputs.values()}
        if found != wanted or len(counts) != 1 or 0 in next(iter(counts)):
            raise BackendError(
                f"the inputs do not fit the {graph} graph",
                expected=", ".join(f"{name} {dtype} {('N', *rest)}".replace("'", "") for name, (dtype, rest) in wanted.items())
                + ", N at least 1",
                got=", ".join(f"{name} {value.dtype} {value.shape}" for name, value in inputs.items()) or "nothing",
            )
        return {name: np.ascontiguousarray(value) for name, value in inputs.items()}


def least_cosine(backend: Backend, golden: Golden) -> float:
    """Least cosine between a backend's features of the golden pictures, all outputs, and the expected ones; NaN if any is.

    The pictures are run together, and one of them twice alone, as a camera's frames are: engines have other code for one
    picture, and for the runs after the first.
    """
    features, expected = [], []
    for count in (len(golden.images), 1, 1):
        images, prompts = golden.images[:count], golden.prompts[:count]
        query = backend.run("query", {"image": images})
        support = backend.run("support", {"image": images, "prompt": prompts})
        features += [query["feature"], support["feature"], support["plain"]]
        expected += [golden.query[:count], golden.support[:count], golden.query[:count]]
    return float(row_cosines(np.concatenate(features), np.concatenate(expected)).min())


def check_golden(backend: Backend, bundle: Bundle, precision: str, *, next_step: str) -> float:
    """Lets a backend pass only if it gives the golden pictures the features that export recorded.

    Returns:
        The least cosine.

    Raises:
        UnfitError: it is below the precision's `cosine_min`, to which export holds its graphs, too.
    """
    least = least_cosine(backend, bundle.golden())
    if not least >= PRECISIONS[precision].cosine_min:  # so that NaN does not pass
        raise UnfitError(
            f"{backend.title} computes wrong features (cosine {least:.4f} on the bundle's golden pictures)",
            expected=f"cosine at least {PRECISIONS[precision].cosine_min}",
            got=f"{least:.6f}",
            next_step=next_step,
        )
    return least
