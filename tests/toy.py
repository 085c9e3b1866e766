"""A real bundle that needs no torch: two small ONNX graphs, prompts, golden pictures and their manifest.

The toy network averages the picture over a 4x4 grid: 48 numbers, scaled to -1..1. Its support graph adds a small
projection of the prompt, times its strength, and gives the plain numbers, too. `features` says the same in numpy, so that
tests can know the answer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from sp_edge.bundle.manifest import BACKGROUND, FAMILIARITY, GOLDEN, PROMPTS, Manifest, file_entries, write_manifest
from sp_edge.bundle.manifest import NAMES as NAMES_FILE
from sp_edge.bundle.text import TextPart
from sp_edge.errors import BundleError
from sp_edge.files import read_json
from sp_edge.matching.unknown import ByName, Calibration
from sp_edge.preprocess import Preprocess
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.prompts.text_prototype import TextPrototype
from sp_edge.tensors import save_tensors

SIDE = 32
GRID = 4
DIM = GRID * GRID * 3
TEXT = TextSpec(encoder="toy", revision="0", template="A photo of {name}", norm=9.0, dim=8)
NAMES = ("red", "green", "blue", "dark night", "bright day", "Zürcher Kaffeetasse", "赤い 自転車", "naïve café")
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


def picture(name: str, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """A picture of one of COLOURS with some noise: uint8 (side, side, 3) RGB."""
    noise = np.random.default_rng(seed).integers(-20, 21, (side, side, 3))
    return np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)


def prompts() -> PromptTable:
    """A vector of length 9 for each of NAMES, always the same."""
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), TEXT.dim))
    vectors *= TEXT.norm / np.linalg.norm(vectors, axis=1, keepdims=True)
    return PromptTable(TEXT, NAMES, vectors.astype(np.float32))


def projection() -> NDArray[np.float32]:
    """What the support graph multiplies a prompt by: float32 (8, 48)."""
    return np.random.default_rng(2).normal(scale=0.005, size=(TEXT.dim, DIM)).astype(np.float32)


def features(images: NDArray[np.uint8], prompt: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """What the graphs compute, in numpy: uint8 (N, 32, 32, 3) RGB, float32 (N, 8) -> float32 (N, 48)."""
    cell = SIDE // GRID
    means = images.reshape(len(images), GRID, cell, GRID, cell, 3).mean(axis=(2, 4)) / 127.5 - 1
    flat = means.transpose(0, 3, 1, 2).reshape(len(images), DIM)
    return np.asarray(flat if prompt is None else flat + prompt @ projection(), dtype=np.float32)


def looks_of_names() -> TextPrototype:
    """Tells of the names of COLOURS what their pictures look like, and of other names nothing that is true."""
    seen = features(np.stack([picture(name) for name in COLOURS]))
    weight = np.linalg.pinv(prompts().select(tuple(COLOURS))) @ seen
    return TextPrototype(np.ascontiguousarray(weight.T, np.float32), np.zeros(DIM, np.float32))


def palette() -> NDArray[np.float32]:
    """What colour a prompt stands for, where the support graph gives scores: float32 (8, 3), right for the names of COLOURS."""
    colours = np.array(list(COLOURS.values())) / 127.5 - 1
    return np.asarray(3 * np.linalg.pinv(prompts().select(tuple(COLOURS))) @ colours, np.float32)


def scores(images: NDArray[np.uint8], prompt: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each cell has a prompt's colour, in numpy: uint8 (N, 32, 32, 3) RGB, float32 (N, 8) -> float32 (N, 4, 4)."""
    planes = features(images).reshape(len(images), 3, GRID, GRID)
    return np.asarray((planes * (prompt @ palette())[:, :, None, None]).sum(axis=1), np.float32)


