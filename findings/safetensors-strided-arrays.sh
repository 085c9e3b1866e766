#!/usr/bin/env bash
# safetensors 0.8.0 saves a transposed or strided NumPy array with its numbers in the wrong places, and raises nothing.
#
# `safetensors.numpy.save` writes the array's shape, but the bytes of the memory behind it. 0.7.0 made the array contiguous
# first. So a prototype matrix that was transposed comes back as another matrix of the same shape.
# What helps: `np.ascontiguousarray` before every save.
# Seen with Python 3.11, numpy 2.3.5:
#   0.7.0: transposed [[0, 3], [1, 4], [2, 5]] every second column [[0, 2], [3, 5]]
#   0.8.0: transposed [[0, 1], [2, 3], [4, 5]] every second column [[0, 1], [2, 3]]
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
cat > "$place/show.py" <<'PYTHON'
import numpy as np
from safetensors import __version__
from safetensors.numpy import load, save

array = np.arange(6, dtype=np.float32).reshape(2, 3)
back = [load(save({"a": given}))["a"].astype(int).tolist() for given in (array.T, array[:, ::2])]
print(f"{__version__}: transposed {back[0]} every second column {back[1]}")
PYTHON
for version in 0.7.0 0.8.0; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/pip" install --quiet --disable-pip-version-check "safetensors==$version" "numpy==2.3.5"
    "$place/$version/bin/python" "$place/show.py" | tee -a "$place/seen"
done
diff "$place/seen" - <<'SEEN'
0.7.0: transposed [[0, 3], [1, 4], [2, 5]] every second column [[0, 2], [3, 5]]
0.8.0: transposed [[0, 1], [2, 3], [4, 5]] every second column [[0, 1], [2, 3]]
SEEN
echo "as described"
