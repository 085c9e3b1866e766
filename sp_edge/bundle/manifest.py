"""What a bundle's `manifest.json` says, sealed against changes.

A key that this version does not know is left alone, so that later versions may add notes; what would change the meaning of the
others raises the schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sp_edge.bundle.text import TextPart
from sp_edge.errors import BundleError, InputError
from sp_edge.files import read_json, sha256, write_json
from sp_edge.matching.unknown import Calibration
from sp_edge.precisions import EXPORTED
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.table import TextSpec

SCHEMA = 5
MANIFEST = "manifest.json"
PROMPTS = "prompts.safetensors"
GOLDEN = "golden/features.safetensors"
BACKGROUND = "background.safetensors"
FAMILIARITY = "familiarity.safetensors"
NAMES = "names.safetensors"
GRAPHS = ("query", "support")
_AGAIN = "export it again with this version of sp-edge"
INPUTS = {"query": ("image",), "support": ("image", "prompt")}
OUTPUTS = {"query": ("feature",), "support": ("feature", "plain")}
SCORES = "scores"  # a third output of some support graphs
KIND = "sp-edge bundle"


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        versions: of sp-edge and of what made the graphs.
        files: name in the folder -> (sha256, bytes), of every other file.
        graphs: precision -> graph ('query', 'support') -> file name. fp32 is always there.
        cpu_graphs: the same of precisions that have another form for CPUs, such as int8, whose graphs in `graphs` are for GPUs.
        precision: the one that export was asked for; the runtime's default.
        preprocess: how a picture becomes the graphs' input.
        feature_dim: D, length of a feature.
        text: how class names become prompts.
        calibration: how cosines become confidences and 'unknown'; fitted at export.
        mirrored: whether training mirrored pictures, so that a mirrored view of a shot is a view of the same thing.
        strength: s, 0 to 1, of the prompts in the support graph, whose feature is s f(x | g(y)) + (1 - s) f(x).
        training: provenance and accuracy, as the checkpoint recorded them.
        stages: what export measured of each step against the one before.
        scores: (h, w), the grid of places that the support graph scores for the name in its output `scores`; None where the
            network does not.
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
    mirrored: bool
    strength: float
    training: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    text_encoder: TextPart | None = None
    scores: tuple[int, int] | None = None
    cpu_graphs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def outputs(self, graph: str) -> tuple[str, ...]:
        """What a graph gives, by name, in its order."""
        return OUTPUTS[graph] + ((SCORES,) if graph == "support" and self.scores is not None else ())

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
        if self.scores is not None:
            forms[SCORES] = {"dtype": "float32", "shape": ["N", *self.scores]}
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "versions": dict(self.versions),
            "precision": self.precision,
            "graphs": _plain(self.graphs),
            **({"cpu_graphs": _plain(self.cpu_graphs)} if self.cpu_graphs else {}),
            "io": {
                graph: {
                    "inputs": {name: forms[name] for name in INPUTS[graph]},
                    "outputs": {name: forms[name] for name in self.outputs(graph)},
                }
                for graph in GRAPHS
            },
            "preprocess": self.preprocess.to_json(),
            "feature_dim": dim,
            "scores": None if self.scores is None else list(self.scores),
            "text": self.text.to_json(),
            "text_encoder": None if self.text_encoder is None else self.text_encoder.to_json(),
            "mirrored": self.mirrored,
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
        schema = value.get("schema")
        if schema != SCHEMA:
            later = isinstance(schema, int) and schema > SCHEMA
            raise BundleError(
                "the bundle has another schema",
                expected=str(SCHEMA),
                got=repr(schema)[:80],
                next_step="update sp-edge: a later version wrote it" if later else _AGAIN,
            )
        try:
            manifest = cls(
                versions={str(k): str(v) for k, v in value["versions"].items()},
                files={str(k): (str(v["sha256"]), int(v["bytes"])) for k, v in value["files"].items()},
                graphs=_graphs(value["graphs"]),
                precision=str(value["precision"]),
                preprocess=Preprocess.from_json(value["preprocess"]),
                feature_dim=int(value["feature_dim"]),
                text=TextSpec.from_json(value["text"]),
                calibration=Calibration.from_json(value["matching"]["calibration"]),
                mirrored=value["mirrored"],
                strength=float(value["matching"]["strength"]),
                training=dict(value["training"]),
                stages=tuple(dict(stage) for stage in value["stages"]),
                text_encoder=None if value["text_encoder"] is None else TextPart.from_json(value["text_encoder"]),
                scores=_grid(value.get("scores")),
                cpu_graphs=_graphs(value.get("cpu_graphs", {})),
            )
        except BundleError:  # says more
            raise
        except KeyError as cause:
            raise BundleError(
                "the manifest is incomplete", expected=f"the field {cause}", got="none", next_step=_AGAIN
            ) from cause
        except (TypeError, ValueError, AttributeError, OverflowError, InputError) as cause:
            raise BundleError(
                "the manifest holds a field that cannot be one",
                expected=f"the fields of schema {SCHEMA}",
                got=f"{type(cause).__name__}: {cause}",
                next_step=_AGAIN,
            ) from cause
        manifest._check()
        io = manifest.to_json()["io"]
        if not _says(value.get("io"), io):
            raise BundleError(
                "the bundle's graphs take or give something else",
                expected=json.dumps(io),
                got=json.dumps(value.get("io"))[:500],
                next_step=_AGAIN,
            )
        return manifest

    def _check(self) -> None:
        known = set(self.cpu_graphs) <= set(self.graphs) <= set(EXPORTED)
        if "fp32" not in self.graphs or self.precision not in self.graphs or not known:
            raise BundleError(
                "the manifest's precisions do not fit",
                expected="fp32 and the chosen one",
                got=str(list(self.graphs)),
                next_step=_AGAIN,
            )
        for precision, files in (*self.graphs.items(), *self.cpu_graphs.items()):
            if set(files) != set(GRAPHS) or not set(files.values()) <= set(self.files):
                raise BundleError(
                    f"the manifest's {precision} graphs do not fit",
                    expected=", ".join(GRAPHS),
                    got=str(dict(files)),
                    next_step=_AGAIN,
                )
        missing = {PROMPTS, GOLDEN, BACKGROUND, *(self.text_encoder.files if self.text_encoder else ())} - set(self.files)
        if missing:
            raise BundleError(
                "the manifest does not list every part",
                expected=", ".join(sorted(missing)),
                got="not listed",
                next_step=_AGAIN,
            )
        if not isinstance(self.mirrored, bool):
            raise BundleError(
                "the manifest does not say whether a view may be mirrored",
                expected="mirrored: true or false",
                got=repr(self.mirrored)[:80],
                next_step=_AGAIN,
            )
        if self.scores is not None and min(self.scores) < 1:
            raise BundleError(
                "the manifest's grid of places cannot be one",
                expected="two positive numbers",
                got=str(self.scores),
                next_step=_AGAIN,
            )
        if not (self.feature_dim > 0 and 0 <= self.strength <= 1):
            raise BundleError(
                "the manifest's numbers are out of range",
                expected="feature_dim > 0, strength 0 to 1",
                got=f"{self.feature_dim}, {self.strength}",
                next_step=_AGAIN,
            )


def _graphs(value: Any) -> dict[str, dict[str, str]]:
    return {str(precision): {str(graph): str(file) for graph, file in files.items()} for precision, files in value.items()}


def _plain(graphs: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {precision: dict(files) for precision, files in graphs.items()}


def _grid(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = value
    return int(height), int(width)


def _says(value: object, expected: object) -> bool:
    """Whether JSON holds all that is expected; its objects may have further keys."""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(_says(value.get(key), wanted) for key, wanted in expected.items())
    return value == expected


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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest; the last step of building a bundle."""
    content = manifest.to_json()
    write_json(folder / MANIFEST, {**content, "seal": seal(content)})


def seal(content: Mapping[str, Any]) -> str:
    """Digest of a manifest's content, so that a change in the manifest itself is noticed, too."""
    kept = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
