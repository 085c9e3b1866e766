"""Every setting of a training run, in frozen dataclasses that refuse what cannot be."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sp_edge.errors import SettingsError
from sp_edge.settings import recipe as recipe_files
from sp_edge.settings.encoders import ENCODERS, FILES
from sp_edge.settings.recipe import recipes
from sp_edge.settings.recipe import require as _require

__all__ = [
    "AugmentSettings", "DataSettings", "EvalSettings", "ExpectedSettings", "ModelSettings", "PretrainSettings", "Settings",
    "TextSettings", "TuneSettings", "recipes",
]  # fmt: skip

# Channel mean and standard deviation of RGB in 0..255 that Semantic Prompt normalises with.
MEAN = (125.3, 123.0, 113.9)
STD = (63.0, 62.1, 66.7)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, name, " | ".join(choices), value)


@dataclass(frozen=True)
class ModelSettings:
    """The network.

    Attributes:
        backbone: name in `sp_edge.model.BACKBONES`, 'timm:NAME' for any image model of timm, or 'open_clip:NAME' for the
            image tower of one of open_clip's. The last two take prompts at the layer 'last' alone.
        image_size: side of the square input, pixels.
        interaction: which of the prompt's interactions take part: both, spatial, channel or none.
        layer: where the prompt enters, as stage-block counted from 0 within the stage; '3-2' is the paper's choice.
            'last' is the final feature map, the one place where a network without such stages takes a prompt: the channel
            interaction, or the spatial one in the closed form of `sp_edge.model.places`.
        zero_mean: subtract from the channel vector beta its mean over channels, as the authors' release does and their
            paper does not say; without it, a sigmoid's output can only add.
        projector: h_s from text to token, linear, mlp or mlp3; h_c is linear always, as in the release.
        pooling: tokens that make the feature: all, patch or head; head, the prompt's alone, needs the spatial interaction in
            stage 3.
        mean, std: of red, green and blue in 0..255, by which pictures are normalised inside the network: those of the
            pictures that its weights were trained on. Semantic Prompt's by default.
        drop_path: share of residual branches that training drops (stochastic depth), rising linearly over the blocks.
        text_prototype: whether a prompted feature also holds what text alone says of the class's look, a linear map from
            text to feature that training fits on the base classes (`sp_edge.training.text_prototype`). Not in the paper. Of
            no effect where `interaction` is none: such a network knows no prompts.
        text_share: its share of the prompted feature. Training may choose it (`tune.choose_strength`). With the spatial
            interaction at 'last' a picture without evidence of the name gets less of it (`place_evidence`).
        place_threshold, place_softness, place_floor: a, b and c of the weight sigmoid((z - a) / b) + c of a place with score
            z, with the spatial interaction at 'last'.
        place_evidence: e0; with the spatial interaction at 'last' a name moves a picture's feature by the share
            sigmoid(e - e0), e the mean score of the five places that look most like it.
        prompt_strength: share of the prompted feature in the prototype of a class taught with one picture, the rest being the
            unprompted one; with more pictures it falls (`sp_edge.matching.decide.share`). 1 as in the paper, at any number of
            shots; 0 without prompts. Training may choose it (`tune.choose_strength`).
    """

    backbone: str = "visformer_tiny"
    image_size: int = 224
    interaction: str = "both"
    layer: str = "3-2"
    zero_mean: bool = True
    projector: str = "linear"
    pooling: str = "all"
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    drop_path: float = 0.0
    text_prototype: bool = False
    text_share: float = 0.5
    place_threshold: float = 2.0
    place_softness: float = 0.5
    place_floor: float = 0.02
    place_evidence: float = 3.0
    prompt_strength: float = 1.0

    def __post_init__(self) -> None:
        _choice("model.interaction", self.interaction, ("both", "spatial", "channel", "none"))
        _choice("model.projector", self.projector, ("linear", "mlp", "mlp3"))
        _choice("model.pooling", self.pooling, ("all", "patch", "head"))
        _require(len(self.mean) == 3, "model.mean", "three numbers, of red, green and blue", list(self.mean))
        _require(
            len(self.std) == 3 and min(self.std) > 0,
            "model.std",
            "three positive numbers, of red, green and blue",
            list(self.std),
        )
        _require(0 <= self.drop_path < 1, "model.drop_path", "0 to 1", self.drop_path)
        _require(0 <= self.text_share <= 1, "model.text_share", "0 to 1", self.text_share)
        _require(self.place_softness > 0, "model.place_softness", "a positive number", self.place_softness)
        _require(self.place_floor >= 0, "model.place_floor", "0 or more", self.place_floor)
        _require(0 <= self.prompt_strength <= 1, "model.prompt_strength", "0 to 1", self.prompt_strength)
        _require(bool(re.fullmatch(r"[23]-[0-9]{1,3}|last", self.layer)), "model.layer", "2-0 to 3-3, or last", self.layer)

    @property
    def prompt_at(self) -> tuple[int, int] | None:
        """Stage (2 or 3) and block, from 0, before which the prompt enters; None for the final feature map."""
        if self.layer == "last":
            return None
        stage, block = self.layer.split("-")
        return int(stage), int(block)


@dataclass(frozen=True)
class TextSettings:
    """How a class name becomes a prompt vector.

    Attributes:
        encoder: clip (open_clip ViT-B-32 openai, the paper's), sbert (all-mpnet-base-v2), minilm (all-MiniLM-L6-v2, works
            without a download), glove (mean of word vectors) or file (vectors made elsewhere).
        path: file of vectors: for glove in its text format, gzipped or not; for file a prompt table that `sp-edge prompts`
            wrote, whose template and norm then count, or .npz or .safetensors with an array (T,) under each class's name.
        template: sentence about the class; must hold `{name}`.
        norm: length to which every vector is rescaled (the release's choice for sentence encoders is 9); 0 takes the mean
            length of the training classes' vectors (its choice for CLIP).
        descriptions: JSON or TOML file, class name -> a sentence or several, whose vectors are averaged and stand for the
            name's; classes that are not in it keep their name.
    """

    encoder: str = "minilm"
    path: str = ""
    template: str = "A photo of {name}"
    norm: float = 9.0
    descriptions: str = ""

    def __post_init__(self) -> None:
        _choice("text.encoder", self.encoder, tuple(ENCODERS))
        _require("{name}" in self.template, "text.template", "a sentence with {name}", self.template)
        _require(self.norm >= 0, "text.norm", "a positive number, or 0 for the training classes' mean", self.norm)
        kind = ENCODERS[self.encoder]
        _require(
            bool(self.path) == kind.is_file, "text.path", f"a file for {' and '.join(FILES)}, nothing for the others", self.path
        )
        if not kind.encodes:
            _require(not self.descriptions, "text.descriptions", f"nothing: {self.encoder} encodes no text", self.descriptions)


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes to training pictures.

    Attributes:
        policy: none, standard (crop, shift, mirror, brightness) or randaugment (standard, then RandAugment), in both stages
            unless `tune.policy` says otherwise.
        flip: mirror half of the pictures.
        crop: least share of the area that a random crop keeps, resized back; 1 does not crop.
        shift: move by up to this share of the side; what leaves at one edge is reflected at the other.
        brightness: scale the values by up to this share, per channel.
        operations, magnitude: N and M of RandAugment (arXiv 1909.13719), M of 30.
    """

    policy: str = "standard"
    flip: bool = True
    crop: float = 1.0
    shift: float = 0.1
    brightness: float = 0.2
    operations: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        _choice("augment.policy", self.policy, ("none", "standard", "randaugment"))
        _require(0 < self.crop <= 1, "augment.crop", "0 to 1", self.crop)
        _require(0 <= self.shift < 0.5, "augment.shift", "0 to 0.5", self.shift)
        _require(0 <= self.brightness < 1, "augment.brightness", "0 to 1", self.brightness)
        _require(1 <= self.operations <= 10, "augment.operations", "1 to 10", self.operations)
        _require(0 <= self.magnitude <= 30, "augment.magnitude", "0 to 30", self.magnitude)


@dataclass(frozen=True)
class PretrainSettings:
    """The first stage: a plain classifier on the base classes.

    Attributes:
        steps: optimiser steps.
        batch_size: pictures a step, over all processes; where the split has fewer, all of them.
        schedule: of the learning rate after its warm-up: cosine to zero, or constant.
        warm_up: share of the steps over which the rate rises linearly to `lr`.
        group: which pictures of the training split (a name in `PictureSet.groups`, or 'all').
        repeats: how often a picture stands in a batch, each time augmented anew (repeated augmentation, arXiv 1901.09335).
        label_smoothing: share of the target that is spread over all classes.
        mixup, cutmix: parameter of their beta distributions; 0 is off; with both on, each batch takes one of them.
    """

    steps: int = 20_000
    batch_size: int = 128
    lr: float = 5e-4
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warm_up: float = 0.08
    group: str = "all"
    repeats: int = 1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "pretrain.steps", "1 or more", self.steps)
        _require(self.batch_size >= 2, "pretrain.batch_size", "2 or more", self.batch_size)
        _require(self.lr > 0, "pretrain.lr", "a positive number", self.lr)
        _require(self.weight_decay >= 0, "pretrain.weight_decay", "0 or more", self.weight_decay)
        _choice("pretrain.schedule", self.schedule, ("cosine", "constant"))
        _require(0 <= self.warm_up < 1, "pretrain.warm_up", "0 to 1", self.warm_up)
        _require(self.repeats >= 1, "pretrain.repeats", "1 or more", self.repeats)
        _require(0 <= self.label_smoothing < 1, "pretrain.label_smoothing", "0 to 1", self.label_smoothing)
        _require(self.mixup >= 0, "pretrain.mixup", "0 or more", self.mixup)
        _require(self.cutmix >= 0, "pretrain.cutmix", "0 or more", self.cutmix)


