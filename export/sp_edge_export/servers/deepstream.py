"""Writes a folder for NVIDIA DeepStream: one graph from pixels to classes, its labels, and nvinfer's configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import sp_edge
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError, ExportError, SettingsError
from sp_edge.folders import atomic_folder, holds_earlier
from sp_edge.matching.label import UNKNOWN
from sp_edge_calibration.graph import parse_graph
from sp_edge_export.engines.engine import check_batch
from sp_edge_export.servers.head import check_cropped, decision

CONFIG = "config_infer_sp_edge.txt"
GRAPH, LABELS, README = "sp_edge.onnx", "labels.txt", "README.md"
_OTHERS = (GRAPH, LABELS, README, f"{GRAPH}_*.engine")  # the last is what nvinfer builds of the graph
_MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # nvinfer's network-mode
_SCALING = {"bilinear": 1, "bicubic": 2}  # NvBufSurfTransform's, by nvinfer's and nvvideoconvert's number


def write_deepstream(
    bundle: Bundle,
    bank: Bank,
    out: Path,
    *,
    classifier: str = "prototype",
    precision: str | None = None,
    max_batch: int = 1,
) -> None:
    """Writes the folder `out`, replacing an earlier one and the engine that nvinfer built of it.

    nvinfer hands a network float32 pixels in planes; the graph takes them as they are (0 to 255, RGB), so normalisation stays
    inside. Its output is one probability a class and one for 'unknown', which nvinfer's own classifier parser reads.

    Args:
        bundle: whose query graph to use.
        bank: the taught classes; teaching more needs a new folder.
        out: a free path, an empty folder, or what this function wrote.
        classifier: prototype or lr, which decides; see `sp_edge.bank.head.Head`.
        precision: of the graph; the bundle's own by default.
        max_batch: streams that are recognized in one run.

    Raises:
        BankError: no class was taught, or with another fit than crop; or a name holds the ';' with which DeepStream
            separates labels.
        SettingsError: max_batch or classifier is out of range, or something else is at `out`.
        BundleError: the bundle was not exported in that precision.
    """
    check_batch(max_batch)
    check_cropped(bank)
    earlier(out)
    split = [name for name in bank.names if ";" in name]
    if split:
        raise BankError("DeepStream cannot show this name", expected="names without ';'", got=split[0])
    precision = precision or bundle.manifest.precision
    model = deepstream_graph(bundle, bank, precision, classifier)
    with atomic_folder(out) as folder:
        onnx.save(model, folder / GRAPH)
        (folder / LABELS).write_text(";".join([*bank.names, UNKNOWN]) + "\n", encoding="utf-8")
        (folder / CONFIG).write_text(_config(bundle, precision, max_batch), encoding="utf-8")
        (folder / README).write_text(_readme(bundle, classifier), encoding="utf-8")


def earlier(out: Path) -> bool:
    """Whether an earlier folder is at `out`.

    Raises:
        SettingsError: something else is there.
    """
    return holds_earlier(
        out, CONFIG, _OTHERS, SettingsError, what="a DeepStream folder", next_step="give it a folder of its own"
    )


def deepstream_graph(bundle: Bundle, bank: Bank, precision: str, classifier: str = "prototype") -> onnx.ModelProto:
    """`pixels` float32 (N, 3, H, W) RGB, 0 to 255 -> `probability` float32 (N, C + 1), the last of them 'unknown'.

    Where the bank believes its best class, the row is the classes' confidences and 0; elsewhere it is zeros and 1.

    Raises:
        BankError: no class was taught.
        SettingsError: no such classifier, or too many classes for it.
        ExportError: the query graph is not of the form that export writes.
    """
    model = parse_graph(bundle.read_graph("query", precision), "the query graph")
    made = decision(Head.of(bank, bundle.background(), bundle.manifest.calibration, classifier=classifier))
    graph, side = model.graph, bundle.manifest.preprocess.image_size
    if [i.name for i in graph.input] != ["image"] or [o.name for o in graph.output] != ["feature"]:
        raise ExportError("the query graph has another form", expected="image -> feature")
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, side, side])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", len(bank.names) + 1])
    # Names of the encoder's own tensors must not meet those of the decision.
    encoder = onnx.compose.add_prefix_graph(graph, "encoder/", rename_inputs=False, rename_outputs=False)
    enter = helper.make_node("Transpose", ["pixels"], ["image"], perm=[0, 2, 3, 1])
    leave = [
        helper.make_node("Cast", ["believed"], ["known"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["confidences", "known"], ["shown"]),
        helper.make_node("Sub", ["one", "known"], ["unknown"]),
        helper.make_node("Concat", ["shown", "unknown"], ["probability"], axis=1),
    ]
    one = numpy_helper.from_array(np.array(1, np.float32), "one")
    whole = helper.make_graph(
        [enter, *encoder.node, *made.nodes, *leave],
        "sp_edge",
        [pixels],
        [probability],
        [*encoder.initializer, *made.constants, one],
    )
    joined = helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name="sp-edge")
    onnx.checker.check_model(joined, full_check=True)
    return joined


def _config(bundle: Bundle, precision: str, max_batch: int) -> str:
    preprocess = bundle.manifest.preprocess
    side = preprocess.image_size
    return f"""# nvinfer: sp-edge, bundle {bundle.fingerprint[:12]}, {precision}. Normalization is inside the graph.
