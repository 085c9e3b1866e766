"""What is written as text, protobuf reads back."""

from __future__ import annotations

from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from sp_edge_export.servers.pbtxt import Symbol, pbtxt


def test_every_kind_of_value() -> None:
    text = pbtxt({"name": "a", "dims": [1, -1], "on": True, "kind": Symbol("KIND_CPU"), "inner": {"off": False}, "none": {}})
    assert text.splitlines() == [
        'name: "a"',
        "dims: 1",
        "dims: -1",
        "on: true",
        "kind: KIND_CPU",
        "inner {",
        "  off: false",
        "}",
        "none {",
        "}",
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(value: str) -> None:
    config = text_format.Parse(pbtxt({"name": value}), model_config_pb2.ModelConfig())
    assert config.name == value