def graph(
    name: str,
    *,
    half: bool = False,
    batch: str | int = "N",
    side: int = SIDE,
    strength: float = 1.0,
    scored: bool = False,
) -> onnx.ModelProto:
    """The 'query' or 'support' graph; `half` computes in float16, as export's fp16 graphs do; `scored` adds `scores`."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    dtype = np.float16 if half else np.float32
    constants = {
        "scale": np.array(1 / 127.5, dtype),
        "one": np.array(1, dtype),
        "projection": (strength * projection()).astype(dtype),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=kind),
        helper.make_node("Mul", ["numbers", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["centred"]),
        helper.make_node("Transpose", ["centred"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[side // GRID] * 2, strides=[side // GRID] * 2),
        helper.make_node("Flatten", ["means"], ["flat"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, side, side, 3])]
    ends = {"feature": "flat"}
    if name == "support":
        inputs.append(helper.make_tensor_value_info("prompt", TensorProto.FLOAT, [batch, TEXT.dim]))
        nodes += [
            helper.make_node("Cast", ["prompt"], ["words"], to=kind),
            helper.make_node("MatMul", ["words", "projection"], ["hint"]),
            helper.make_node("Add", ["flat", "hint"], ["guided"]),
        ]
        ends = {"feature": "guided", "plain": "flat"}
        if scored:
            constants |= {"palette": palette().astype(dtype), "places": np.array([2, 3]), "channel": np.array([1])}
            nodes += [
                helper.make_node("MatMul", ["words", "palette"], ["colour"]),
                helper.make_node("Unsqueeze", ["colour", "places"], ["wanted"]),
                helper.make_node("Mul", ["means", "wanted"], ["products"]),
                helper.make_node("ReduceSum", ["products", "channel"], ["found"], keepdims=0),
            ]
            ends["scores"] = "found"
    else:
        del constants["projection"]
    nodes += [helper.make_node("Cast", [last], [output], to=TensorProto.FLOAT) for output, last in ends.items()]
    forms = {output: [GRID, GRID] if output == "scores" else [DIM] for output in ends}
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, *form]) for output, form in forms.items()]
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, name, inputs, outputs, initializers),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def calibration(threshold: float = 0.5, sharpness: float = 4.0) -> Calibration:
    """One in which every bank has this threshold."""
    bias = sharpness * math.log(1 - threshold)
    return Calibration(bias, sharpness, between=0, classes=0, evidence=0, left_out=0, unrelated=0, temperature=0.2)


LETTERS = " abcdefghijklmnopqrstuvwxyz"
MAX_TOKENS = 64
UNKNOWN = "?"


def letters() -> NDArray[np.float32]:
    """The text encoder's vector of anything else, and of each of LETTERS: float32 (28, 8)."""
    return np.random.default_rng(3).normal(size=(len(LETTERS) + 1, TEXT.dim)).astype(np.float32)


def encode(sentences: Sequence[str]) -> NDArray[np.float32]:
    """What the text encoder computes, in numpy: the mean of the letters' vectors, n texts -> float32 (n, 8)."""
    return np.array([letters()[[LETTERS.find(c) + 1 for c in s.lower()]].mean(axis=0) for s in sentences], np.float32)


def prompt(*sentences: str) -> NDArray[np.float32]:
    """The prompt of a class that these sentences stand for: their mean at the length 9, float32 (8,)."""
    mean = encode(sentences).mean(axis=0).astype(np.float64)
    return np.asarray(mean * TEXT.norm / np.linalg.norm(mean), np.float32)


def text_graph(dim: int = TEXT.dim) -> onnx.ModelProto:
    """The text encoder: `ids` and `mask` int64 (N, L) -> `vector` float32 (N, 8)."""
    nodes = [
        helper.make_node("Gather", ["letters", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "first"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["vector"]),
    ]
    constants = {"letters": letters()[:, :dim], "last": np.array([2]), "first": np.array([1])}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "text",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "L"]) for name in ("ids", "mask")],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["N", dim])],
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def tokenizer() -> Tokenizer:
    """A token for each letter."""
    made = Tokenizer(models.WordLevel({UNKNOWN: 0, **{c: i + 1 for i, c in enumerate(LETTERS)}}, unk_token=UNKNOWN))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return made