[property]
gpu-id=0
onnx-file={GRAPH}
model-engine-file={GRAPH}_b{max_batch}_gpu0_{precision}.engine
labelfile-path={LABELS}
batch-size={max_batch}
network-mode={_MODES[precision]}
network-type=1
process-mode=1
gie-unique-id=1
interval=0
infer-dims=3;{side};{side}
model-color-format=0
net-scale-factor=1
network-input-order=0
maintain-aspect-ratio=0
scaling-filter={_SCALING[preprocess.interpolation]}
output-blob-names=probability
classifier-threshold=0
"""


def _readme(bundle: Bundle, classifier: str) -> str:
    preprocess = bundle.manifest.preprocess
    crops = "\n".join(f"    {w}x{h}: src-crop={_crop(w, h, preprocess.resize_ratio)}" for w, h in ((1280, 720), (1920, 1080)))
    side, scaling = preprocess.image_size, _SCALING[preprocess.interpolation]
    return f"""# sp-edge in DeepStream

`{CONFIG}` makes nvinfer a primary classifier of whole frames. Its classes stand in `{LABELS}`, 'unknown' the
last; classifier `{classifier}` decides. Written by sp-edge {sp_edge.__version__}, and not yet run in DeepStream.

Features are right only for frames cut as in training: a centred square, its side the frame's shorter one divided by
{preprocess.resize_ratio:.4g}. The filter is {preprocess.interpolation}. nvinfer would squash a whole frame into its square,
so cut before it:

{crops}

    gst-launch-1.0 uridecodebin uri=file:///video.mp4 ! \\
        nvvideoconvert interpolation-method={scaling} src-crop={_crop(1280, 720, preprocess.resize_ratio)} ! \\
        'video/x-raw(memory:NVMM),width={side},height={side}' ! m.sink_0 \\
        nvstreammux name=m batch-size=1 width={side} height={side} ! nvinfer config-file-path={CONFIG} ! fakesink

The engine is built at the first start. The graph's own types say what is computed in half or eight bits.
A newly taught class needs a new export: DeepStream has no second model for the head.
"""


def _crop(width: int, height: int, ratio: float) -> str:
    """Left:top:width:height of the centred square, even numbers as NV12 frames want them."""
    side = round(min(width, height) / ratio / 2) * 2
    return f"{(width - side) // 4 * 2}:{(height - side) // 4 * 2}:{side}:{side}"
