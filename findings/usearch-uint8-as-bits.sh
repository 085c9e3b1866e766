#!/usr/bin/env bash
# usearch takes NumPy's uint8 vectors for packed bits, also in an index of float32 or uint8: of 8 numbers it keeps the first one's bits.
#
# Pixels, histograms and quantized features are uint8. `add` and `search` of usearch 2.26.6 read 8 dimensions out of every byte, so the
# first eighth of each vector is stored as zeros and ones, and the rest is not looked at. Shapes fit, nothing is raised, and the
# nearest neighbor of a stored vector is still itself, at distance 0. float32 of the same numbers is right.
# What helps: `.astype(np.float32)` before `add` and `search`; or `dtype="u8"` in both calls.
# Seen with Python 3.11, numpy 2.3.5; the vector is 28 130 59 98 7 200 64 3:
#   uint8 in an index of f32: [0, 0, 0, 1, 1, 1, 0, 0]
#   uint8 in an index of u8: [0, 0, 0, 1, 1, 1, 0, 0]
#   uint8 in an index of u8, with dtype='u8': [28, 130, 59, 98, 7, 200, 64, 3]
#   float32 in an index of f32: [28, 130, 59, 98, 7, 200, 64, 3]
#   uint8: the right neighbor for 11 of 100
#   float32: the right neighbor for 100 of 100
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import numpy as np
from usearch.index import Index

vector = np.array([28, 130, 59, 98, 7, 200, 64, 3], np.uint8)


def kept(given, dtype, **said):
    """What an index of the type keeps of the vector."""
    index = Index(ndim=8, metric="l2sq", dtype=dtype)
    index.add(0, given, **said)
    return index.get(0).astype(int).ravel().tolist()


print("uint8 in an index of f32:", kept(vector, "f32"))
print("uint8 in an index of u8:", kept(vector, "u8"))
print("uint8 in an index of u8, with dtype='u8':", kept(vector, "u8", dtype="u8"))
print("float32 in an index of f32:", kept(vector.astype(np.float32), "f32"))
rng = np.random.default_rng(0)
vectors = rng.integers(0, 256, (100, 64), np.uint8)
queries = np.clip(vectors + rng.normal(0, 60, vectors.shape), 0, 255).astype(np.uint8)
for given in (np.uint8, np.float32):
    index = Index(ndim=64, metric="l2sq", dtype="f32")
    index.add(np.arange(100), vectors.astype(given))
    found = np.array(index.search(queries.astype(given), 1, exact=True).keys).ravel()
    print(f"{given.__name__}: the right neighbor for {(found == np.arange(100)).sum()} of 100")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
uint8 in an index of f32: [0, 0, 0, 1, 1, 1, 0, 0]
uint8 in an index of u8: [0, 0, 0, 1, 1, 1, 0, 0]
uint8 in an index of u8, with dtype='u8': [28, 130, 59, 98, 7, 200, 64, 3]
float32 in an index of f32: [28, 130, 59, 98, 7, 200, 64, 3]
uint8: the right neighbor for 11 of 100
float32: the right neighbor for 100 of 100
SEEN
echo "as described"
