"""From ready-made weights to a verified bundle: weights, names in closed form, statistics, and the gate of every export."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sp_edge.bundle.bundle import Bundle
from sp_edge.data.pictures import PictureSet
from sp_edge.data.sets import preprocess_of
from sp_edge.errors import SettingsError
from sp_edge.matching.decide import class_sums, unit
from sp_edge.model import PromptedNetwork, PromptedPlaces, build_network
from sp_edge.model.ready import ReadyWeights, find_weights
from sp_edge.model.ready.names import imagenet_names
from sp_edge.model.ready.towers import PREFIX as CLIP_PREFIX
from sp_edge.model.ready.towers import name_and_tag
from sp_edge.precisions import EXPORTED, PRECISIONS
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, clean_name
from sp_edge.settings.settings import DataSettings, ModelSettings, Settings, TextSettings, TuneSettings
from sp_edge.text import CLIP, MiniLM, TextEncoder, encoded_table
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.directions import RIDGE, fit_directions, towards_means
from sp_edge.training.evaluate import encode
from sp_edge_export.background import calibrate
from sp_edge_export.export import ExportOptions, check_place, export
from sp_edge_export.material import Measured
from sp_edge_export.ready.pictures import FEW_VIEWS, VIEWS, calibration_pictures, of_folder, of_photographs
from sp_edge_export.ready.statistics import USUAL, Statistics, measure

BANKS = 40  # simulated to calibrate a model that nobody has measured: each takes a second where features are long
LEAST_NAMED = 10  # classes of a folder from which names can be fitted
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadyOptions:
    """What to make.

    Attributes:
        precision: fp32, fp16 or int8, as in `ExportOptions`.
        names: further names for the prompt table.
        data: folder with one folder a class, of pictures like those the camera will see. They stand in the place of the
            photographs that come with sp-edge: conversions are tried on them; what features are like is measured on them
            where nobody has measured it for the model; and names are fitted on them where the model has none.
        weights: file with the model's weights, in place of the hub's.
        settings: of `ModelSettings`, name -> value, for a model that nobody has measured; see `Statistics`.
    """

    precision: str = "fp32"
    names: tuple[str, ...] = ()
    data: Path | None = None
    weights: Path | None = None
    settings: Mapping[str, float] = field(default_factory=lambda: dict(USUAL))

    def __post_init__(self) -> None:
        if self.precision not in EXPORTED:
            raise SettingsError("unknown precision", expected=" or ".join(EXPORTED), got=self.precision)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A ready-made network before its export.

    Attributes:
        checkpoint: as training would leave it.
        pictures: that it is tried on.
        statistics: with a calibration.
        weights: where it comes from.
        encoder: of names.
    """

    checkpoint: Checkpoint
    pictures: PictureSet
    statistics: Statistics
    weights: ReadyWeights
    encoder: TextEncoder


def make_ready(model: str, out: Path, options: ReadyOptions | None = None) -> Bundle:
    """Writes the bundle of a ready-made model.

    Args:
        model: as `sp_edge.model.ready.find_weights` takes it.
        out: the bundle's folder.
        options: what to make.

    Raises:
        SettingsError: no such model, or something else is at `out`.
        CheckpointError, MissingExtraError: its weights cannot be had or used.
        DataError: the pictures of `options.data` cannot be used.
        ExportError: a stage does not pass, as in `export`.
    """
    options = options or ReadyOptions()
    check_place(out)  # before weights are downloaded
    prepared = prepare(model, options)
    pictures, settings = prepared.pictures, prepared.checkpoint.settings
    calibration = None
    if PRECISIONS[options.precision].pictures != "never":
        calibration = calibration_pictures(options.data, pictures, preprocess_of(settings))
    weights, statistics = prepared.weights, prepared.statistics
    assert statistics.calibration is not None  # noqa: S101 - `prepare` fits it
    origin = f"{weights.source}. License of the weights: {weights.license}"
    material = Measured(origin, pictures, statistics.background, statistics.calibration)
    wanted = ExportOptions(options.precision, calibration=calibration, encoder=prepared.encoder)
    return export(prepared.checkpoint, out, wanted, material)


