"""The folder that export writes and the runtime loads: graphs, prompts and golden pictures, bound by their manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.identity import graph_digest
from sp_edge.bundle.manifest import BACKGROUND, FAMILIARITY, GOLDEN, GRAPHS, MANIFEST, NAMES, PROMPTS, SCORES, Manifest, seal
from sp_edge.errors import BundleError, ImageError, PromptError
from sp_edge.files import inside, read_json, sha256
from sp_edge.matching.metric import Background
from sp_edge.pictures import load_image
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable
from sp_edge.prompts.text_prototype import TextPrototype
from sp_edge.tensors import read_tensors

Found = TypeVar("Found")
_AGAIN = "copy or export the bundle again"


@dataclass(frozen=True, eq=False)
class Golden:
    """Pictures with the features that PyTorch gave for them, so that any device can check itself.

    Attributes:
        images: uint8 (n, H, W, 3) RGB, preprocessed.
        prompts: float32 (n, T).
        query: float32 (n, D), expected from the query graph.
        support: float32 (n, D), expected from the support graph, whose `plain` is to be `query`.
        scores: float32 (n, h, w), expected of the places; None where the network scores none.
    """

    images: NDArray[np.uint8]
    prompts: NDArray[np.float32]
    query: NDArray[np.float32]
    support: NDArray[np.float32]
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Bundle:
    """An exported model, checked."""

    path: Path
    manifest: Manifest
    prompts: PromptTable

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Opens a bundle and checks every file against the manifest.

        Raises:
            BundleError: not a bundle, of another schema, or a file is missing or changed. Files that the manifest does not
                list, such as engines built for this device, are left alone and never read.
        """
        if not path.is_dir():
            raise BundleError(
                f"no bundle at {path}",
                expected="the folder that `sp-edge export` wrote",
                got="a file" if path.exists() else "nothing",
                next_step="sp-edge export makes one of a checkpoint",
            )
        content = read_json(path / MANIFEST, BundleError)
        manifest = Manifest.from_json(content)
        if content.get("seal") != seal(content):
            raise BundleError("the bundle's manifest has changed", next_step=_AGAIN)
        for name, entry in manifest.files.items():
            _check(name, entry, _entry(inside(path, name, BundleError)))
        try:
            prompts = PromptTable.read(_read(path, manifest, PROMPTS), PROMPTS)
        except PromptError as cause:
            raise BundleError("the bundle's prompt table cannot be used", got=str(cause), next_step=_AGAIN) from cause
        if prompts.text != manifest.text:
            raise BundleError(
                "the prompt table is of another text encoder",
                expected=str(manifest.text),
                got=str(prompts.text),
                next_step=_AGAIN,
            )
        return cls(path, manifest, prompts)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the features: bundles whose fp32 graphs compute the same (`identity.graph_digest`), from pictures that
        are prepared alike and texts that are encoded alike, share banks.

        The precision that runs does not count, so that a fleet of different devices can. It is computed when first asked for.

        Raises:
            BundleError: a graph has changed, or cannot be read.
        """
        manifest = self.manifest
        parts = [self._graph_digest(graph) for graph in GRAPHS]
        parts += [json.dumps(what, sort_keys=True) for what in (manifest.preprocess.to_json(), manifest.text.to_json())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _graph_digest(self, graph: str) -> str:
        name = self.manifest.graphs["fp32"][graph]
        try:
            return graph_digest(self.read(name))
        except ValueError as cause:
            raise BundleError(f"cannot read {name}", expected="an ONNX file", got=str(cause), next_step=_AGAIN) from cause

    def read(self, name: str) -> bytes:
        """The content of a file that the manifest lists, read once and checked: these very bytes are the exported ones.

        Raises:
            BundleError: it is not listed, cannot be read, or has changed since, as where the bundle was exported anew.
        """
        return _read(self.path, self.manifest, name)

    def graph(self, name: str, precision: str | None = None, *, for_cpu: bool = False) -> Path:
        """File of a graph; what opens it takes `read_graph`.

        Args:
            name: 'query' or 'support'.
            precision: the bundle's own by default.
            for_cpu: take the form for CPUs, where the bundle has one of that precision.

        Raises:
            BundleError: the bundle was not exported in that precision.
        """
        chosen = precision or self.manifest.precision
        if chosen not in self.manifest.graphs:
            raise BundleError(
                f"the bundle has no {chosen} graphs",
                expected=" or ".join(self.manifest.graphs),
                got=chosen,
                next_step=f"sp-edge export --precision {chosen}",
            )
        forms = self.manifest.cpu_graphs if for_cpu else {}
        return self.path / forms.get(chosen, self.manifest.graphs[chosen])[name]

    def read_graph(self, name: str, precision: str | None = None, *, for_cpu: bool = False) -> bytes:
        """Content of a graph, as `read` gives it; see `graph`.

        Raises:
            BundleError: the bundle was not exported in that precision, or the file has changed since.
        """
        return self.read(self.graph(name, precision, for_cpu=for_cpu).relative_to(self.path).as_posix())

    def background(self) -> Background:
        """What features of base classes are like.

        Raises:
            BundleError: they have no such mean and covariance.
        """
        tensors, _ = read_tensors(self.read(BACKGROUND), BACKGROUND, BundleError)
        dim = self.manifest.feature_dim
        for name, shape in (("mean", (dim,)), ("within", (dim, dim))):
            found = tensors.get(name)
            if found is None or found.dtype != np.float32 or found.shape != shape:
                got = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise BundleError(
                    "the bundle's background does not fit",
                    expected=f"{name}, float32 {shape}",
                    got=got,
                    next_step="export it again with this version of sp-edge",
                )
        mean, within = tensors["mean"], tensors["within"]
        if not np.linalg.norm(mean.astype(np.float64)) <= 1.001:  # NaN is not
            raise BundleError(
                "the bundle's background has no mean of features of length one",
                expected="a length of at most 1",
                next_step=_AGAIN,
            )
        background = Background(mean, within)
        if not _may_be_covariance(within) or not background.whitens:
            raise BundleError(
                "the bundle's background is no covariance", expected="finite, symmetric, variances from 0 up", next_step=_AGAIN
            )
        return background

    def familiarity(self) -> Familiarity | None:
        """How much of a prompt the model can read; None where it was trained without a text prototype, which would tell.

        Raises:
            BundleError: it cannot be used.
        """
        found = self._of_prompts(FAMILIARITY, "familiarity", Familiarity.read)
        if found is None:
            return None
        if len(found.mean) != self.manifest.text.dim:
            dim = self.manifest.text.dim
            raise BundleError(
                "the bundle's familiarity does not fit",
                expected=f"of {dim} numbers",
                got=str(len(found.mean)),
                next_step=_AGAIN,
            )
        return found

    def text_prototype(self) -> TextPrototype | None:
        """What a class's prompt alone says of its feature; None where the network has no such thing.

        Raises:
            BundleError: it cannot be used.
        """
        found = self._of_prompts(NAMES, "text prototype", TextPrototype.read)
        if found is None:
            return None
        expected, got = (self.manifest.feature_dim, self.manifest.text.dim), (found.feature_dim, found.text_dim)
        if got != expected:
            raise BundleError(
                "the bundle's text prototype does not fit", expected=f"(D, T) = {expected}", got=str(got), next_step=_AGAIN
            )
        return found

    def _of_prompts(self, name: str, what: str, read: Callable[[bytes, str], Found]) -> Found | None:
        """A function of prompts in a file of its own; None where the manifest lists no such file."""
        if name not in self.manifest.files:
            return None
        try:
            return read(self.read(name), name)
        except PromptError as cause:
            raise BundleError(
                f"the bundle's {what} cannot be used", expected=cause.expected, got=str(cause), next_step=_AGAIN
            ) from cause

    def golden(self) -> Golden:
        """The golden pictures, read from their PNG files, with their expected features.

        Raises:
            BundleError: a part is missing or of the wrong shape.
        """
        tensors, metadata = read_tensors(self.read(GOLDEN), GOLDEN, BundleError)
        try:
            images = np.stack([load_image(self.read(name)) for name in metadata["images"]])
            golden = Golden(images, tensors["prompts"], tensors["query"], tensors["support"], tensors.get(SCORES))
        except (KeyError, TypeError, ValueError, ImageError) as cause:
            raise BundleError(
                "the golden pictures do not fit together", got=f"{type(cause).__name__}: {cause}", next_step=_AGAIN
            ) from cause
        count, side, dim = len(images), self.manifest.preprocess.image_size, self.manifest.feature_dim
        shapes = {"images": (side, side, 3), "prompts": (self.manifest.text.dim,), "query": (dim,), "support": (dim,)}
        if self.manifest.scores is not None:
            shapes[SCORES] = self.manifest.scores
        for part, shape in shapes.items():
            got = np.shape(getattr(golden, part))
            if got != (count, *shape):
                raise BundleError(
                    f"the golden {part} do not fit", expected=str((count, *shape)), got=str(got), next_step=_AGAIN
                )
        return golden


def _read(folder: Path, manifest: Manifest, name: str) -> bytes:
    if name not in manifest.files:
        raise BundleError("the manifest does not list this file", expected=", ".join(manifest.files), got=repr(name)[:80])
    file, expected = inside(folder, name, BundleError), manifest.files[name]
    try:
        with file.open("rb") as opened:
            content = opened.read(expected[1] + 1)  # no more than tells that it is longer
    except OSError as cause:
        raise _missing(name) from cause
    _check(name, expected, (hashlib.sha256(content).hexdigest(), len(content)))
    return content


def _missing(name: str) -> BundleError:
    return BundleError(f"a file of the bundle is missing or unreadable: {name}", next_step=_AGAIN)


def _check(name: str, expected: tuple[str, int], got: tuple[str, int] | None) -> None:
    if got is None:
        raise _missing(name)
    if got != expected:
        raise BundleError(
            f"a file of the bundle has changed: {name}",
            expected=f"{expected[1]} bytes, sha256 {expected[0][:12]}...",
            got=f"{got[1]} bytes, sha256 {got[0][:12]}...",
            next_step=_AGAIN,
        )


def _entry(file: Path) -> tuple[str, int] | None:
    """Digest and size of a file, or None where none can be read."""
    try:
        return (sha256(file), file.stat().st_size) if file.is_file() else None
    except OSError:
        return None


def _may_be_covariance(matrix: NDArray[np.float32]) -> bool:
    """Whether a matrix is finite and symmetric, and no covariance is larger than its two variances allow, but for rounding."""
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, atol=1e-6):
        return False
    spreads = np.sqrt(np.maximum(matrix.diagonal(), 0))
    return bool((np.abs(matrix) <= np.outer(spreads, spreads) * 1.001 + 1e-4 * spreads.max() ** 2 + 1e-9).all())
