"""A graph as small as a graph can be, for tests of what is done with graphs that nobody runs."""

from __future__ import annotations

from onnx import TensorProto, helper


def placeholder(weight: bytes) -> bytes:
    """A graph of one operator, whose weight is these bytes."""
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", len(weight)])] for name in ("image", "feature")
    )
    weights = [helper.make_tensor("weight", TensorProto.UINT8, [len(weight)], weight, raw=True)]
    node = helper.make_node("Add", ["image", "weight"], ["feature"])
    made: bytes = helper.make_model(helper.make_graph([node], "placeholder", inputs, outputs, weights)).SerializeToString()
    return made
