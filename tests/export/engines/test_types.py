from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sp_edge.errors import ExportError
from sp_edge_export.engines.types import check_precision, dtype_name, kernel_dtypes, layer_dtypes


def inspected(*said: str) -> str:
    """The inspector's JSON, as TensorRT 10 writes it with detailed verbosity."""
    layers = [
        {
            "Name": f"conv{i}",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 16, 56, 56], "Format/Datatype": "Int8"}],
            "Outputs": [{"Name": "y", "Dimensions": [1, 96, 28, 28], "Format/Datatype": words}],
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16",
        }
        for i, words in enumerate(said)
    ]
    return json.dumps({"Layers": layers, "Bindings": ["image", "feature"]})


@pytest.mark.parametrize(
    ("words", "dtype"),
    [
        ("Half", "float16"),
        ("Float", "float32"),
        ("Int8", "int8"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"),
        ("Row major linear FP32", "float32"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
    ],
)
def test_both_ways_in_which_the_inspector_names_a_dtype(words: str, dtype: str) -> None:
    assert kernel_dtypes(inspected(words, words)) == {dtype: 2}


def test_kernels_are_counted_by_what_they_give() -> None:
    assert kernel_dtypes(inspected("Half", "Int8", "Half", "Int64")) == {"float16": 2, "int8": 1}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"Layers": ["conv", "softmax"]}', '{"Layers": [{"Outputs": [{}]}]}', inspected(), "[1" * 9]
)
def test_an_inspector_that_does_not_say(text: str) -> None:
    assert kernel_dtypes(text) is None


def test_the_networks_layers_are_counted_by_what_they_give() -> None:
    def layer(*dtypes: str) -> Any:
        return SimpleNamespace(num_outputs=len(dtypes), get_output=lambda i: SimpleNamespace(dtype=f"DataType.{dtypes[i]}"))

    layers = [layer("HALF"), layer("FLOAT", "INT64"), layer("HALF"), layer(), layer("FP8")]
    network = SimpleNamespace(num_layers=len(layers), get_layer=lambda i: layers[i])
    assert layer_dtypes(network) == {"float16": 2, "float32": 1, "fp8": 1}
    assert dtype_name("DataType.UINT8") == "uint8"


@pytest.mark.parametrize(
    ("precision", "counts"),
    [
        ("fp32", {"float32": 5, "int64": 2}),
        ("fp16", {"float16": 5, "float32": 2}),
        ("int8", {"int8": 5, "float16": 3, "float32": 1}),
        ("int8", {"int8": 1}),
    ],
)
def test_the_precision_that_was_asked_for(precision: str, counts: dict[str, int]) -> None:
    check_precision(precision, counts, "the network")


@pytest.mark.parametrize(
    ("precision", "counts"),
    [
        ("fp32", {"float32": 5, "float16": 1}),
        ("fp32", {"float32": 5, "int8": 1}),
        ("fp16", {"float32": 5}),
        ("fp16", {"float16": 5, "int8": 1}),
        ("int8", {"float16": 5, "float32": 1}),
        ("int8", {}),
    ],
)
def test_another_precision_is_refused_by_its_counts(precision: str, counts: dict[str, int]) -> None:
    with pytest.raises(ExportError, match=f"the engine is not the {precision} that was asked for") as raised:
        check_precision(precision, counts, "the engine")
    assert all(f"{count} in {dtype}" in raised.value.got for dtype, count in counts.items())
    assert raised.value.got