def prepare(model: str, options: ReadyOptions, *, shipped: bool = True, banks: int = BANKS) -> Prepared:
    """Gathers and fits all that a ready-made network is made of; see `make_ready`.

    Args:
        model: as in `make_ready`.
        options: likewise.
        shipped: take the statistics that come with sp-edge, where it has them.
        banks: from which the calibration is fitted where it is not shipped.
    """
    weights = find_weights(model, options.weights)
    text_tower = model.startswith(CLIP_PREFIX)
    own = weights.settings()
    base = ModelSettings(**own["model"], text_prototype=True)
    settings = Settings(
        data=DataSettings("ready", **own["data"]),
        model=base,
        text=TextSettings("clip", norm=0.0) if text_tower else TextSettings(),
        tune=TuneSettings(choose_strength=False, **own["tune"]),
    )
    statistics = Statistics.shipped(model, weights.sha256) if shipped else None
    pictures = _pictures(options, preprocess_of(settings), measured=statistics is not None)
    encoder = CLIP(*_tower(model, options.weights)) if text_tower else MiniLM()
    fitted_on = imagenet_names(1000) if text_tower else _names(weights, pictures, options)
    names = [*fitted_on, *pictures.class_names, *options.names]
    given = set(fitted_on).difference(pictures.class_names)
    table = encoded_table(encoder, names, settings.text, base=fitted_on, given=given)
    network = _network(base, weights, table, named=bool(fitted_on))
    if statistics is None:
        origin = f"{len(pictures)} pictures of {options.data or 'the photographs that come with sp-edge'}"
        _log.info(f"measuring what features are like on {origin}")
        if options.data is None:
            _log.warning("'unknown' is rough for this model: --data FOLDER measures it on pictures like those of your camera")
        statistics = measure(network, pictures, origin, options.settings)
    settings = replace(settings, model=statistics.model(_as_built(network, base)))
    record: dict[str, Any] = {"ready": weights.to_json(), "statistics": statistics.origin}
    if isinstance(network, PromptedPlaces):
        text = table.select(fitted_on)
        if text_tower:  # texts lie where features do
            weight, bias = np.eye(table.text.dim), -text.mean(axis=0, dtype=np.float64)
        else:
            rows = weights.head.rows if weights.head is not None else _means(network, pictures)
            weight, bias = fit_directions(text, rows)
            network.familiarity = Familiarity.of(np.unique(text, axis=0))
        set_names(network, weight, bias, statistics, of_classifier=weights.head is not None and not text_tower)
        network.text_share, network.strength = settings.model.text_share, settings.model.prompt_strength
        record["text_prototype"] = {"classes": len(fitted_on), "ridge": RIDGE}
    classes = {"train": tuple(dict.fromkeys(map(clean_name, fitted_on)))}
    checkpoint = Checkpoint(network.eval(), settings, table, "ready", classes, record)
    if statistics.calibration is None:
        calibration = calibrate(checkpoint, pictures, table, statistics.background, banks=banks)
        statistics = replace(statistics, calibration=calibration)
    return Prepared(checkpoint, pictures, statistics, weights, encoder)


def _pictures(options: ReadyOptions, preprocess: Preprocess, *, measured: bool) -> PictureSet:
    """What the network is tried on; more where features are measured on it, or a conversion is."""
    if options.data is not None:
        return of_folder(options.data, preprocess)
    few = measured and PRECISIONS[options.precision].pictures == "never"
    return of_photographs(preprocess, FEW_VIEWS if few else VIEWS)


def _as_built(network: PromptedNetwork, settings: ModelSettings) -> ModelSettings:
    """The settings as the network was built."""
    return settings if isinstance(network, PromptedPlaces) else replace(settings, interaction="none", text_prototype=False)


def _names(weights: ReadyWeights, pictures: PictureSet, options: ReadyOptions) -> Sequence[str]:
    """The names that directions are fitted on: the classifier's, or those of folders; none where there are too few."""
    if weights.head is not None:
        return weights.head.names
    if options.data is not None and len(pictures.class_names) >= LEAST_NAMED:
        return pictures.class_names
    got = f"{len(pictures.class_names)} folders" if options.data else "no --data"
    _log.warning(
        f"{weights.model} has no classifier whose classes have names: names will not count. "
        f"--data FOLDER with {LEAST_NAMED} or more named folders fits them ({got})"
    )
    return ()


def _network(settings: ModelSettings, weights: ReadyWeights, table: PromptTable, *, named: bool) -> PromptedNetwork:
    """With the weights; without prompts where nothing says what names mean, or where there is no feature map to weigh."""
    plain = replace(settings, interaction="none", text_prototype=False)
    if named:
        try:
            network = build_network(settings, table.text.dim)
        except SettingsError as error:
            _log.warning(f"names will not count: {error.what}")
            network = build_network(plain, table.text.dim)
    else:
        network = build_network(plain, table.text.dim)
    network.backbone.load_state_dict(dict(weights.weights))
    return network.eval()


def set_names(
    network: PromptedPlaces,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    statistics: Statistics,
    *,
    of_classifier: bool,
) -> None:
    """Sets what names do in a network: the direction of each, the statistics of places, the text prototype.

    The text prototype is to lie where features do, and so goes along what a classifier's rows say of means (`towards_means`).

    Args:
        network: with a text prototype.
        weight, bias: of the directions A g + b, float64 (D, T) and (D,).
        statistics: of the network.
        of_classifier: whether they were fitted to a classifier's rows, rather than to features.
    """
    assert network.text_prototype is not None  # noqa: S101 - the caller's, not the user's mistake
    along = towards_means(weight, bias, statistics.background.within) if of_classifier else (weight, bias)
    network.prompt.set_direction(weight, bias)
    network.prompt.set_patches(statistics.patch_mean, statistics.patch_covariance)
    network.text_prototype.set(*along, statistics.background.mean, statistics.reach, statistics.length)


def _tower(model: str, file: Path | None) -> tuple[str, str | Path]:
    """What `CLIP` takes."""
    name, tag = name_and_tag(model)
    return name, file or tag


def _means(network: PromptedNetwork, pictures: PictureSet) -> NDArray[np.float32]:
    """The mean feature of each class, float32 (C, D), of features of length one."""
    features = unit(encode(network, pictures.images, None).query)
    count = len(pictures.class_names)
    sums = class_sums(features, pictures.labels, count)
    return np.asarray(sums / np.bincount(pictures.labels, minlength=count)[:, None], np.float32)
