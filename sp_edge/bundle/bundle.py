"""The folder that export writes and the runtime loads: graphs, prompts, golden pictures and the manifest that binds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.text import TextPart
from sp_edge.errors import BundleError, ImageError, InputError, PromptError
from sp_edge.files import inside, load_tensors, read_json, sha256, write_json
from sp_edge.matching.unknown import Calibration
from sp_edge.preprocess import Preprocess, load_image
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec

SCHEMA = 4
MANIFEST = "manifest.json"
PROMPTS = "prompts.safetensors"
GOLDEN = "golden/features.safetensors"
BACKGROUND = "background.safetensors"
FAMILIARITY = "familiarity.safetensors"
PRECISIONS = ("fp32", "fp16", "int8")
GRAPHS = ("query", "support")
INPUTS = {"query": ("image",), "support": ("image", "prompt")}
OUTPUTS = {"query": ("feature",), "support": ("feature", "plain")}
KIND = "sp-edge bundle"


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        versions: of sp-edge and of what made the graphs.
        files: name in the folder -> (sha256, bytes), of every other file.
        graphs: precision -> graph ('query', 'support') -> file name. fp32 is always there.
        precision: the one that export was asked for; the runtime's default.
        preprocess: how a picture becomes the graphs' input.
        feature_dim: D, length of a feature.
        text: how class names become prompts.
        calibration: how cosines become confidences and 'unknown'; fitted at export.
        strength: s, 0 to 1, of the prompts in the support graph, whose feature is s f(x | g(y)) + (1 - s) f(x).
        training: provenance and accuracy, as the checkpoint recorded them.
        stages: what export measured of each step against the one before.
        text_encoder: with which a device encodes names that the prompt table has not; None where it is left out.
    """

    versions: Mapping[str, str]
    files: Mapping[str, tuple[str, int]]
    graphs: Mapping[str, Mapping[str, str]]
    precision: str
    preprocess: Preprocess
    feature_dim: int
    text: TextSpec
    calibration: Calibration
    strength: float
    training: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    text_encoder: TextPart | None = None

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        size, dim = self.preprocess.image_size, self.feature_dim
        feature = {"dtype": "float32", "shape": ["N", dim]}
        forms = {
            "image": {"dtype": "uint8", "shape": ["N", size, size, 3]},
            "prompt": {"dtype": "float32", "shape": ["N", self.text.dim]},
            "feature": feature,
            "plain": feature,
        }
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "versions": dict(self.versions),
            "precision": self.precision,
            "graphs": {precision: dict(files) for precision, files in self.graphs.items()},
            "io": {
                graph: {
                    "inputs": {name: forms[name] for name in INPUTS[graph]},
                    "outputs": {name: forms[name] for name in OUTPUTS[graph]},
                }
                for graph in GRAPHS
            },
            "preprocess": self.preprocess.to_json(),
            "feature_dim": dim,
            "text": self.text.to_json(),
            "text_encoder": None if self.text_encoder is None else self.text_encoder.to_json(),
            "matching": {"strength": self.strength, "calibration": self.calibration.to_json()},
            "training": dict(self.training),
            "stages": [dict(stage) for stage in self.stages],
            "files": {name: {"sha256": digest, "bytes": size} for name, (digest, size) in self.files.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Reads `to_json`.

        Raises:
            BundleError: of another kind or schema, or a field is missing or impossible.
        """
        if value.get("kind") != KIND:
            raise BundleError("not the manifest of a bundle", expected="kind: sp-edge bundle", got=repr(value.get("kind"))[:80])
        if value.get("schema") != SCHEMA:
            raise BundleError(
                "the bundle has another schema",
                expected=str(SCHEMA),
                got=repr(value.get("schema"))[:80],
                next_step="export it again with this version of sp-edge",
            )
        try:
            manifest = cls(
                versions={str(k): str(v) for k, v in value["versions"].items()},
                files={str(k): (str(v["sha256"]), int(v["bytes"])) for k, v in value["files"].items()},
                graphs={str(p): {str(g): str(f) for g, f in files.items()} for p, files in value["graphs"].items()},
                precision=str(value["precision"]),
                preprocess=Preprocess.from_json(value["preprocess"]),
                feature_dim=int(value["feature_dim"]),
                text=TextSpec.from_json(value["text"]),
                calibration=Calibration.from_json(value["matching"]["calibration"]),
                strength=float(value["matching"]["strength"]),
                training=dict(value["training"]),
                stages=tuple(dict(stage) for stage in value["stages"]),
                text_encoder=None if value["text_encoder"] is None else TextPart.from_json(value["text_encoder"]),
            )
        except BundleError:  # says more
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, InputError) as cause:
            raise BundleError(
                "the manifest is incomplete", expected=f"schema {SCHEMA}", got=f"{type(cause).__name__}: {cause}"
            ) from cause
        manifest._check()
        io = manifest.to_json()["io"]
        if value.get("io") != io:
            raise BundleError(
                "the bundle's graphs take or give something else",
                expected=json.dumps(io),
                got=json.dumps(value.get("io"))[:500],
                next_step="export it again with this version of sp-edge",
            )
        return manifest

    def _check(self) -> None:
        if "fp32" not in self.graphs or self.precision not in self.graphs or not set(self.graphs) <= set(PRECISIONS):
            raise BundleError(
                "the manifest's precisions do not fit", expected="fp32 and the chosen one", got=str(list(self.graphs))
            )
        for precision, files in self.graphs.items():
            if set(files) != set(GRAPHS) or not set(files.values()) <= set(self.files):
                raise BundleError(
                    f"the manifest's {precision} graphs do not fit", expected=", ".join(GRAPHS), got=str(dict(files))
                )
        missing = {PROMPTS, GOLDEN, BACKGROUND, *(self.text_encoder.files if self.text_encoder else ())} - set(self.files)
        if missing:
            raise BundleError("the manifest does not list every part", expected=", ".join(sorted(missing)), got="not listed")
        if not (self.feature_dim > 0 and 0 <= self.strength <= 1):
            raise BundleError(
                "the manifest's numbers are out of range",
                expected="feature_dim > 0, strength 0 to 1",
                got=f"{self.feature_dim}, {self.strength}",
            )


@dataclass(frozen=True)
class Golden:
    """Pictures with the features that PyTorch gave for them, so that any device can check itself.

    Attributes:
        images: uint8 (n, H, W, 3) RGB, preprocessed.
        prompts: float32 (n, T).
        query: float32 (n, D), expected from the query graph.
        support: float32 (n, D), expected from the support graph, whose `plain` is to be `query`.
    """

    images: NDArray[np.uint8]
    prompts: NDArray[np.float32]
    query: NDArray[np.float32]
    support: NDArray[np.float32]


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
            )
        content = read_json(path / MANIFEST, BundleError)
        manifest = Manifest.from_json(content)
        if content.get("seal") != seal(content):
            raise BundleError("the bundle's manifest has changed", next_step="copy or export the bundle again")
        for name, (digest, size) in manifest.files.items():
            file = inside(path, name, BundleError)
            got = _entry(file)
            if got is None:
                raise BundleError(
                    f"a file of the bundle is missing or unreadable: {name}", next_step="copy or export the bundle again"
                )
            if got != (digest, size):
                raise BundleError(
                    f"a file of the bundle has changed: {name}",
                    expected=f"{size} bytes, sha256 {digest[:12]}...",
                    got=f"{got[1]} bytes, sha256 {got[0][:12]}...",
                    next_step="copy or export the bundle again",
                )
        try:
            prompts = PromptTable.load(path / PROMPTS)
        except PromptError as cause:
            raise BundleError("the bundle's prompt table cannot be used", got=str(cause)) from cause
        if prompts.text != manifest.text:
            raise BundleError("the prompt table is of another text encoder", expected=str(manifest.text), got=str(prompts.text))
        return cls(path, manifest, prompts)

    @property
    def fingerprint(self) -> str:
        """Identity of the features: bundles of the same fp32 graphs, preprocessing and text encoder share banks.

        The precision that runs does not count, so that a fleet of different devices can.
        """
        manifest = self.manifest
        parts = [manifest.files[manifest.graphs["fp32"][graph]][0] for graph in GRAPHS]
        parts += [json.dumps(what, sort_keys=True) for what in (manifest.preprocess.to_json(), manifest.text.to_json())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def graph(self, name: str, precision: str | None = None) -> Path:
        """File of a graph ('query' or 'support').

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
        return self.path / self.manifest.graphs[chosen][name]

    def background(self) -> NDArray[np.float32]:
        """How features of length one vary within base classes: their covariance, float32 (D, D).

        Raises:
            BundleError: it is not such a matrix.
        """
        tensors, _ = load_tensors(self.path / BACKGROUND, BundleError)
        dim, within = self.manifest.feature_dim, tensors.get("within")
        if within is None or within.dtype != np.float32 or within.shape != (dim, dim):
            got = "nothing" if within is None else f"{within.dtype} {within.shape}"
            raise BundleError("the bundle's background does not fit", expected=f"within, float32 ({dim}, {dim})", got=got)
        symmetric = bool(np.isfinite(within).all()) and np.allclose(within, within.T, atol=1e-6)
        variances = np.linalg.eigvalsh(within.astype(np.float64)) if symmetric else np.array([-np.inf])
        if not variances[0] >= -1e-4 * variances[-1]:  # which float32 rounding does not reach
            raise BundleError("the bundle's background is no covariance", expected="finite, symmetric, variances from 0 up")
        return within

    def familiarity(self) -> Familiarity | None:
        """How much of a prompt the model can read; None where it was trained without a text prototype, which would tell.

        Raises:
            BundleError: it cannot be used.
        """
        if FAMILIARITY not in self.manifest.files:
            return None
        try:
            found = Familiarity.load(self.path / FAMILIARITY)
        except PromptError as cause:
            raise BundleError("the bundle's familiarity cannot be used", expected=cause.expected, got=str(cause)) from cause
        if len(found.mean) != self.manifest.text.dim:
            dim = self.manifest.text.dim
            raise BundleError("the bundle's familiarity does not fit", expected=f"of {dim} numbers", got=str(len(found.mean)))
        return found

    def golden(self) -> Golden:
        """The golden pictures, read from their PNG files, with their expected features.

        Raises:
            BundleError: a part is missing or of the wrong shape.
        """
        tensors, metadata = load_tensors(self.path / GOLDEN, BundleError)
        try:
            images = np.stack([load_image(inside(self.path, name, BundleError)) for name in metadata["images"]])
            golden = Golden(images, tensors["prompts"], tensors["query"], tensors["support"])
        except (KeyError, TypeError, ValueError, ImageError) as cause:
            raise BundleError("the golden pictures do not fit together", got=f"{type(cause).__name__}: {cause}") from cause
        count, side, dim = len(images), self.manifest.preprocess.image_size, self.manifest.feature_dim
        shapes = {"images": (side, side, 3), "prompts": (self.manifest.text.dim,), "query": (dim,), "support": (dim,)}
        for part, shape in shapes.items():
            got = getattr(golden, part).shape
            if got != (count, *shape):
                raise BundleError(f"the golden {part} do not fit", expected=str((count, *shape)), got=str(got))
        return golden


def is_bundle(folder: Path) -> bool:
    """Whether a folder's manifest says that it is a bundle, whole or not."""
    try:
        return read_json(folder / MANIFEST, BundleError).get("kind") == KIND
    except BundleError:
        return False


def file_entries(folder: Path) -> dict[str, tuple[str, int]]:
    """Name, digest and size of every file below a folder but the manifest, for the manifest."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    return {p.relative_to(folder).as_posix(): (sha256(p), p.stat().st_size) for p in files}


def _entry(file: Path) -> tuple[str, int] | None:
    """Digest and size of a file, or None where none can be read."""
    try:
        return (sha256(file), file.stat().st_size) if file.is_file() else None
    except OSError:
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest; the last step of building a bundle."""
    content = manifest.to_json()
    write_json(folder / MANIFEST, {**content, "seal": seal(content)})


def seal(content: Mapping[str, Any]) -> str:
    """Digest of a manifest's content, so that a change in the manifest itself is noticed, too."""
    kept = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
