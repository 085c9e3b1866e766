"""Counts what the layers of a network and of a built engine compute in, and holds it against the precision asked for."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sp_edge.errors import ExportError
from sp_edge.precisions import EXPORTED, PRECISIONS

# TensorRT's names of what sp-edge's graphs may hold -> numpy's.
DTYPES = {
    "BOOL": "bool",
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
}
# The inspector says 'Half', or a sentence such as 'Channel major FP16 format where channel % 8 == 0'.
_SAID = {"float32": r"\b(float|fp32)\b", "float16": r"\b(half|fp16)\b", "int8": r"\bint8\b"}


def dtype_name(dtype: Any) -> str:
    """Numpy's name of a TensorRT DataType; TensorRT's own, in small letters, where numpy has none."""
    name = str(dtype).rsplit(".", 1)[-1]
    return DTYPES.get(name, name.lower())


def layer_dtypes(network: Any) -> dict[str, int]:
    """How many layers of a parsed network give each dtype."""
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.num_outputs:
            tensor = layer.get_output(0)
            counts[dtype_name(tensor.dtype)] += 1
    return dict(sorted(counts.items()))


def kernel_dtypes(inspected: str) -> dict[str, int] | None:
    """How many layers of a built engine give each dtype, from its inspector's JSON; None where that does not say."""
    try:
        layers = json.loads(inspected)["Layers"]
        said = [str(output["Format/Datatype"]) for layer in layers for output in layer["Outputs"][:1]]
    except (ValueError, KeyError, TypeError):
        return None
    names = [name for words in said for name, pattern in _SAID.items() if re.search(pattern, words, re.IGNORECASE)]
    return dict(sorted(Counter(names).items())) or None


def check_precision(precision: str, counts: Mapping[str, int], what: str) -> None:
    """Holds what is there against what was asked for.

    Raises:
        ExportError: no layer has the precision's dtype, or some have a smaller one.
    """
    wanted = PRECISIONS[precision].dtype
    smaller = tuple(PRECISIONS[name].dtype for name in EXPORTED[EXPORTED.index(precision) + 1 :])
    if wanted not in counts or any(dtype in counts for dtype in smaller):
        raise ExportError(
            f"{what} is not the {precision} that was asked for",
            expected=f"layers in {wanted}" + (f", none in {' or '.join(smaller)}" if smaller else ""),
            got=", ".join(f"{count} in {dtype}" for dtype, count in counts.items()) or "no layer",
            next_step="export the bundle again",
        )
