#!/usr/bin/env bash
# OpenVINO's cache answers with the old weights after a network's .bin was replaced, when `compile_model` is given the path.
#
# With CACHE_DIR, `core.compile_model("network.xml", ...)` looks at the path, the time of change in whole seconds and the size of the
# .xml. It never looks at the .bin, where the weights are. A network that was trained again has the same .xml, so what copies
# changed files only (rsync, layers of images) brings a new .bin alone. An .onnx is hit where size and time stay: `cp -p`, or archives
# and images that are built with fixed times. No error, no log. `core.read_model` first, and then `compile_model` of that, is right.
# What helps: `read_model` first; or a CACHE_DIR for each content.
# Seen with Python 3.11, openvino 2026.4.1, numpy 2.3.5, on an x86-64 CPU; the weights add up to 1, then to 2:
#   the .xml stayed the same: True
#   compile_model(path): 1.0 1.0
#   read_model(path), compile_model(model): 1.0 2.0
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "openvino==2026.4.1" "numpy==2.3.5"
cat > "$place/show.py" <<'PYTHON'
import shutil
import sys
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

place = Path(sys.argv[1])


def save(value):
    """A folder with a network of 64 equal weights, whose sum is the value."""
    x = ops.parameter([1, 64], np.float32, name="x")
    weight = ops.constant(np.full((64, 1), value / 64, np.float32), name="weight")
    product = ops.matmul(x, weight, False, False, name="product")
    result = ops.result(product)
    result.set_friendly_name("y")
    openvino.save_model(openvino.Model([result], [x], "network"), place / str(value) / "network.xml", compress_to_fp16=False)


def answers(cache, compiled):
    """What comes before and after the second .bin is put in the first one's place."""
    found = []
    for value in (1, 2):
        shutil.copy(place / str(value) / "network.bin", place / "network.bin")
        made = compiled(openvino.Core(), {"CACHE_DIR": str(place / cache)})
        found.append(f"{made(np.ones((1, 64), np.float32))[0].item():.1f}")
    return " ".join(found)


for value in (1, 2):
    save(value)
file = place / "network.xml"
shutil.copy(place / "1" / "network.xml", file)
print("the .xml stayed the same:", file.read_bytes() == (place / "2" / "network.xml").read_bytes())
print("compile_model(path):", answers("a", lambda core, settings: core.compile_model(file, "CPU", settings)))
both = answers("b", lambda core, settings: core.compile_model(core.read_model(file), "CPU", settings))
print("read_model(path), compile_model(model):", both)
PYTHON
"$place/env/bin/python" "$place/show.py" "$place" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
the .xml stayed the same: True
compile_model(path): 1.0 1.0
read_model(path), compile_model(model): 1.0 2.0
SEEN
echo "as described"