@dataclass(frozen=True)
class TuneSettings:
    """The second stage: episodes with prompted support and plain queries.

    Attributes:
        steps: optimiser steps.
        episodes_per_step: episodes whose mean loss makes a step, over all processes.
        n_way, n_query: of an episode.
        n_shot: of an episode; several numbers are taken in turn, so that the network learns to be taught with each.
        lr: for the network.
        prompt_lr: for the prompt's projectors h_s and h_c.
        channel_lr: for the channel interaction's W1 and W2; 1e-6, as the network, in the release.
        schedule, warm_up: as in `PretrainSettings`.
        temperature: tau that divides the cosine in the loss and in the confidence.
        group: as in `PretrainSettings`.
        policy: of augmentation in this stage, none, standard or randaugment; 'same' takes `augment.policy`.
        prompt_dropout: share of an episode's classes whose support is encoded without prompt, so that prototypes cannot be
            learned from text alone.
        text_noise: standard deviation of noise on a class's text vector, as a share of the vector's length.
        choose_strength: set `model.prompt_strength`, and `model.text_share` where there is a text prototype, at the end, by
            what serves the validation classes best.
        validate_every: steps between measurements on the validation classes, of which the best network is kept; 0 keeps
            the last.
        patience: stop after so many measurements without a better one; 0 goes on to the end.
        cached_views: 0 trains the whole network. V keeps the layers before the prompt as they are: every picture goes
            through them once, as it is and in V - 1 augmented views, and only what follows is trained, which is much faster.
            `lr` then counts for such layers alone. What is kept lies in the run's folder meanwhile.
    """

    steps: int = 5_000
    episodes_per_step: int = 1
    n_way: int = 5
    n_shot: tuple[int, ...] = (1,)
    n_query: int = 15
    lr: float = 1e-6
    prompt_lr: float = 5e-4
    channel_lr: float = 5e-4
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warm_up: float = 0.08
    temperature: float = 0.2
    group: str = "all"
    policy: str = "same"
    prompt_dropout: float = 0.0
    text_noise: float = 0.0
    choose_strength: bool = True
    validate_every: int = 0
    patience: int = 0
    cached_views: int = 0

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "tune.steps", "1 or more", self.steps)
        _require(self.episodes_per_step >= 1, "tune.episodes_per_step", "1 or more", self.episodes_per_step)
        _require(self.n_way >= 2, "tune.n_way", "2 or more", self.n_way)
        _require(bool(self.n_shot) and min(self.n_shot) >= 1, "tune.n_shot", "1 or more", list(self.n_shot))
        _require(self.n_query >= 1, "tune.n_query", "1 or more", self.n_query)
        _require(self.lr >= 0, "tune.lr", "0 or more", self.lr)
        _require(self.prompt_lr > 0, "tune.prompt_lr", "a positive number", self.prompt_lr)
        _require(self.channel_lr >= 0, "tune.channel_lr", "0 or more", self.channel_lr)
        _require(self.weight_decay >= 0, "tune.weight_decay", "0 or more", self.weight_decay)
        _choice("tune.schedule", self.schedule, ("cosine", "constant"))
        _choice("tune.policy", self.policy, ("same", "none", "standard", "randaugment"))
        _require(0 <= self.warm_up < 1, "tune.warm_up", "0 to 1", self.warm_up)
        _require(self.temperature > 0, "tune.temperature", "a positive number", self.temperature)
        _require(0 <= self.prompt_dropout < 1, "tune.prompt_dropout", "0 to 1", self.prompt_dropout)
        _require(self.text_noise >= 0, "tune.text_noise", "0 or more", self.text_noise)
        _require(self.validate_every >= 0, "tune.validate_every", "0 or more", self.validate_every)
        _require(self.patience >= 0, "tune.patience", "0 or more", self.patience)
        _require(0 <= self.cached_views <= 100, "tune.cached_views", "0 to 100", self.cached_views)
        _require(self.patience == 0 or self.validate_every > 0, "tune.patience", "0 without tune.validate_every", self.patience)


