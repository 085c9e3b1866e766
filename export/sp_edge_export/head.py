"""Makes a bank's decision a graph of its own: `feature` -> label, confidence and similarity of every class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sp_edge.bank import Bank
from sp_edge.errors import BankError
from sp_edge.matching import UNKNOWN

OPSET = 19
IR_VERSION = 9  # of opset 19: servers whose ONNX Runtime is older than onnx here still read it


@dataclass(frozen=True)
class Decision:
    """What `matching.match` does, as nodes that read `feature`, float32 (N, D), raw, of the query graph.

    They compute `similarity` float32 (N, C), cosines in the bank's order; `confidence` float32 (N, C), softmax of them;
    `best` int64 (N, 1), the most similar class; `believed` bool (N, 1), whether it reaches its threshold.
    """

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...]


def decision(bank: Bank, temperature: float) -> Decision:
    """The bank's decision.

    Raises:
        BankError: no class was taught.
    """
    if not bank.names:
        raise BankError("the bank is empty", expected="at least one class", next_step="sp-edge enroll --name NAME PICTURES")
    constants = {
        "least": np.array(1e-12, np.float32),
        "prototypes": np.ascontiguousarray(bank.prototypes.T),
        "temperature": np.array(temperature, np.float32),
        "thresholds": bank.thresholds,
        "classes": np.array([1], np.int64),
    }
    nodes = (
        helper.make_node("ReduceL2", ["feature", "classes"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "least"], ["length"]),
        helper.make_node("Div", ["feature", "length"], ["direction"]),
        helper.make_node("MatMul", ["direction", "prototypes"], ["similarity"]),
        helper.make_node("Div", ["similarity", "temperature"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["confidence"], axis=1),
        helper.make_node("ArgMax", ["similarity"], ["best"], axis=1, keepdims=1),
        helper.make_node("ReduceMax", ["similarity", "classes"], ["highest"], keepdims=1),
        helper.make_node("Gather", ["thresholds", "best"], ["threshold"]),
        helper.make_node("GreaterOrEqual", ["highest", "threshold"], ["believed"]),
    )
    return Decision(nodes, tuple(numpy_helper.from_array(value, name) for name, value in constants.items()))


def head_graph(bank: Bank, temperature: float) -> onnx.ModelProto:
    """The decision for a server: `feature` -> `label` string (N, 1), a name or 'unknown'; `confidence` and `similarity`.

    The number of classes is left open in the outputs' shapes, so that a server's configuration holds for any.

    Raises:
        BankError: no class was taught.
    """
    made = decision(bank, temperature)
    names = {
        "unknown": np.array(len(bank.names), np.int64),
        "labels": np.array([*bank.names, UNKNOWN], object),
    }
    label = (
        helper.make_node("Where", ["believed", "best", "unknown"], ["row"]),
        helper.make_node("Gather", ["labels", "row"], ["label"]),
    )
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", bank.prototypes.shape[1]])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["N", 1]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["N", "C"]),
        helper.make_tensor_value_info("similarity", TensorProto.FLOAT, ["N", "C"]),
    ]
    constants = [*made.constants, *(numpy_helper.from_array(value, name) for name, value in names.items())]
    model = helper.make_model(
        helper.make_graph([*made.nodes, *label], "head", [feature], outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sp-edge",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
