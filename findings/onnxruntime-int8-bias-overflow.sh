#!/usr/bin/env bash
# ONNX Runtime 1.32.0 loses the bias of a quantized convolution's channel whose weights are all but zero, and says nothing.
#
# A model in QDQ form may keep its biases in float32. The optimizer `WeightBiasQuantization` then makes each an int32 of the scale
# (input scale x weight scale). Where a channel's weights are tiny, so is that scale, and the number does not fit into 32 bits.
# Pruned and mobile networks (EfficientNet-Lite's depthwise layers) have such channels: its features fell to a cosine of 0.36.
# What helps: the session option `optimization.disable_specified_optimizers` = `WeightBiasQuantization`.
# Seen with Python 3.11 on a CPU; both channels have the bias 0.5, the second has weights of 1e-8:
#   1.32.0: default [0.85, 0.0]; without WeightBiasQuantization [0.85, 0.5]; without any optimizer [0.85, 0.5]
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==1.32.0" "onnx==1.23.2" "numpy==2.3.5"
cat > "$place/show.py" <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

parts = {
    "weight": np.array([[50, -30], [50, -30]], np.int8).reshape(2, 2, 1, 1),
    "scales": np.array([1e-2, 1e-10], np.float32),
    "zeros": np.zeros(2, np.int8),
    "bias": np.array([0.5, 0.5], np.float32),
    "scale": np.array(0.01, np.float32),
    "zero": np.array(0, np.int8),
}
nodes = [
    helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"]),
    helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["seen"]),
    helper.make_node("DequantizeLinear", ["weight", "scales", "zeros"], ["kernel"], axis=0),
    helper.make_node("Conv", ["seen", "kernel", "bias"], ["sum"]),
    helper.make_node("QuantizeLinear", ["sum", "scale", "zero"], ["y8"]),
    helper.make_node("DequantizeLinear", ["y8", "scale", "zero"], ["y"]),
]
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 1, 1])] for name in ("x", "y")]
graph = helper.make_graph(nodes, "graph", *ends, [numpy_helper.from_array(value, name) for name, value in parts.items()])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
checker.check_model(model, full_check=True)


def run(off=None, level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    if off:
        options.add_session_config_entry("optimization.disable_specified_optimizers", off)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([1, 0.5], np.float32).reshape(1, 2, 1, 1)})
    return [round(float(value), 2) for value in found.ravel()]


name = "WeightBiasQuantization"
bare = run(level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
print(f"{onnxruntime.__version__}: default {run()}; without {name} {run(name)}; without any optimizer {bare}")
PYTHON
"$place/env/bin/python" "$place/show.py" 2> /dev/null | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
1.32.0: default [0.85, 0.0]; without WeightBiasQuantization [0.85, 0.5]; without any optimizer [0.85, 0.5]
SEEN
echo "as described"
