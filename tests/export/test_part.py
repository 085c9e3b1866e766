from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sp_edge_export.part import part_for


def model() -> onnx.ModelProto:
    """plain = 2 image, feature = plain + prompt, other = -plain."""
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("image", "prompt")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("feature", "plain", "other")]
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["plain"]),
        helper.make_node("Add", ["plain", "prompt"], ["feature"]),
        helper.make_node("Mul", ["plain", "minus"], ["other"]),
    ]
    weights = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("two", 2), ("minus", -1))]
    made = helper.make_model(
        helper.make_graph(nodes, "g", floats, outputs, weights), opset_imports=[helper.make_opsetid("", 20)]
    )
    made.ir_version = 8
    return made


def test_only_what_the_output_needs_is_left() -> None:
    part = part_for(model(), "plain", called="feature")
    onnx.checker.check_model(part, full_check=True)
    assert [value.name for value in part.graph.input] == ["image"]
    assert [value.name for value in part.graph.output] == ["feature"]
    assert [value.name for value in part.graph.initializer] == ["two"]
    assert [node.op_type for node in part.graph.node] == ["Mul"]
    assert part.graph.node[0].output == ["feature"]
    assert part.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_values_that_others_take_are_renamed_with_them() -> None:
    whole = model()
    del whole.graph.output[1]  # plain is a value within
    part = part_for(whole, "other", called="negative")
    onnx.checker.check_model(part, full_check=True)
    assert [node.output[0] for node in part.graph.node] == ["plain", "negative"]


def test_the_model_itself_is_left_as_it_is() -> None:
    whole = model()
    before = whole.SerializeToString()
    part_for(whole, "plain", called="feature")
    assert whole.SerializeToString() == before


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no output nothing"):
        part_for(model(), "nothing", called="feature")