@dataclass(frozen=True)
class DataSettings:
    """Where the pictures come from.

    Attributes:
        source: 'scenes' for the drawn set; 'mini-imagenet', 'tiered-imagenet', 'cifar-fs', 'fc100' or 'cub' for a
            benchmark whose pictures are in `root`; else a folder that holds train/, val/ and test/ with one folder a class,
            or one folder a class and a `split` file.
        root: folder of a benchmark's pictures; CIFAR-100 is downloaded into it where it is missing.
        split: JSON, TOML, CSV or text file that divides a folder's classes into train, val and test.
        names: JSON, TOML, CSV or text file, folder name -> class name; the others are called as their folders are, or as
            the benchmark calls them.
        cache: folder for pictures that have been prepared for the network; the platform's cache folder if empty.
        resize_ratio: see `sp_edge.preprocess.Preprocess`; of no effect on scenes, which are drawn at the network's size.
        interpolation: bilinear or bicubic, see `sp_edge.preprocess.Preprocess`.
        per_class: scenes to draw for each class and group of the training split.
        test_per_class: the same for the validation and test splits.
    """

    source: str = "scenes"
    root: str = ""
    split: str = ""
    names: str = ""
    cache: str = ""
    resize_ratio: float = 1.1
    interpolation: str = "bilinear"
    per_class: int = 20
    test_per_class: int = 20

    def __post_init__(self) -> None:
        _require(bool(self.source), "data.source", "scenes, a benchmark or a folder", self.source)
        for name in ("root", "split", "names"):
            value = getattr(self, name)
            _require(
                not value or self.source != "scenes", f"data.{name}", "nothing with scenes; data.source is the data set", value
            )
        _require(1 <= self.resize_ratio <= 4, "data.resize_ratio", "1 to 4", self.resize_ratio)
        _choice("data.interpolation", self.interpolation, ("bilinear", "bicubic"))
        _require(self.per_class >= 1, "data.per_class", "1 or more", self.per_class)
        _require(self.test_per_class >= 2, "data.test_per_class", "2 or more", self.test_per_class)

    def elsewhere(self, source: str, root: str = "") -> DataSettings:
        """This data set in another place, or another one whose pictures are prepared and kept as this one's."""
        if source == self.source:
            return dataclasses.replace(self, root=root or self.root)
        return dataclasses.replace(self, source=source, root=root, split="", names="")


