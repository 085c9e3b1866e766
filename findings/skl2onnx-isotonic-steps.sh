#!/usr/bin/env bash
# skl2onnx 1.20.0 turns an isotonic calibration into stairs: probabilities are off by up to 0.20 here, and labels change.
#
# `CalibratedClassifierCV(method="isotonic")` keeps a few points of a curve, and scikit-learn goes along straight lines from one to
# the next. The converted graph takes the nearest point's value instead. The fewer pictures calibrated it, the wider the stairs; and a
# threshold for "unknown" that was chosen in Python cuts elsewhere. No error, no warning. method="sigmoid" is converted exactly.
# What helps: method="sigmoid"; or compare the graph's probabilities with `predict_proba` before it is used.
# Seen with Python 3.11, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.19.1, numpy 2.2.6; calibrated with 60 samples:
#   isotonic: probabilities differ by more than 0.15: True, labels differ: True
#   sigmoid: probabilities differ by more than 0.15: False, labels differ: False
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.19.1 numpy==2.2.6
cat > "$place/show.py" <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression


def graph(model, samples):
    """Labels and probabilities of the converted model."""
    content = to_onnx(model, samples[:1], options={"zipmap": False}).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"X": samples})


rng = np.random.default_rng(0)
samples = np.sort(rng.uniform(-3, 3, (60, 1)), axis=0).astype(np.float32)
of_class = (samples[:, 0] + rng.normal(0, 1, 60) > 0).astype(int)
queries = np.linspace(-3, 3, 400, dtype=np.float32)[:, None]
for method in ("isotonic", "sigmoid"):
    model = CalibratedClassifierCV(LogisticRegression(), method=method, cv=2).fit(samples, of_class)
    labels, probabilities = graph(model, queries)
    apart, wrong = np.abs(probabilities - model.predict_proba(queries)).max(), (labels != model.predict(queries)).sum()
    print(f"{method}: probabilities differ by more than 0.15: {apart > 0.15}, labels differ: {wrong > 0}")
    print(f"exactly: {apart:.2g}, {wrong} of 400 labels", file=sys.stderr)
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
isotonic: probabilities differ by more than 0.15: True, labels differ: True
sigmoid: probabilities differ by more than 0.15: False, labels differ: False
SEEN
echo "as described"