def _write_text(folder: Path) -> TextPart:
    (folder / "text").mkdir()
    part = TextPart("fp32", "text/encoder.onnx", "text/tokenizer.json", "text/golden.safetensors", MAX_TOKENS, 3, 1.0, 1.0)
    onnx.save(text_graph(), folder / part.graph)
    tokenizer().save(str(folder / part.tokenizer))
    names = ("red fox", "unicycle", "赤い 自転車")
    expected = np.stack([prompt(TEXT.template.replace("{name}", name)) for name in names])
    save_tensors(folder / part.golden, {"prompts": expected}, {"names": names})
    return part


def make_bundle(
    folder: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    threshold: float = 0.5,
    strength: float = 1.0,
    mirrored: bool = False,
    text_encoder: bool = False,
    familiarity: Familiarity | None = None,
    text_prototype: TextPrototype | None = None,
    by_name: ByName | None = None,
    scored: bool = False,
    for_cpu: bool = False,
) -> Path:
    """Writes a whole bundle into a folder and gives its path; the last of `precisions` is the bundle's own.

    `for_cpu`: int8 has a form for CPUs, whose prompts count for 0.9 of what they should, so that it can be told.
    """
    (folder / "golden").mkdir(parents=True)
    graphs = {precision: {name: _file(name, precision) for name in ("query", "support")} for precision in precisions}
    for precision, files in graphs.items():
        for name, file in files.items():
            onnx.save(graph(name, half=precision == "fp16", strength=strength, scored=scored), folder / file)
    cpu_graphs = {"int8": {name: f"{name}.int8-cpu.onnx" for name in ("query", "support")}} if for_cpu else {}
    for files in cpu_graphs.values():
        for name, file in files.items():
            onnx.save(graph(name, strength=0.9 * strength, scored=scored), folder / file)
    table = prompts()
    table.save(folder / PROMPTS)
    images = np.stack([picture(name, seed=seed) for seed, name in enumerate(COLOURS)])
    names = [f"golden/{name}.png" for name in COLOURS]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    vectors = table.select(tuple(COLOURS))
    expected = {"prompts": vectors, "query": features(images), "support": features(images, strength * vectors)}
    if scored:
        expected["scores"] = scores(images, vectors)
    save_tensors(folder / GOLDEN, expected, {"images": names})
    save_tensors(folder / BACKGROUND, {"mean": np.zeros(DIM, np.float32), "within": np.zeros((DIM, DIM), np.float32)}, {})
    if familiarity is not None:
        familiarity.save(folder / FAMILIARITY)
    if text_prototype is not None:
        text_prototype.save(folder / NAMES_FILE)
    part = _write_text(folder) if text_encoder else None
    manifest = Manifest(
        versions={"sp-edge": "toy"},
        files=file_entries(folder),
        graphs=graphs,
        precision=precisions[-1],
        preprocess=Preprocess(image_size=SIDE, resize_ratio=1.1),
        feature_dim=DIM,
        text=TEXT,
        calibration=dataclasses.replace(calibration(threshold), by_name=by_name),
        mirrored=mirrored,
        strength=strength,
        training={},
        stages=(),
        text_encoder=part,
        scores=(GRID, GRID) if scored else None,
        cpu_graphs=cpu_graphs,
    )
    write_manifest(folder, manifest)
    return folder


def reseal(folder: Path) -> None:
    """Makes the manifest fit files that a test has changed, as if they had been exported so."""
    manifest = Manifest.from_json(read_json(folder / "manifest.json", BundleError))
    write_manifest(folder, dataclasses.replace(manifest, files=file_entries(folder)))


def _file(name: str, precision: str) -> str:
    return f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx"
