#!/usr/bin/env bash
# onnxoptimizer 0.4.2 drops the first of two Reshapes though the second one copies sizes from it, and the graph computes other numbers.
#
# In ONNX's Reshape a size of 0 means "as in the input". The default pass `eliminate_consecutive_idempotent_ops` takes the first of two
# away whatever the second says, and the zeros then copy from another tensor. Where a -1 takes up the rest, every shape still
# fits. GroupNormalization, written out as ONNX defines it, is such a pair: the groups become channels, and the checker is content.
# What helps: leave that pass out; or compare outputs before and after.
# Seen with Python 3.11, onnx 1.19.1, onnxruntime 1.32.0, numpy 2.2.6; a group normalization of 4 channels in 2 groups:
#   as by hand: True; after onnxoptimizer.optimize: False, off by more than 1: True
#   without that pass: True
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    onnxoptimizer==0.4.2 onnx==1.19.1 onnxruntime==1.32.0 numpy==2.2.6
cat > "$place/show.py" <<'PYTHON'
import numpy as np
import onnx
import onnxoptimizer
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

constants = {"groups": [3, 2, 2, 5, 5], "rows": [0, 0, -1], "axis": [2], "whole": [3, 4, 5, 5]}
nodes = [
    helper.make_node("Reshape", ["x", "groups"], ["grouped"]),
    helper.make_node("Reshape", ["grouped", "rows"], ["row"]),
    helper.make_node("ReduceMean", ["row", "axis"], ["mean"]),
    helper.make_node("Sub", ["row", "mean"], ["centered"]),
    helper.make_node("Mul", ["centered", "centered"], ["squares"]),
    helper.make_node("ReduceMean", ["squares", "axis"], ["variance"]),
    helper.make_node("Sqrt", ["variance"], ["deviation"]),
    helper.make_node("Div", ["centered", "deviation"], ["normal"]),
    helper.make_node("Reshape", ["normal", "whole"], ["y"]),
]
ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4, 5, 5])] for name in "xy"]
inside = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
model = helper.make_model(helper.make_graph(nodes, "graph", *ends, inside), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
x = np.random.default_rng(0).normal(np.arange(4)[:, None, None] * 3, 1, (3, 4, 5, 5)).astype(np.float32)
rows = x.reshape(3, 2, -1)
expected = ((rows - rows.mean(2, keepdims=True)) / rows.std(2, keepdims=True)).reshape(x.shape)


def run(graph):
    checker.check_model(graph, full_check=True)
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def right(found):
    return bool(np.abs(found - expected).max() < 1e-4)


passes = onnxoptimizer.get_fuse_and_elimination_passes()
after = run(onnxoptimizer.optimize(model))
others = run(onnxoptimizer.optimize(model, [each for each in passes if each != "eliminate_consecutive_idempotent_ops"]))
off = bool(np.abs(after - expected).max() > 1)
print(f"as by hand: {right(run(model))}; after onnxoptimizer.optimize: {right(after)}, off by more than 1: {off}")
print(f"without that pass: {right(others)}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
as by hand: True; after onnxoptimizer.optimize: False, off by more than 1: True
without that pass: True
SEEN
echo "as described"
