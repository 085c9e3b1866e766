"""Semantic Prompt as a method of easyfsl: a `FewShotClassifier` whose support pictures are encoded with class names.

    model = SemanticPromptNetworks.load("runs/1/checkpoint.safetensors")
    model.process_support_set(images, labels, class_names=["unicycle", "tandem"])
    scores = model(queries)

easyfsl's own `evaluate(model, loader)` hands a method no names; wrap the loader in `NamedEpisodes`, and it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from sp_edge.data.sets import preprocess_of
from sp_edge.errors import DataError, MissingExtraError
from sp_edge.matching.decide import share
from sp_edge.model import PromptedNetwork
from sp_edge.model.normalization import Normalization
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.table import PromptTable
from sp_edge.training.checkpoint import Checkpoint

try:
    from easyfsl.datasets import FeaturesDataset, SupportSetFolder
    from easyfsl.methods import FewShotClassifier
    from easyfsl.methods.utils import compute_prototypes
    from easyfsl.samplers import TaskSampler as _TaskSampler
except ImportError as error:
    raise MissingExtraError("the easyfsl plug-in needs easyfsl", package="easyfsl", extra="train") from error

__all__ = ["NamedEpisodes", "SemanticPromptNetworks", "TaskSampler", "Transform"]


_NO_FEATURES = "give the data set of pictures; easyfsl's FeaturesDataset and predict_embeddings cannot carry names"
_STATE = ("prototypes", "support_features", "support_labels", "feature_centering")


class SemanticPromptNetworks(FewShotClassifier):  # type: ignore[misc]
    """Wentao Chen, Chenyang Si, Zhang Zhang, Liang Wang, Zilei Wang, Tieniu Tan.

    "Semantic Prompt for Few-Shot Image Recognition." (CVPR 2023) https://arxiv.org/abs/2303.14123

    Support pictures are encoded with the text embedding of their class's name, queries without. A class's prototype
    is the mean of its support features; a query's scores are its cosines with the prototypes. How much a name counts
    depends on the shots and on how familiar it is to the backbone. Without class names, or with a backbone that takes
    no prompt, it is a prototypical network with cosine scores.

    Args:
        backbone: a `PromptedNetwork`, or any network from images to (n, D) features.
        prompts: names and their vectors; names reach the backbone through it.
        class_names: of the next support set, label by label; can be set at any time, and passed to
            `process_support_set`, which wins.
        temperature: tau; with `use_softmax`, probabilities are softmax(cos / tau).
        use_softmax, feature_centering, feature_normalization: as in every easyfsl method.
    """

    def __init__(
        self,
        backbone: nn.Module | None = None,
        *,
        prompts: PromptTable | None = None,
        class_names: Sequence[str] | None = None,
        temperature: float = 0.2,
        use_softmax: bool = False,
        feature_centering: Tensor | None = None,
        feature_normalization: float | None = None,
    ) -> None:
        super().__init__(
            backbone,
            use_softmax=use_softmax,
            feature_centering=feature_centering,
            feature_normalization=feature_normalization,
        )
        self.prompts = prompts
        self.class_names = class_names
        self.temperature = temperature
        self.transform: Transform | None = None
        for name in _STATE:  # easyfsl's are plain attributes: as buffers they follow `.to()` and are saved
            value = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, value)

    @classmethod
    def load(cls, checkpoint: str | Path, **options: Any) -> SemanticPromptNetworks:
        """A method around the network that `sp-edge train` left, with its prompts and temperature.

        Args:
            checkpoint: the file.
            options: as the constructor's.

        Raises:
            CheckpointError: not such a file.

        Its `transform` turns a picture into what the network was trained on; hand it to the data set.
        """
        loaded = Checkpoint.load(Path(checkpoint))
        options = {"prompts": loaded.prompts, "temperature": loaded.settings.tune.temperature, **options}
        model = cls(loaded.network, **options)
        model.transform = Transform(preprocess_of(loaded.settings), loaded.network.normalise)
        return model

    def process_support_set(
        self, support_images: Tensor, support_labels: Tensor, class_names: Sequence[str] | None = None
    ) -> None:
        """Computes the prototypes.

        Args:
            support_images: (n_support, 3, H, W), normalised as the backbone was trained.
            support_labels: (n_support,) from 0 on without a gap; shots may be unbalanced.
            class_names: one a label; `self.class_names` by default; None encodes without prompts.

        Raises:
            DataError: the labels have a gap, there are not as many names as labels, or features came in place of pictures.
            PromptError: a name has no prompt.
            ValueError: the features are not one vector a picture (easyfsl's own error).
        """
        self._check_pictures(support_images)
        names = self.class_names if class_names is None else class_names
        n_way = int(support_labels.max()) + 1 if len(support_labels) else 0
        if sorted(set(support_labels.tolist())) != list(range(n_way)) or n_way == 0:
            got = str(sorted(set(support_labels.tolist())))
            raise DataError("the support labels have a gap", expected="0, 1, ... each with at least one picture", got=got)
        if names is not None and len(names) != n_way:
            raise DataError(
                "there are not as many names as classes", expected=f"{n_way} names", got=f"{len(names)}: {list(names)}"
            )
        self.support_labels = support_labels
        self.support_features = self._support_features(support_images, support_labels, names)
        self._raise_error_if_features_are_multi_dimensional(self.support_features)
        self.prototypes = compute_prototypes(self.support_features, support_labels)

    def from_folder(self, folder: SupportSetFolder) -> SemanticPromptNetworks:
        """Takes easyfsl's folder of support pictures, one sub-folder a class under its name; returns itself.

        Raises:
            DataError, PromptError, ValueError: as `process_support_set`.
        """
        self.process_support_set(folder.get_images(), folder.get_labels(), folder.classes)
        return self

    def forward(self, query_images: Tensor) -> Tensor:
        """Cosines of queries (n_query, 3, H, W) with the prototypes: (n_query, n_way), or probabilities.

        Raises:
            DataError: there is no support set yet, or features came in place of pictures.
        """
        if self.prototypes.ndim != 2:
            raise DataError("there is no support set yet", expected="process_support_set or from_folder before")
        self._check_pictures(query_images)
        features = self.compute_features(query_images)
        self._raise_error_if_features_are_multi_dimensional(features)
        cosines = self.cosine_distance_to_prototypes(features)
        scores: Tensor = self.softmax_if_specified(cosines, temperature=1 / self.temperature)
        return scores

    @staticmethod
    def is_transductive() -> bool:
        """Each query is classified on its own."""
        return False

    @property
    def _prompted(self) -> bool:
        return isinstance(self.backbone, PromptedNetwork) and self.backbone.prompt is not None

    def _check_pictures(self, images: Tensor) -> None:
        if self._prompted and images.ndim != 4:
            raise DataError(
                "Semantic Prompt encodes pictures: a support feature depends on its class's name",
                expected="pictures (n, 3, H, W)",
                got=f"{tuple(images.shape)}",
                next_step=_NO_FEATURES,
            )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Takes a support set of any size; torch would want the size of the one that is here."""
        for name in _STATE:
            if isinstance(saved := state_dict.get(prefix + name), Tensor):
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _support_features(self, images: Tensor, labels: Tensor, names: Sequence[str] | None) -> Tensor:
        if names is None or not self._prompted:
            plain: Tensor = self.compute_features(images)
            return plain
        if self.prompts is None:
            raise DataError(
                "names were given, but no prompts", expected="prompts=PromptTable", next_step="SemanticPromptNetworks.load"
            )
        prompts = self.prompts.select(list(names))
        vectors = torch.from_numpy(prompts).to(images.device)
        shots = torch.bincount(labels.long()).tolist()
        strengths = (self.backbone.strength * self.backbone.familiarity_of(prompts)).tolist()
        shares = torch.tensor([share(s, count) for s, count in zip(strengths, shots, strict=True)], device=images.device)
        of_each = labels.long()
        features: Tensor = self.backbone(images, vectors[of_each], shares[of_each, None]) - self.feature_centering
        if self.feature_normalization is not None:
            features = nn.functional.normalize(features, p=self.feature_normalization, dim=1)
        return features


class Transform:
    """A data set's `transform`: an RGB picture of Pillow's, or uint8 (H, W, 3), to the network's float32 (3, S, S)."""

    def __init__(self, preprocess: Preprocess, normalise: Normalization) -> None:
        self.preprocess, self.normalise = preprocess, normalise

    def __call__(self, picture: Any) -> Tensor:
        """Prepares one picture as evaluation, export and the runtime do."""
        image = np.array(picture.convert("RGB") if hasattr(picture, "convert") else picture)
        return self.normalise(torch.from_numpy(np.array(self.preprocess(image)))[None])[0]


class NamedEpisodes:
    """A loader of episodes that tells a model the names of each one's classes before handing it on.

    Args:
        loader: yields easyfsl's batches, whose fifth part holds the classes' ids in the order of the labels.
        model: whose `class_names` is set for as long as the loader is read, then as it was.
        class_names: name of every class id of the data set.

    Raises:
        DataError: the loader yields features, which no name can steer any more.
    """

    def __init__(self, loader: DataLoader[Any], model: SemanticPromptNetworks, class_names: Sequence[str]) -> None:
        if isinstance(getattr(loader, "dataset", None), FeaturesDataset):
            raise DataError("the data set holds features: names cannot steer them", expected="pictures", next_step=_NO_FEATURES)
        self.loader, self.model, self.class_names = loader, model, class_names

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        before = self.model.class_names
        try:
            for batch in self.loader:
                self.model.class_names = [self.class_names[int(index)] for index in batch[4]]
                yield batch
        finally:
            self.model.class_names = before  # the last episode's names are not the next support set's


class TaskSampler(_TaskSampler):  # type: ignore[misc]
    """easyfsl's sampler of tasks, on every torch: easyfsl 1.5.0 hands an argument to torch that torch 2.15 has dropped."""

    def __init__(self, dataset: Any, n_way: int, n_shot: int, n_query: int, n_tasks: int) -> None:
        Sampler.__init__(self)
        self.n_way, self.n_shot, self.n_query, self.n_tasks = n_way, n_shot, n_query, n_tasks
        self.items_per_label: dict[int, list[int]] = {}
        for item, label in enumerate(dataset.get_labels()):
            self.items_per_label.setdefault(label, []).append(item)
        self._check_dataset_size_fits_sampler_parameters()
