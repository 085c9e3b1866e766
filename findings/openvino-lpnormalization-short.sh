#!/usr/bin/env bash
# OpenVINO's LpNormalization gives vectors that are too short: of length 0.95 for a feature of length 0.001, 0.33 for one of 0.00012.
#
# ONNX's LpNormalization divides by the length, and has no epsilon. OpenVINO 2026.4.1 adds float32's epsilon, 1.2e-7, to the sum of
# squares, silently. Features after an average or a softmax over many places, or those of a network that was scaled for half
# precision, are that small. Their cosine with a class falls with their length, so a threshold for "unknown" cuts off pictures
# that ONNX Runtime lets through; k nearest neighbors by distance choose others. Long features are right.
# What helps: write ReduceL2, Max with a tiny constant, and Div into the graph; or scale the features up before.
# Seen with Python 3.11, openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.3.5, on an x86-64 CPU; lengths afterwards:
#   lengths before: 10 0.1 0.01 0.001 0.00012
#   LpNormalization: onnxruntime 1.000 1.000 1.000 1.000 1.000, openvino 1.000 1.000 0.999 0.945 0.328
#   ReduceL2, Max, Div: onnxruntime 1.000 1.000 1.000 1.000 1.000, openvino 1.000 1.000 1.000 1.000 1.000
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    "openvino==2026.4.1" "onnxruntime==1.32.0" "onnx==1.23.2" "numpy==2.3.5"
cat > "$place/show.py" <<'PYTHON'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

direction = np.random.default_rng(0).standard_normal(640)
lengths = np.array([10, 0.1, 0.01, 0.001, 0.00012])
features = (lengths[:, None] * direction / np.linalg.norm(direction)).astype(np.float32)


def graph(nodes, constants):
    inside = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 640])] for name in "xy"]
    made = helper.make_graph([helper.make_node(*node[:3], **node[3]) for node in nodes], "graph", *ends, inside)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def words(found):
    return " ".join(f"{each:.3f}" for each in np.linalg.norm(found, axis=1))


one = graph([("LpNormalization", ["x"], ["y"], {"axis": 1, "p": 2})], {})
parts = graph(
    [
        ("ReduceL2", ["x", "axis"], ["length"], {"keepdims": 1}),
        ("Max", ["length", "tiny"], ["divisor"], {}),
        ("Div", ["x", "divisor"], ["y"], {}),
    ],
    {"axis": np.array([1]), "tiny": np.float32(1e-12).reshape(1)},
)
print("lengths before:", *(f"{each:g}" for each in lengths))
for name, content in (("LpNormalization", one), ("ReduceL2, Max, Div", parts)):
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    by_openvino = core.compile_model(core.read_model(content, b""), "CPU", settings)({"x": features})["y"]
    (by_onnxruntime,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": features})
    print(f"{name}: onnxruntime {words(by_onnxruntime)}, openvino {words(by_openvino)}")
PYTHON
"$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
lengths before: 10 0.1 0.01 0.001 0.00012
LpNormalization: onnxruntime 1.000 1.000 1.000 1.000 1.000, openvino 1.000 1.000 0.999 0.945 0.328
ReduceL2, Max, Div: onnxruntime 1.000 1.000 1.000 1.000 1.000, openvino 1.000 1.000 1.000 1.000 1.000
SEEN
echo "as described"
