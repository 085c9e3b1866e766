#!/usr/bin/env bash
# An int8 graph gives other numbers on CPUs without VNNI, silently: 0.62 of the right ones.
#
# uint8 activations and int8 weights are what ONNX Runtime's quantizer is told to make for CPUs. Without VNNI (AVX2, and AVX-512
# before Cascade Lake) both ONNX Runtime and OpenVINO multiply them with pmaddubsw. It adds two products in 16 bits and cuts off
# what is beyond: 255 * 127 * 2 is 64770, of which 32767 are left. One file is right on one machine and wrong on another. Nothing
# is logged, and a check of the file on a newer CPU shows nothing.
# What helps: seven-bit weights (reduce_range), which are less exact; or a scale for each channel with which the two largest
# weights of one sign add up to 127 at most.
# Seen with Python 3.11, onnxruntime 1.32.0, openvino 2026.4.1, onnx 1.23.2, numpy 2.4.6, on an x86-64 CPU with AVX2 alone:
#   8 bits: Q/DQ in float 1.00 onnxruntime 0.62 openvino 0.62
#   7 bits: Q/DQ in float 1.00 onnxruntime 1.00 openvino 1.00
# On a CPU with VNNI, and on ARM, every figure is to be 1.00.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 openvino==2026.4.1 onnx==1.23.2 numpy==2.4.6
cat > "$place/show.py" <<'PYTHON'
import sys
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

place = sys.argv[1]
rng = np.random.default_rng(0)
weight = rng.uniform(0.8, 1, (8, 64, 1, 1)).astype(np.float32)  # all of one sign, as in a blur or a sum
image = rng.uniform(0.8, 1, (4, 64, 8, 8)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
    "conv",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 8, 8, 8])],
    [numpy_helper.from_array(weight, "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), f"{place}/float.onnx")


class Pictures(CalibrationDataReader):
    def __init__(self):
        self.rest = iter([{"x": image}])

    def get_next(self):
        return next(self.rest, None)


def through_onnxruntime(file, optimized=True):
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, {"x": image})[0]


def through_openvino(file):
    core = openvino.Core()
    return core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"x": image})["y"]


exact = through_onnxruntime(f"{place}/float.onnx")
for bits, reduced in ((8, False), (7, True)):
    file = f"{place}/{bits}.onnx"
    quantize_static(
        f"{place}/float.onnx", file, Pictures(), per_channel=True, reduce_range=reduced,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )
    found = {
        "Q/DQ in float": through_onnxruntime(file, optimized=False),
        "onnxruntime": through_onnxruntime(file),
        "openvino": through_openvino(file),
    }
    print(f"{bits} bits:", *(f"{name} {(each / exact).mean():.2f}" for name, each in found.items()))
PYTHON
"$place/venv/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
cut=1.00
if [ "$(uname -m)" = x86_64 ] && ! grep -qE 'avx512_vnni|avx_vnni' /proc/cpuinfo; then cut=0.62; fi
diff "$place/seen" - <<SEEN
8 bits: Q/DQ in float 1.00 onnxruntime $cut openvino $cut
7 bits: Q/DQ in float 1.00 onnxruntime 1.00 openvino 1.00
SEEN
echo "as described"