@dataclass(frozen=True)
class EvalSettings:
    """The protocol that novel classes are measured with.

    Attributes:
        n_way, n_query: of an episode.
        n_shot: numbers of shots to measure with.
        episodes: how many, for each number of shots.
        classifier: cosine (nearest prototype) or lr (logistic regression on augmented views of the support pictures).
        views: augmented views of each support picture that the logistic regression learns from.
    """

    n_way: int = 5
    n_shot: tuple[int, ...] = (1, 5)
    n_query: int = 15
    episodes: int = 2000
    classifier: str = "cosine"
    views: int = 10

    def __post_init__(self) -> None:
        _require(self.n_way >= 2, "eval.n_way", "2 or more", self.n_way)
        _require(bool(self.n_shot) and min(self.n_shot) >= 1, "eval.n_shot", "1 or more", list(self.n_shot))
        _require(self.n_query >= 1, "eval.n_query", "1 or more", self.n_query)
        _require(self.episodes >= 2, "eval.episodes", "2 or more", self.episodes)
        _choice("eval.classifier", self.classifier, ("cosine", "lr"))
        _require(self.views >= 1, "eval.views", "1 or more", self.views)


@dataclass(frozen=True)
class ExpectedSettings:
    """What a recipe's source reports for it, to stand beside what was measured; accuracies in %, 0 where it says nothing.

    Attributes:
        source: paper and table.
        with_prompts, without_prompts: accuracy on the novel classes.
        interval: half-width of the first one's 95 % interval.
    """

    source: str = ""
    with_prompts: float = 0.0
    without_prompts: float = 0.0
    interval: float = 0.0


