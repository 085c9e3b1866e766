#!/usr/bin/env bash
# OpenVINO 2025.4.0 and 2025.4.1 give the numbers of an earlier network, where only the weights differ and CACHE_DIR is set.
#
# The cache names what it compiled after a hash of the model. In these two versions the hash of the weights has only their
# length in it. So a network that was trained again, or two customers' networks of one architecture, are one and the same to it:
# the first one that was compiled answers for all, whatever the files are called. No error, no log. 2025.3.0 and 2026.0.0 are right.
# What helps: another version; or a CACHE_DIR for each content, named after a hash of one's own.
# Seen with Python 3.11, onnx 1.19.1, numpy 2.2.6, on an x86-64 CPU:
#   2025.3.0: without a cache 1.0 2.0, with CACHE_DIR 1.0 2.0
#   2025.4.0: without a cache 1.0 2.0, with CACHE_DIR 1.0 1.0
#   2025.4.1: without a cache 1.0 2.0, with CACHE_DIR 1.0 1.0
#   2026.0.0: without a cache 1.0 2.0, with CACHE_DIR 1.0 2.0
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
cat > "$place/show.py" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

place = Path(sys.argv[1])


def network(value):
    """A file with a network of 64 equal weights, whose sum is the value."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.full((64, 1), value / 64, np.float32), "weight")],
    )
    file = place / f"trained_{value}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def answer(file, settings):
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(file), "CPU", settings)
    return f"{compiled(np.ones((1, 64), np.float32))[0].item():.1f}"


files = network(1), network(2)
version = openvino.__version__.split("-")[0]
bare, cached = ([answer(file, settings) for file in files] for settings in ({}, {"CACHE_DIR": str(place / version)}))
print(f"{version}: without a cache {' '.join(bare)}, with CACHE_DIR {' '.join(cached)}")
PYTHON
for version in 2025.3.0 2025.4.0 2025.4.1 2026.0.0; do
    "$place/env/bin/pip" install --quiet --disable-pip-version-check "openvino==$version" "onnx==1.19.1" "numpy==2.2.6"
    "$place/env/bin/python" "$place/show.py" "$place"
done | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
2025.3.0: without a cache 1.0 2.0, with CACHE_DIR 1.0 2.0
2025.4.0: without a cache 1.0 2.0, with CACHE_DIR 1.0 1.0
2025.4.1: without a cache 1.0 2.0, with CACHE_DIR 1.0 1.0
2026.0.0: without a cache 1.0 2.0, with CACHE_DIR 1.0 2.0
SEEN
echo "as described"
