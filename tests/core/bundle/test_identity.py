from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hostile import damaged
from sp_edge.bundle.identity import graph_digest

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
Change = Callable[[onnx.GraphProto], None]


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None, opset: int = 20) -> onnx.ModelProto:
    """image float32 (N, 3) -> feature."""
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    image, feature = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "C"]) for name in ("image", "feature"))
    graph = helper.make_graph(nodes, "g", [image], [feature], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def usual() -> onnx.ModelProto:
    """Two layers, a Softmax and a skip connection."""
    nodes = [
        helper.make_node("MatMul", ["image", "weight"], ["a"], name="first"),
        helper.make_node("Softmax", ["a"], ["b"], axis=1),
        helper.make_node("Split", ["b"], ["c", "d"], axis=1, num_outputs=2),
        helper.make_node("Sub", ["c", "d"], ["e"]),
        helper.make_node("Add", ["e", "bias"], ["feature"]),
    ]
    return model(nodes, {"weight": WEIGHT, "bias": np.ones(2, np.float32)})


def digest(made: onnx.ModelProto) -> str:
    return graph_digest(made.SerializeToString())


def changed(change: Change) -> str:
    made = usual()
    change(made.graph)
    return digest(made)


# --- what does not count ---


def rename(graph: onnx.GraphProto) -> None:
    new = {name: f"val_{number}" for number, name in enumerate(("a", "b", "c", "d", "e", "weight", "bias"))}
    for node in graph.node:
        node.name = f"node_{node.op_type}"
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = new[tensor.name]


def note(graph: onnx.GraphProto) -> None:
    graph.name, graph.doc_string = "another", "made on a Monday"
    graph.node[0].doc_string = graph.initializer[0].doc_string = "here"
    graph.node[1].metadata_props.add(key="source", value="line 7")
    graph.node[1].attribute[0].doc_string = "of the classes"
    graph.value_info.add(name="a")


def reorder(graph: onnx.GraphProto) -> None:
    weights = list(graph.initializer)
    del graph.initializer[:]
    graph.initializer.extend(weights[::-1])
    attributes = list(graph.node[2].attribute)
    del graph.node[2].attribute[:]
    graph.node[2].attribute.extend(attributes[::-1])


def add_dead_ends(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.zeros(5), "unused"))
    graph.node.append(helper.make_node("Relu", ["a"], ["nowhere"]))


def hold_the_weight_in_an_operator(graph: onnx.GraphProto) -> None:
    tensor = numpy_helper.from_array(WEIGHT, "")
    graph.initializer.remove(next(weight for weight in graph.initializer if weight.name == "weight"))
    graph.node.insert(0, helper.make_node("Constant", [], ["weight"], value=tensor))


def hold_numbers_one_by_one(graph: onnx.GraphProto) -> None:
    made = helper.make_tensor("weight", TensorProto.FLOAT, WEIGHT.shape, WEIGHT.ravel().tolist())
    assert made.float_data
    graph.initializer[0].CopyFrom(made)


def pass_through(graph: onnx.GraphProto) -> None:
    graph.node[0].output[0] = "before"
    graph.node.insert(1, helper.make_node("Identity", ["before"], ["a"]))


def swap_summands(graph: onnx.GraphProto) -> None:
    graph.node[4].input[:] = ["bias", "e"]


@pytest.mark.parametrize(
    "change",
    [
        rename, note, reorder, add_dead_ends, hold_the_weight_in_an_operator, hold_numbers_one_by_one, pass_through,
        swap_summands,
    ],
)  # fmt: skip
def test_other_words_for_the_same_work_do_not_count(change: Change) -> None:
    assert changed(change) == digest(usual())


def test_another_opset_with_the_same_operators_does_not_count() -> None:
    made = usual()
    made.opset_import[0].version, made.ir_version, made.producer_version = 19, 9, "3"
    assert digest(made) == digest(usual())


# --- what counts ---


def one_bit(graph: onnx.GraphProto) -> None:
    raw = bytearray(graph.initializer[0].raw_data)
    raw[17] ^= 1
    graph.initializer[0].raw_data = bytes(raw)


def another_shape(graph: onnx.GraphProto) -> None:
    graph.initializer[0].dims[:] = [4, 3]


def another_type(graph: onnx.GraphProto) -> None:
    graph.initializer[1].data_type = TensorProto.INT32


