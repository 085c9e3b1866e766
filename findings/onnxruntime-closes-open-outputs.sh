#!/usr/bin/env bash
# ONNX Runtime closes a graph's open output width, so a server that was told -1 refuses the model.
#
# A classifier's head holds its classes as a constant (D, C). Its output is declared (N, C) with a symbolic C, since classes
# are added later. ONNX Runtime infers the width from the constant and reports (N, 3): the declaration is not kept. Triton's
# onnxruntime backend compares `dims: [ -1 ]` of its configuration with what the session reports, and does not load the model.
# What helps: `Compress` along the classes with a constant of trues at the end, whose width cannot be inferred.
# Seen with Python 3.11, onnx 1.19.1, onnxruntime 1.23.2:
#   declared ['N', 'C'], reported ['N', 3]
#   with Compress: declared ['N', 'C'], reported ['N', 'C']
#   same numbers: True
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.19.1 onnxruntime==1.23.2 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

def session(opened):
    constants = [numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "classes")]
    nodes = [helper.make_node("MatMul", ["feature", "classes"], ["inner" if opened else "scores"])]
    if opened:
        constants.append(numpy_helper.from_array(np.ones(3, bool), "all"))
        nodes.append(helper.make_node("Compress", ["inner", "all"], ["scores"], axis=1))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", "C"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

closed, opened = session(False), session(True)
print("declared ['N', 'C'], reported", closed.get_outputs()[0].shape)
print("with Compress: declared ['N', 'C'], reported", opened.get_outputs()[0].shape)
row = {"feature": np.arange(8, dtype=np.float32).reshape(2, 4)}
print("same numbers:", bool((closed.run(None, row)[0] == opened.run(None, row)[0]).all()))
PYTHON
"$place/venv/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
declared ['N', 'C'], reported ['N', 3]
with Compress: declared ['N', 'C'], reported ['N', 'C']
same numbers: True
SEEN
echo "as described"
