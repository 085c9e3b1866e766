#!/usr/bin/env bash
# OpenVINO's Python hands out bfloat16 numbers as NumPy's float16 of the same bits: 1 reads 1.875, and 0.5 reads 1.75.
#
# NumPy has no bfloat16. OpenVINO 2026.4.1 gives an output of that type, a constant and a tensor's data the dtype float16 without
# changing a bit; who adds or compares them computes with other numbers. In the other direction a float16 array is taken for a
# bfloat16 input as it is, while float32 raises. So a network that was cast to bfloat16 runs, and every number in and out is wrong.
# What helps: `.view(ml_dtypes.bfloat16)` on what comes out, an array of ml_dtypes.bfloat16 for what goes in; or inputs and outputs in
# float32, and bfloat16 by INFERENCE_PRECISION_HINT.
# Seen with Python 3.11, openvino 2026.4.1, numpy 2.3.5, ml_dtypes 0.5.4, on an x86-64 CPU:
#   1, 2, 3 and 0.5 to bfloat16: dtype float16, [1.875, 2.0, 2.125, 1.75]
#   the same bits by ml_dtypes: [1.0, 2.0, 3.0, 0.5]
#   back to float32 from ml_dtypes.bfloat16 [1.0, 2.0, 3.0, 0.5], from float16 [0.0078125, 2.0, 32.0, 3.0517578125e-05]
#   cosine of a feature and itself through bfloat16: 0.85
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "openvino==2026.4.1" "numpy==2.3.5" "ml_dtypes==0.5.4"
cat > "$place/show.py" <<'PYTHON'
import ml_dtypes
import numpy as np
import openvino
from openvino import opset13 as ops

NUMBERS = np.array([1, 2, 3, 0.5], np.float32)


def cast(source, target):
    """A network of one cast, for vectors."""
    x = ops.parameter([-1], source, name="x")
    return openvino.Core().compile_model(openvino.Model([ops.convert(x, target)], [x], "cast"), "CPU")


to_bfloat16, to_float32 = cast(openvino.Type.f32, "bf16"), cast(openvino.Type.bf16, "f32")
out = to_bfloat16(NUMBERS)[0]
print(f"1, 2, 3 and 0.5 to bfloat16: dtype {out.dtype}, {out.tolist()}")
print(f"the same bits by ml_dtypes: {out.view(ml_dtypes.bfloat16).tolist()}")
both = (to_float32(NUMBERS.astype(dtype))[0].tolist() for dtype in (ml_dtypes.bfloat16, np.float16))
print("back to float32 from ml_dtypes.bfloat16 {}, from float16 {}".format(*both))
feature = np.random.default_rng(0).standard_normal(640).astype(np.float32)
other = to_bfloat16(feature)[0].astype(np.float32)
cosine = feature @ other / np.linalg.norm(feature) / np.linalg.norm(other)
print(f"cosine of a feature and itself through bfloat16: {cosine:.2f}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
1, 2, 3 and 0.5 to bfloat16: dtype float16, [1.875, 2.0, 2.125, 1.75]
the same bits by ml_dtypes: [1.0, 2.0, 3.0, 0.5]
back to float32 from ml_dtypes.bfloat16 [1.0, 2.0, 3.0, 0.5], from float16 [0.0078125, 2.0, 32.0, 3.0517578125e-05]
cosine of a feature and itself through bfloat16: 0.85
SEEN
echo "as described"