def another_operator(graph: onnx.GraphProto) -> None:
    graph.node[1].op_type = "LogSoftmax"


def another_domain(graph: onnx.GraphProto) -> None:
    graph.node[1].domain = "mine"


def another_attribute(graph: onnx.GraphProto) -> None:
    graph.node[1].attribute[0].i = 0


def one_attribute_less(graph: onnx.GraphProto) -> None:
    del graph.node[1].attribute[:]


def another_way_round(graph: onnx.GraphProto) -> None:
    graph.node[3].input[:] = ["d", "c"]


def one_half_twice(graph: onnx.GraphProto) -> None:
    graph.node[3].input[:] = ["c", "c"]


def another_input(graph: onnx.GraphProto) -> None:
    graph.input[0].name = graph.node[0].input[0] = "picture"


def another_output(graph: onnx.GraphProto) -> None:
    graph.output[0].name = "a"


@pytest.mark.parametrize(
    "change",
    [
        one_bit, another_shape, another_type, another_operator, another_domain, another_attribute, one_attribute_less,
        another_way_round, one_half_twice, another_input, another_output,
    ],
)  # fmt: skip
def test_what_changes_the_work_counts(change: Change) -> None:
    assert changed(change) != digest(usual())


# --- Gelu, which has two spellings ---


def gelu(*, outer: bool = False, root: float = 2**0.5, half: float = 0.5, factor: str = "image") -> onnx.ModelProto:
    """x (0.5 (1 + erf(x / sqrt 2))), with its factors and summands as given or the other way round."""
    ways = slice(None, None, -1 if outer else 1)
    nodes = [
        helper.make_node("Div", ["image", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"][ways], ["sum"]),
        helper.make_node("Mul", ["half", "sum"][ways], ["halved"]),
        helper.make_node("Mul", [factor, "halved"][ways], ["feature"]),
    ]
    return model(nodes, {"root": np.float32(root), "one": np.float32(1), "half": np.float32(half)}, opset=19)


def test_gelu_is_one_thing_in_either_spelling() -> None:
    one = model([helper.make_node("Gelu", ["image"], ["feature"])])
    values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3)
    expected, got = (ReferenceEvaluator(made).run(None, {"image": values})[0] for made in (one, gelu()))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    named = model([helper.make_node("Gelu", ["image"], ["feature"], approximate="none")])
    assert digest(one) == digest(named) == digest(gelu()) == digest(gelu(outer=True))


def test_what_is_nearly_gelu_is_not() -> None:
    tanh = model([helper.make_node("Gelu", ["image"], ["feature"], approximate="tanh")])
    exact = model([helper.make_node("Gelu", ["image"], ["feature"])])
    others = [tanh, gelu(root=1.5), gelu(half=0.25), gelu(factor="scaled"), gelu(factor="half"), exact]
    assert len({digest(made) for made in others}) == len(others)


# --- graphs within graphs ---


def branching(weight: float, name: str = "w") -> onnx.ModelProto:
    """An If whose branches see a weight outside."""
    ends = [helper.make_tensor_value_info("end", TensorProto.FLOAT, ["N", "C"])]
    branches = {
        f"{which}_branch": helper.make_graph([helper.make_node(operator, ["image", name], ["end"])], which, [], ends)
        for which, operator in (("then", "Add"), ("else", "Mul"))
    }
    weights = {name: np.float32(weight), "sure": np.array(True)}
    return model([helper.make_node("If", ["sure"], ["feature"], **branches)], weights)


def test_a_weight_that_only_an_inner_graph_sees_counts_and_its_name_does_not() -> None:
    assert digest(branching(1)) == digest(branching(1, "val_3")) != digest(branching(2))


def test_graphs_within_graphs_have_an_end() -> None:
    made = branching(1)
    for _ in range(20):
        made.graph.node[0].attribute[0].g.ParseFromString(made.graph.SerializeToString())
    with pytest.raises(ValueError, match="deep within each other"):
        digest(made)


# --- what is no graph ---


@given(st.integers(0, 2**32))
def test_a_damaged_file_is_another_graph_or_none(seed: int) -> None:
    content = usual().SerializeToString()
    try:
        found = graph_digest(damaged(content, seed))
    except ValueError:
        return
    assert len(found) == 64


def test_a_value_that_nothing_gives() -> None:
    made = usual()
    del made.graph.node[1]
    with pytest.raises(ValueError, match="nothing gives the value 'b'"):
        digest(made)
