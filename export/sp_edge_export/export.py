"""From a checkpoint to a verified bundle: every stage is measured against the one before, and nothing else is written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from PIL import Image

import sp_edge
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import (
    BACKGROUND,
    FAMILIARITY,
    GOLDEN,
    MANIFEST,
    NAMES,
    PROMPTS,
    SCORES,
    Manifest,
    file_entries,
    is_bundle,
    write_manifest,
)
from sp_edge.bundle.text import TextPart
from sp_edge.data import sets
from sp_edge.errors import DataError, SettingsError
from sp_edge.folders import atomic_folder, holds_earlier
from sp_edge.precisions import CPU, EXPORTED, PRECISIONS
from sp_edge.prompts.table import PromptTable
from sp_edge.tensors import save_tensors
from sp_edge.text import TextEncoder
from sp_edge.training.checkpoint import Checkpoint, versions
from sp_edge_calibration.graph import load_graph
from sp_edge_calibration.pictures import CHOSEN, Pictures, calibrate_with
from sp_edge_calibration.ranges import Range
from sp_edge_calibration.session import Inputs, features_of
from sp_edge_export.fold import fold, has_norms_before
from sp_edge_export.gate import Gate, report_of
from sp_edge_export.layers import LayerError, graph_activations, layer_errors, network_activations
from sp_edge_export.material import Material, OfDataSet
from sp_edge_export.onnx import OPSETS, export_graphs
from sp_edge_export.precisions import CONVERSIONS, FOR_CPU
from sp_edge_export.precisions.conversion import Conversion, Converted
from sp_edge_export.probe import Reference, make_probe, network_features
from sp_edge_export.text.encoder import add_text_encoder, choose_encoder
from sp_edge_export.verify import GraphFeatures, Parity, Probe, compare, graph_features

_log = logging.getLogger(__name__)
GOLDEN_PICTURES = 8
# On what a conversion chose its layers, as the manifest says it.
OTHERS, GATES_OWN = "other pictures than the gate's", "the gate's own pictures"
CARD = "README.md"
_OTHERS = (CARD, "*.onnx", "*.safetensors", "golden", "text")


@dataclass(frozen=True)
class ExportOptions:
    """What to make.

    Attributes:
        precision: fp32, fp16 or int8; the fp32 graphs are always in the bundle, too, and beside int8 the fp16 ones, since a
            device may find those faster.
        max_drop: accuracy, 0 to 1, that a precision may lose at most.
        prompts: further names for the prompt table.
        calibration: pictures like those the camera will see. int8 needs them; fp16 decides by them what stays float32, and
            by validation pictures where there are none.
        opset: of the graphs, 20 or 19.
        pictures: on how many the stages are compared, at most.
        text: whether the text encoder goes into the bundle: fp32, int8, none, or auto, which is int8 where it is here.
        encoder: the one that made the prompts, where it is open already.
    """

    precision: str = "fp32"
    max_drop: float = 0.01
    prompts: PromptTable | None = None
    calibration: Pictures | None = None
    opset: int = OPSETS[0]
    pictures: int = 480
    text: str = "auto"
    encoder: TextEncoder | None = None

    def __post_init__(self) -> None:
        if self.precision not in EXPORTED:
            raise SettingsError("unknown precision", expected=" or ".join(EXPORTED), got=self.precision)
        if not 0 <= self.max_drop <= 1:
            raise SettingsError("max-drop is out of range", expected="0 to 1", got=str(self.max_drop))
        pictures = PRECISIONS[self.precision].pictures
        if pictures == "always" and self.calibration is None:
            raise SettingsError(
                f"{self.precision} needs calibration pictures",
                expected="--data FOLDER with pictures like those the camera will see",
                got="no --data",
            )
        if pictures == "never" and self.calibration is not None:
            raise SettingsError(f"{self.precision} needs no calibration pictures", expected="no --data, or another --precision")
        if self.opset not in OPSETS:
            raise SettingsError("unknown opset", expected=" or ".join(map(str, OPSETS)), got=str(self.opset))


def export(checkpoint: Checkpoint, out: Path, options: ExportOptions, material: Material | None = None) -> Bundle:
    """Writes the bundle `out`, replacing an earlier one only once the new one is complete and verified.

    Args:
        checkpoint: the network.
        out: the bundle's folder.
        options: what to make.
        material: pictures and what is known of features; by default what the checkpoint makes of its own data set.

    Raises:
        ExportError: a stage does not pass; nothing is written but a report beside `out`, which the message names.
        SettingsError: something else is at `out`.
    """
    check_place(out)
    with atomic_folder(out) as folder:  # first of all, so that a place that cannot be written is known at once
        _write(checkpoint, out, folder, options, material or OfDataSet(checkpoint))
        Bundle.load(folder)
    report_of(out).unlink(missing_ok=True)  # of an earlier attempt
    return Bundle.load(out)


def check_place(out: Path) -> None:
    """Checks, before anything is made, that a bundle may be written to a path.

    Raises:
        SettingsError: something else is there.
    """
    if holds_earlier(out, MANIFEST, _OTHERS, SettingsError, what="a bundle") and not is_bundle(out):
        raise SettingsError(
            f"{out} is in the way", expected="a free path or an earlier bundle", got=f"a {MANIFEST} of something else"
        )


def _write(checkpoint: Checkpoint, out: Path, folder: Path, options: ExportOptions, material: Material) -> None:
    """Fills `folder` with the parts of the bundle that will stand at `out`."""
    settings = checkpoint.settings
    preprocess = sets.preprocess_of(settings)
    prompts = checkpoint.prompts if options.prompts is None else checkpoint.prompts.with_table(options.prompts)
    encoder = options.encoder or choose_encoder(prompts.text, options.text)
    probe = make_probe(material.pictures, prompts, options.pictures)
    before = network_features(checkpoint.network, probe)
    gate = Gate(out, options.max_drop)
    _log.info("exporting to ONNX")
    files = export_graphs(checkpoint.network, preprocess.image_size, prompts.text.dim, folder, opset=options.opset)
    graphs, cpu_graphs = {"fp32": {graph: file.name for graph, file in files.items()}}, {}
    features = graph_features(files, probe.images, probe.prompts, scored=before.scores is not None)
    gate.admit(compare("fp32", features, "pytorch", before, probe), partial(_against_pytorch, checkpoint, files, probe))
    if options.precision in CONVERSIONS:
        reference = Reference(probe, features)
        for parity, made in _conversions(checkpoint, files, options, prompts, reference, folder):
            names = {graph: file.name for graph, file in made.files.items()}
            if not parity.stage.endswith(CPU):
                graphs[parity.stage] = names
                gate.admit(parity, partial(_against_fp32, made.files, files, probe), made.record)
            elif (failure := gate.judge(parity, made.record)) is None:
                cpu_graphs[parity.stage.removesuffix(CPU)] = names
            else:  # CPUs then run the other form
                _log.warning(
                    f"{options.precision} will be slow on CPUs, without a form for them: {failure.what}, {failure.got}"
                )
                for file in made.files.values():
                    file.unlink()
    _log.info("measuring what tells taught classes from others")
    background = material.background
    save_tensors(folder / BACKGROUND, {"mean": background.mean, "within": background.within}, {})
    if checkpoint.network.familiarity is not None:
        checkpoint.network.familiarity.save(folder / FAMILIARITY)
    if checkpoint.network.text_prototype is not None and checkpoint.network.text_share > 0:  # it has been fitted
        checkpoint.network.text_prototype.to_numpy().save(folder / NAMES)
    calibration = material.calibration(prompts)
    text_encoder = None
    if encoder is not None:
        _log.info("exporting the text encoder")
        text_encoder = add_text_encoder(encoder, "fp32" if options.text == "fp32" else "int8", prompts, folder)
    prompts.save(folder / PROMPTS)
    _write_golden(folder, probe, before)
    (folder / CARD).write_text(_card(checkpoint, material.origin, list(graphs), text_encoder), encoding="utf-8")
    manifest = Manifest(
        versions={**versions(), "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        files=file_entries(folder),
        graphs=graphs,
        precision=options.precision,
        preprocess=preprocess,
        feature_dim=checkpoint.network.feature_dim,
        text=prompts.text,
        calibration=calibration,
        mirrored=settings.augment.flip and settings.augment.policy != "none",
        strength=checkpoint.network.strength,
        training={"settings": settings.to_json(), "record": dict(checkpoint.record)},
        stages=tuple(gate.stages),
        text_encoder=text_encoder,
        scores=None if before.scores is None else before.scores.shape[1:],
        cpu_graphs=cpu_graphs,
    )
    write_manifest(folder, manifest)


def _conversions(
    checkpoint: Checkpoint,
    files: Mapping[str, Path],
    options: ExportOptions,
    prompts: PromptTable,
    reference: Reference,
    folder: Path,
) -> Iterator[tuple[Parity, Converted]]:
    """The graphs in the precision that was asked for, before it in the one that stands beside it, and after it for CPUs.

    Each is as good as it can be made, and made only once the one before was let pass. What a conversion chooses by are other
    pictures than those that gate it, where there are enough.
    """
    inputs, record = _conversion_inputs(checkpoint, files, options, prompts, reference)
    search, gate = reference.halves() or (reference, reference)
    searched = {"on": GATES_OWN if search is gate else OTHERS, "pictures": len(search.probe.labels)}
    wanted = list(filter(None, (PRECISIONS[options.precision].beside, options.precision)))
    steps = [(precision, CONVERSIONS[precision]) for precision in wanted]
    steps += [(precision + CPU, FOR_CPU[precision]) for precision in wanted if precision in FOR_CPU]
    measured: dict[str, Mapping[str, Range]] = {}
    for stage, convert in steps:
        _log.info(f"converting to {stage}")
        job = Conversion(
            sources=files,
            targets={graph: folder / f"{graph}.{stage}.onnx" for graph in files},
            inputs=inputs,
            variants=partial(_unfolded, checkpoint, prompts.text.dim, opset=options.opset),
            search=partial(search.compare, stage),
            max_drop=options.max_drop,
            measured=measured,
        )
        made = convert(job)
        for graph, names in made.record["float32"].items():
            if names:
                why = ", beyond float16's range" if "limit" in made.record else ""
                _log.info(f"{graph}: {len(names)} operators stay float32{why}: {', '.join(names[:4])}")
        parity = (gate if made.searched else reference).compare(stage, made.files)
        details = {**record, **made.record, **({"searched": searched} if made.searched else {})}
        yield parity, dataclasses.replace(made, record=details)


def _conversion_inputs(
    checkpoint: Checkpoint,
    files: Mapping[str, Path],
    options: ExportOptions,
    prompts: PromptTable,
    reference: Reference,
) -> tuple[Mapping[str, Inputs], dict[str, Any]]:
    """What the graphs are fed with to see their ranges, and how it was chosen, for the manifest."""
    images, vectors = reference.probe.images[:CHOSEN], reference.probe.prompts[:CHOSEN]
    record: dict[str, Any] = {}
    if options.calibration is not None:
        size = checkpoint.settings.model.image_size
        if options.calibration.images.shape[1:] != (size, size, 3):
            got = str(options.calibration.images.shape)
            raise DataError("the calibration pictures are of another size", expected=f"(n, {size}, {size}, 3)", got=got)
        seen = features_of(load_graph(files["query"]), {"image": options.calibration.images})
        calibration = calibrate_with(options.calibration, seen, reference.features.query)
        record["calibration"] = calibration.record
        images = calibration.images
        # Any class's prompt may meet any picture: the ranges must hold for all of them.
        vectors = prompts.vectors[np.arange(len(images)) % len(prompts.names)]
    return {"query": {"image": images}, "support": {"image": images, "prompt": vectors}}, record


def _unfolded(checkpoint: Checkpoint, dim: int, folder: Path, *, opset: int) -> dict[str, dict[str, Path]]:
    """The graphs with BatchNorms before convolutions left where they are, if the network has such."""
    if not has_norms_before(checkpoint.network):
        return {}
    size = checkpoint.settings.model.image_size
    return {"unfolded": export_graphs(checkpoint.network, size, dim, folder, opset=opset, norms_before=False)}


_FEW = 8  # pictures on which stages are compared layer by layer


def _against_pytorch(checkpoint: Checkpoint, files: Mapping[str, Path], probe: Probe) -> list[LayerError]:
    images = probe.images[:_FEW]
    ours = graph_activations(load_graph(files["query"]), {"image": images})
    return layer_errors(ours, network_activations(fold(checkpoint.network), images))


def _against_fp32(made: Mapping[str, Path], files: Mapping[str, Path], probe: Probe) -> list[LayerError]:
    inputs: Inputs = {"image": probe.images[:_FEW], "prompt": probe.prompts[:_FEW]}
    ours, theirs = (graph_activations(load_graph(graphs["support"]), inputs) for graphs in (made, files))
    return layer_errors(ours, theirs)


def _write_golden(folder: Path, probe: Probe, features: GraphFeatures) -> None:
    (folder / "golden").mkdir()
    rows = range(min(GOLDEN_PICTURES, len(probe.images)))
    names = [f"golden/{row}.png" for row in rows]
    for row, name in zip(rows, names, strict=True):
        Image.fromarray(probe.images[row]).save(folder / name)
    tensors = {"prompts": probe.prompts[rows], "query": features.query[rows], "support": features.support[rows]}
    if features.scores is not None:
        tensors[SCORES] = features.scores[rows]
    save_tensors(folder / GOLDEN, tensors, {"images": names})


def _card(checkpoint: Checkpoint, origin: str, precisions: Sequence[str], text_encoder: TextPart | None) -> str:
    settings = checkpoint.settings
    carried = f"included as {text_encoder.precision} ONNX: any class can be named" if text_encoder else "not included"
    return f"""# sp-edge bundle

Few-shot recognition with Semantic Prompt (arXiv 2303.14123), exported by sp-edge {sp_edge.__version__}.

- network: {settings.model.backbone}, {settings.model.image_size} px
- prompt: {settings.model.interaction} at {settings.model.layer}, strength {checkpoint.network.strength}
- graphs: {", ".join(precisions)}
- trained on: {origin}
- text encoder: {settings.text.encoder}, "{settings.text.template}", {carried}

What it may be used for follows from the license of the pictures that it was trained on. `manifest.json` holds the figures.
Check a copy with `sp-edge verify`, teach it with `sp-edge enroll`.
"""
