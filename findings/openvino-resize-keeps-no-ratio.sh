#!/usr/bin/env bash
# OpenVINO stretches pictures where ONNX's Resize says to keep their shape, and passes over two more of its attributes.
#
# A graph may prepare its pictures itself, so that every device does it alike. OpenVINO 2026.4.1 reads Resize without
# keep_aspect_ratio_policy, antialias and exclude_outside, and says nothing: it gives what the defaults would. A picture that is to
# fit into a square becomes the whole square; one that is shrunk by bicubic with antialias keeps the fine patterns that training
# never saw. ONNX Runtime follows all three.
# What helps: compute the size outside, and resize there; or compare the first layer's input with ONNX Runtime's once.
# Seen with Python 3.11, openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.3.5, a picture of 90x160 into 60x60:
#   keep_aspect_ratio_policy 'not_larger': onnxruntime 34x60, openvino 60x60
#   by default both the same: True
#   antialias 1: onnxruntime another picture, openvino exactly the default's
#   exclude_outside 1: onnxruntime another picture, openvino exactly the default's
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

picture = np.random.default_rng(0).random((1, 3, 90, 160), np.float32)


def resized(mode, **attributes):
    """The picture at 60x60, by ONNX Runtime and by OpenVINO."""
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, axes=[2, 3], **attributes)],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 90, 160])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [numpy_helper.from_array(np.array([60, 60]), "sizes")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    return (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": picture})[0],
        core.compile_model(core.read_model(content, b""), "CPU", settings)({"x": picture})[0],
    )


def same(first, second):
    return "exactly the default's" if first.shape == second.shape and np.abs(first - second).max() < 1e-5 else "another picture"


sizes = ("x".join(map(str, each.shape[2:])) for each in resized("linear", keep_aspect_ratio_policy="not_larger"))
print("keep_aspect_ratio_policy 'not_larger': onnxruntime {}, openvino {}".format(*sizes))
default = resized("cubic")
print("by default both the same:", np.abs(default[0] - default[1]).max() < 1e-4)
for name in ("antialias", "exclude_outside"):
    found = resized("cubic", **{name: 1})
    print(f"{name} 1: onnxruntime {same(found[0], default[0])}, openvino {same(found[1], default[1])}")
PYTHON
"$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
keep_aspect_ratio_policy 'not_larger': onnxruntime 34x60, openvino 60x60
by default both the same: True
antialias 1: onnxruntime another picture, openvino exactly the default's
exclude_outside 1: onnxruntime another picture, openvino exactly the default's
SEEN
echo "as described"
