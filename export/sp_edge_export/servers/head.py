"""Makes a bank's decision a graph of its own: `feature` -> label, confidence and similarity of every class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.errors import BankError
from sp_edge.matching.decide import LEAST_DISTANCE, Floats
from sp_edge.matching.label import UNKNOWN

OPSET = 19
IR_VERSION = 9  # of opset 19: servers whose ONNX Runtime is older than onnx here still read it


@dataclass(frozen=True)
class Decision:
    """What `Head.matches` does, as nodes that read `feature`, float32 (N, D), raw, of the query graph.

    They compute `similarities` float32 (N, C), cosines in the bank's order and metric; `confidences` float32 (N, C), each
    class's; `best` int64 (N, 1), the class that the classifier chose; `believed` bool (N, 1), whether it is no reject and its
    cosine reaches its threshold.
    """

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...]


def check_cropped(bank: Bank) -> None:
    """Refuses a bank whose pictures a server's client would have to fit in another way than by the centred square.

    Raises:
        BankError: it was taught so.
    """
    if bank.fit != "crop":
        raise BankError(
            "servers get the square out of a picture's middle, and this bank was taught with another fit",
            expected="a bank taught with --fit crop",
            got=f"--fit {bank.fit}",
            next_step="teach its classes again into another bank, with --fit crop",
        )


def decision(head: Head) -> Decision:
    """The decision of a bank's head, by its own classifier.

    Raises:
        BankError: no class was taught.
    """
    if not head.names:
        raise BankError("the bank is empty", expected="at least one class", next_step="sp-edge enroll --name NAME PICTURES")
    constants = {
        "least": np.array(1e-12, np.float32),
        "least_distance": np.array(LEAST_DISTANCE, np.float32),
        "whole": np.array(1, np.float32),
        "mean": head.metric.mean,
        "metric": head.metric.matrix,
        "prototypes": np.ascontiguousarray(head.prototypes.T),
        "sharpness": np.array(head.calibration.distance, np.float32),
        "thresholds": head.thresholds,
        "reaches": np.log(np.maximum(1 - head.thresholds.astype(np.float64), LEAST_DISTANCE)).astype(np.float32),
        "classes": np.array([1], np.int64),
        "no_reject": ~head.rejects,
    }
    alike, of_scale = _cosines(head)
    logits, of_logits = _logits(head)
    nodes = (
        *_unit("feature", "direction"),
        helper.make_node("Sub", ["direction", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "metric"], ["whitened"]),
        *_unit("whitened", "seen"),
        *alike,
        logits,
        helper.make_node("Softmax", ["logits"], ["chances"], axis=1),
        helper.make_node("ArgMax", ["chances"], ["best"], axis=1, keepdims=1),
        helper.make_node("GatherElements", ["similarities", "best"], ["nearness"], axis=1),
        helper.make_node("Gather", ["thresholds", "best"], ["threshold"]),
        helper.make_node("GreaterOrEqual", ["nearness", "threshold"], ["near"]),
        helper.make_node("Gather", ["no_reject", "best"], ["class"]),
        helper.make_node("And", ["near", "class"], ["believed"]),
        # matching.known_probability: 1 / (1 + (d / reach)^sharpness) is the sigmoid of sharpness (ln reach - ln d).
        helper.make_node("Sub", ["whole", "nearness"], ["from_best"]),
        helper.make_node("Max", ["from_best", "least_distance"], ["distance"]),
        helper.make_node("Log", ["distance"], ["log_distance"]),
        helper.make_node("Gather", ["reaches", "best"], ["reach"]),
        helper.make_node("Sub", ["reach", "log_distance"], ["within_reach"]),
        helper.make_node("Mul", ["within_reach", "sharpness"], ["log_odds"]),
        helper.make_node("Sigmoid", ["log_odds"], ["taught"]),
        helper.make_node("Mul", ["chances", "taught"], ["confidences"]),
    )
    constants |= of_logits | of_scale
    return Decision(nodes, tuple(numpy_helper.from_array(value, name) for name, value in constants.items()))


def _cosines(head: Head) -> tuple[tuple[NodeProto, ...], dict[str, Floats]]:
    """Cosines to the prototypes, those to classes of the name alone on the others' scale, and the constants for that."""
    scale = head.calibration.by_name
    if scale is None or not head.by_name.any():
        return (helper.make_node("MatMul", ["seen", "prototypes"], ["similarities"]),), {}
    constants = {
        "scale": np.where(head.by_name, scale.scale, 1).astype(np.float32),
        "offset": np.where(head.by_name, scale.offset, 0).astype(np.float32),
        "lowest": np.array(-1, np.float32),
    }
    nodes = (
        helper.make_node("MatMul", ["seen", "prototypes"], ["cosines"]),
        helper.make_node("Mul", ["cosines", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["moved"]),
        helper.make_node("Clip", ["moved", "lowest", "whole"], ["similarities"]),
    )
    return nodes, constants


def _logits(head: Head) -> tuple[NodeProto, dict[str, Floats]]:
    """What the classifier makes of cosines, or of features in the metric, and the constants that it needs."""
    if head.weights is None or head.intercepts is None:
        temperature = {"temperature": np.array(head.calibration.temperature, np.float32)}
        return helper.make_node("Div", ["similarities", "temperature"], ["logits"]), temperature
    regression = {"weights": head.weights, "intercepts": head.intercepts}
    return helper.make_node("Gemm", ["seen", "weights", "intercepts"], ["logits"], transB=1), regression


def _unit(name: str, result: str) -> tuple[NodeProto, ...]:
    """Scales rows to length one; rows of zeros stay so."""
    return (
        helper.make_node("ReduceL2", [name, "classes"], [f"{name}/norm"], keepdims=1),
        helper.make_node("Max", [f"{name}/norm", "least"], [f"{name}/length"]),
        helper.make_node("Div", [name, f"{name}/length"], [result]),
    )


def head_graph(head: Head) -> onnx.ModelProto:
    """The decision for a server: `feature` -> `label` string (N, 1), a name or 'unknown'; `confidence` and `similarity`.

    The number of classes is left open in the outputs' shapes, so that a server's configuration holds for any. A name for it,
    'C', is not enough: ONNX Runtime infers the number from the constants, and Triton then refuses `dims: -1`. What `Compress`
    lets through is not inferred.

    Raises:
        BankError: no class was taught.
    """
    made = decision(head)
    names = {
        "unknown": np.array(len(head.names), np.int64),
        "labels": np.array([*head.names, UNKNOWN], object),
        "every": np.ones(len(head.names), bool),
    }
    results = (
        helper.make_node("Where", ["believed", "best", "unknown"], ["row"]),
        helper.make_node("Gather", ["labels", "row"], ["label"]),
        helper.make_node("Compress", ["confidences", "every"], ["confidence"], axis=1),
        helper.make_node("Compress", ["similarities", "every"], ["similarity"], axis=1),
    )
    feature = helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", head.prototypes.shape[1]])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, ["N", 1]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["N", "C"]),
        helper.make_tensor_value_info("similarity", TensorProto.FLOAT, ["N", "C"]),
    ]
    constants = [*made.constants, *(numpy_helper.from_array(value, name) for name, value in names.items())]
    model = helper.make_model(
        helper.make_graph([*made.nodes, *results], "head", [feature], outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sp-edge",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
