from __future__ import annotations

from contextlib import suppress

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from hostile import damaged
from sp_edge.bundle.onnx_file import Message, check_whole, read_model, tensor_content

KINDS = {
    TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16, TensorProto.INT8: np.int8,
    TensorProto.UINT8: np.uint8, TensorProto.INT16: np.int16, TensorProto.UINT16: np.uint16, TensorProto.INT32: np.int32,
    TensorProto.UINT32: np.uint32, TensorProto.INT64: np.int64, TensorProto.UINT64: np.uint64, TensorProto.BOOL: np.bool_,
}  # fmt: skip


def message(tensor: TensorProto) -> Message:
    return Message(memoryview(tensor.SerializeToString()))


@given(st.sampled_from(list(KINDS)), st.integers(0, 2**32), st.lists(st.integers(0, 3), max_size=3))
def test_a_tensor_is_what_onnx_reads_whichever_way_it_is_held(kind: int, seed: int, shape: list[int]) -> None:
    rng, dtype = np.random.default_rng(seed), np.dtype(KINDS[kind])
    count = int(np.prod(shape, dtype=int))
    values = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(shape)
    values = values.astype(np.uint8).astype(bool) if dtype == np.bool_ else np.nan_to_num(values)
    raw = numpy_helper.from_array(values, "w")
    single = helper.make_tensor("w", kind, shape, values.ravel().tolist())
    for tensor in (raw, single):
        assert numpy_helper.to_array(tensor).tobytes() == values.tobytes()
        found_kind, found_shape, numbers = tensor_content(message(tensor))
        assert (found_kind, list(found_shape), bytes(numbers)) == (kind, shape, values.tobytes())


def test_texts_are_told_apart() -> None:
    found = {
        bytes(tensor_content(message(helper.make_tensor("t", TensorProto.STRING, [2], texts)))[2])
        for texts in (["ab", "c"], ["a", "bc"], ["", "abc"])
    }
    assert len(found) == 3


def model(*, attribute: TensorProto | None = None, weight: TensorProto | None = None, nest: bool = False) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info("feature", TensorProto.FLOAT, None)]
    node = helper.make_node("Constant", [], ["feature"], value=attribute or numpy_helper.from_array(np.ones(3, np.float32)))
    graph = helper.make_graph([node], "g", [], ends, [weight] if weight else [])
    if nest:
        graph = helper.make_graph([helper.make_node("Loop", ["", ""], ["feature"], body=graph)], "outer", [], ends)
    return helper.make_model(graph)


def outside(name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def test_a_whole_file_passes() -> None:
    check_whole(model(weight=numpy_helper.from_array(np.zeros(2), "location")).SerializeToString())


@pytest.mark.parametrize("where", ["weight", "attribute", "nested", "sparse", "function"])
def test_a_file_that_names_others_is_refused_wherever_it_does(where: str) -> None:
    made = model(weight=outside()) if where == "weight" else model(attribute=outside(), nest=where == "nested")
    if where == "sparse":
        made = model()
        made.graph.sparse_initializer.add().values.CopyFrom(outside())
    if where == "function":
        made = model()
        made.functions.add(name="f").node.append(helper.make_node("Constant", [], ["x"], value=outside()))
    with pytest.raises(ValueError, match="reads other files: external data of 'w'"):
        check_whole(made.SerializeToString())


@pytest.mark.parametrize("half", ["location", "name"])
def test_half_a_mark_of_another_file_is_enough(half: str) -> None:
    tensor = outside()
    if half == "location":
        del tensor.external_data[:]
    else:
        tensor.ClearField("data_location")
    with pytest.raises(ValueError, match="other files"):
        check_whole(model(weight=tensor).SerializeToString())


def test_a_field_that_stands_twice_is_not_merged_as_other_readers_do() -> None:
    sound, forged = model().SerializeToString(), model(weight=outside()).SerializeToString()
    with pytest.raises(ValueError, match="stands twice"):
        read_model(sound + forged)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no graph"),
        (b"\x3a", "ends within a number"),
        (b"\x3a\x05ab", "beyond the end"),
        (b"\x3b", "unknown kind 3"),
        (b"\x38\x01", "is a number"),
        (b"\x3a" + b"\xff" * 12, "too many bytes"),
        (b"\x02\x00", "beyond the end"),
    ],
)
def test_what_is_no_message(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_model(content)


@given(st.binary(max_size=60) | st.integers(0, 2**32).map(lambda seed: damaged(model().SerializeToString(), seed)))
def test_anything_is_read_or_refused(content: bytes) -> None:
    try:
        check_whole(content)
    except ValueError:
        return
    with suppress(DecodeError):  # of texts that are no UTF-8, say
        made = onnx.load_from_string(content)
        tensors = [*made.graph.initializer, *(attribute.t for node in made.graph.node for attribute in node.attribute)]
        assert not any(external_data_helper.uses_external_data(tensor) for tensor in tensors), "nobody reads another file"