@dataclass(frozen=True)
class Settings:
    """All of a run.

    Attributes:
        seed: from which every random choice follows.
        precision: of the arithmetic in training: fp32, bf16, or auto, which takes bf16 where the processor has it.
    """

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    text: TextSettings = field(default_factory=TextSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    tune: TuneSettings = field(default_factory=TuneSettings)
    eval: EvalSettings = field(default_factory=EvalSettings)
    expected: ExpectedSettings = field(default_factory=ExpectedSettings)
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        _choice("precision", self.precision, ("auto", "fp32", "bf16"))
        usual = ModelSettings()
        for name in ("prompt_strength", "text_share"):
            if self.tune.choose_strength and getattr(self.model, name) != getattr(usual, name):
                raise SettingsError(
                    f"model.{name} was set, and training is to choose it", expected="tune.choose_strength=false besides"
                )
        _require(0 <= self.seed < 2**63, "seed", "0 to 2^63 - 1", self.seed)

    def to_json(self) -> dict[str, Any]:
        """As checkpoints record it; `from_mapping` reads it."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Builds settings from nested tables, as a recipe or a checkpoint holds them; what is absent keeps its default.

        Raises:
            SettingsError: unknown name, wrong kind of value, or out of range.
        """
        result: Settings = recipe_files.build(cls, values)
        return result

    @classmethod
    def load(cls, recipe: str, overrides: Sequence[str] = ()) -> Settings:
        """Reads a recipe and applies overrides.

        Args:
            recipe: name of a shipped recipe (see `recipes`), or path of a TOML file.
            overrides: 'section.name=value' texts; values are TOML, and bare words count as text.

        Raises:
            SettingsError: no such recipe, not TOML, or a setting that does not exist or is out of range.
        """
        return cls.from_mapping(recipe_files.read(recipe, overrides))
