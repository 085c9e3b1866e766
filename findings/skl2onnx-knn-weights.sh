#!/usr/bin/env bash
# skl2onnx 1.20.0 converts k nearest neighbors with weights="distance" into a graph in which all neighbors count the same.
#
# The graph turns the distances around to take the smallest ones, and bounds them below afterwards, when they are negative: every
# one becomes 1e-6, and so every weight the same. No error, no warning. Of few-shot episodes with cosine distance and k = 5, 6 of 100
# labels change here; a regressor's answers nearly all do.
# What helps: n_neighbors=1; or compare the graph's probabilities with `predict_proba` before it is used.
# Seen with Python 3.11, scikit-learn 1.9.1, onnxruntime 1.32.0, onnx 1.19.1, numpy 2.2.6; of 0 the distances are 1, 2 and 4, of
# class 0, 1 and 1:
#   scikit-learn: class 0, probabilities 0.57 0.43
#   the graph: class 1, probabilities 0.33 0.67
#   5 ways, 5 shots, cosine: more than 3 of 100 labels differ: True; from weights="uniform": 0
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.19.1 numpy==2.2.6
cat > "$place/show.py" <<'PYTHON'
import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.neighbors import KNeighborsClassifier


def graph(model, shots, queries):
    """Labels and probabilities of the converted model."""
    content = to_onnx(model, shots[:1], options={"zipmap": False}).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"X": queries})


def words(label, probabilities):
    return f"class {label}, probabilities {' '.join(f'{each:.2f}' for each in probabilities)}"


shots, of_class, query = np.array([[1], [2], [4]], np.float32), np.array([0, 1, 1]), np.zeros((1, 1), np.float32)
model = KNeighborsClassifier(3, weights="distance").fit(shots, of_class)
print("scikit-learn:", words(model.predict(query)[0], model.predict_proba(query)[0]))
labels, probabilities = graph(model, shots, query)
print("the graph:", words(labels[0], probabilities[0]))

rng = np.random.default_rng(0)
wrong = other = 0
for _ in range(20):
    centers, of_shot, of_query = rng.standard_normal((5, 64)), np.repeat(np.arange(5), 5), np.repeat(np.arange(5), 15)
    shots, queries = ((centers[each] + 2 * rng.standard_normal((len(each), 64))).astype(np.float32) for each in (of_shot, of_query))
    by_distance, uniform = (KNeighborsClassifier(5, weights=each, metric="cosine").fit(shots, of_shot) for each in ("distance", "uniform"))
    labels, _ = graph(by_distance, shots, queries)
    wrong += (labels != by_distance.predict(queries)).sum()
    other += (labels != uniform.predict(queries)).sum()
print(f'5 ways, 5 shots, cosine: more than 3 of 100 labels differ: {wrong > 45}; from weights="uniform": {other}')
print(f"exactly: {wrong} of 1500")
PYTHON
"$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff <(head -3 "$place/seen") - <<'SEEN'
scikit-learn: class 0, probabilities 0.57 0.43
the graph: class 1, probabilities 0.33 0.67
5 ways, 5 shots, cosine: more than 3 of 100 labels differ: True; from weights="uniform": 0
SEEN
echo "as described"
