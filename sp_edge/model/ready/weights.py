"""The value that every source of ready-made weights gives, and the check that weights fit their network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.model.backbone import TIMM

PROMPT_LR = 5e-6  # a hundredth of the usual; see docs/measurements/training.md
SHOWN = 5  # of a list of tensors
OPEN = frozenset({"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "isc", "unlicense"})


@dataclass(frozen=True, eq=False)
class Head:
    """A classifier's weights, which are directions of named classes in feature space.

    Attributes:
        rows: float32 (n, D).
        names: n names, in the rows' order; a name may stand twice.
    """

    rows: NDArray[np.float32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or len(self.rows) != len(self.names) or not np.isfinite(self.rows).all():
            raise CheckpointError(
                "the classifier's rows cannot be used",
                expected=f"finite numbers, a row for each of {len(self.names)} names",
                got=str(self.rows.shape),
            )


@dataclass(frozen=True, eq=False)
class ReadyWeights:
    """The weights of a network without its classifier, and what must be known to use them.

    Attributes:
        model: as a user names it.
        architecture: timm's or open_clip's name of the network.
        weights: of the network without a classifier, by name.
        image_size: side of the square input, pixels.
        crop: share of the resized picture's side that the centre crop keeps, 0 to 1.
        interpolation: bilinear or bicubic: the filter that resizes.
        mean, std: of red, green and blue in 0..255.
        head: None where there is no classifier, or where nobody knows what its classes are called.
        source: where the weights come from, as a person would look for them.
        license: SPDX identifier, or another word where it is none.
        sha256: of the file that held them; empty where several did, or none is known.
        family: whose name `architecture` is, as `model.backbone` writes it.
    """

    model: str
    architecture: str
    weights: Mapping[str, Tensor]
    image_size: int
    crop: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    head: Head | None
    source: str
    license: str
    sha256: str = ""
    family: str = TIMM

    @property
    def backbone(self) -> str:
        """As `model.backbone` names the network."""
        return self.family + self.architecture

    def settings(self) -> dict[str, dict[str, Any]]:
        """Section of `Settings` -> name -> value: the network, weighed by names, how it sees pictures, and how it is tuned.

        What has seen far more photographs than the user has stays as it is: what follows the prompt's layer is tuned. And what
        many names have told is tuned in small steps: at the usual rate, what other names mean is lost.
        """
        tune: dict[str, Any] = {"cached_views": 2} if self.head is None else {"cached_views": 2, "prompt_lr": PROMPT_LR}
        return {
            "model": {
                "backbone": self.backbone,
                "image_size": self.image_size,
                "interaction": "spatial",
                "layer": "last",
                "mean": self.mean,
                "std": self.std,
            },
            "data": {"resize_ratio": 1 / self.crop, "interpolation": self.interpolation},
            "tune": tune,
        }

    def to_json(self) -> dict[str, Any]:
        """Where the weights come from, as a manifest records it."""
        return {
            "model": self.model,
            "architecture": self.architecture,
            "source": self.source,
            "license": self.license,
            "sha256": self.sha256,
        }


def check_fit(what: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Compares weights with those of the network that is to take them.

    Args:
        what: is to be said of the weights' origin.
        weights: by name.
        own: the network's, likewise.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape, or not finite; each kind is listed.
    """
    missing = [name for name in own if name not in weights]
    over = [name for name in weights if name not in own]
    shaped = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    parts = [("missing", missing), ("unknown", over), ("of another shape", shaped)]
    told = [f"{len(names)} {how}: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}" for how, names in parts if names]
    if told:
        raise CheckpointError(
            f"{what} are the weights of another network",
            expected=f"the {len(own)} tensors of this one",
            got="; ".join(told),
            next_step="name the model that they belong to",
        )
    broken = [name for name in own if not torch.isfinite(weights[name]).all()]
    if broken:
        raise CheckpointError(
            f"{what} hold numbers that are not finite",
            expected="finite numbers",
            got=f"{len(broken)} tensors with others: {', '.join(broken[:SHOWN])}{', ...' * (len(broken) > SHOWN)}",
            next_step="take another copy of the weights",
        )


def not_fetched(model: str, place: str, file: str, cause: Exception) -> CheckpointError:
    """That the hub's cache has no weights of a model, which cannot be downloaded either.

    Args:
        model: as a user names it.
        place: where its weights are published.
        file: that holds them there.
        cause: why they cannot be downloaded.
    """
    return CheckpointError(
        f"the weights of {model} are not here, and cannot be downloaded",
        expected="the hub's cache (HF_HOME), or a network connection to it",
        got=f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}",
        next_step=f"download {file} from {place} elsewhere, copy it here, and add --weights {file}",
    )


def rgb(values: tuple[float, ...]) -> tuple[float, float, float]:
    """Mean or deviation of three channels in 0..1, as models publish them, in 0..255.

    Raises:
        SettingsError: of another number of channels.
    """
    if len(values) != 3:
        raise SettingsError("the model takes no color pictures", expected="3 channels", got=str(len(values)))
    red, green, blue = (255 * float(value) for value in values)
    return red, green, blue
