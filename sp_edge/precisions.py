"""The precisions that graphs compute in, each with what export and every engine hold it to.

A new one is an entry here and, where graphs have to be converted for it, a file in `sp_edge_export.precisions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Precision:
    """One precision.

    Attributes:
        name: as users write it.
        dtype: numpy's name of the smallest type that its graphs' layers give.
        cosine_mean, cosine_min: least cosine of its features, on average and of any picture, to those that it was made from:
            of fp32 to PyTorch's, of the others to fp32's.
        plain_cosine_min: least cosine of the support graph's plain features to the query graph's, which are the same.
        score_difference: how far the support graph's scores of places may be off on average, in deviations of a score.
        graphs: name of the precision whose graphs it runs; its own, unless the engine alone makes it.
        pictures: whether its conversion looks at calibration pictures: never, where they are given, or always.
        beside: precision that a bundle gets besides, since some devices run it faster; empty for none.
    """

    name: str
    dtype: str
    cosine_mean: float
    cosine_min: float
    plain_cosine_min: float
    score_difference: float
    graphs: str
    pictures: Literal["never", "given", "always"] = "never"
    beside: str = ""


PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("fp32", "float32", 0.99999, 0.9999, 0.99999, 0.01, graphs="fp32"),
        Precision("fp16", "float16", 0.9995, 0.999, 0.9999, 0.05, graphs="fp16", pictures="given"),
        Precision("bf16", "bfloat16", 0.9995, 0.999, 0.9999, 0.05, graphs="fp32"),  # OpenVINO's alone
        Precision("int8", "int8", 0.98, 0.9, 0.999, 0.5, graphs="int8", pictures="always", beside="fp16"),
    )
}
CPU = "-cpu"  # ends the name of the stage that measures a precision's form for CPUs


def limits_of(stage: str) -> Precision:
    """What a stage of an export is held to: 'int8-cpu', the form for CPUs, to the same as 'int8'."""
    return PRECISIONS[stage.removesuffix(CPU)]


# Those that a bundle holds graphs of, from the widest type to the smallest.
EXPORTED = tuple(name for name, precision in PRECISIONS.items() if precision.graphs == name)
