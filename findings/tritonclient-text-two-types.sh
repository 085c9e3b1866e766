#!/usr/bin/env bash
# tritonclient's `as_numpy` gives a text output as bytes when it came in binary, and as str when it came as JSON.
#
# Which one comes is the request's choice (binary_data, True by default) or the server's: those of the Open Inference Protocol that have
# no binary extension answer in JSON. Both arrays have the dtype object and look alike. So `labels == "mug"` is all False with
# one server and right with the next, a dictionary by label finds nothing, and json.dumps fails with one of them only.
# What helps: `[each.decode() if isinstance(each, bytes) else each for each in labels.ravel()]`.
# Seen with Python 3.11, tritonclient 2.73.0, numpy 2.3.5; the labels "mug" and "cup" of two pictures:
#   binary: dtype object, [b'mug', b'cup'], == 'mug': [False, False]
#   JSON: dtype object, ['mug', 'cup'], == 'mug': [True, False]
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "tritonclient[http]==2.73.0" numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import json
import struct

from tritonclient.http import InferResult

LABELS = ["mug", "cup"]


def answer(**output):
    return json.dumps({"model_name": "m", "outputs": [{"name": "label", "datatype": "BYTES", "shape": [2], **output}]}).encode()


parts = b"".join(struct.pack("<I", len(each)) + each.encode() for each in LABELS)
head = answer(parameters={"binary_data_size": len(parts)})
for name, result in (
    ("binary", InferResult.from_response_body(head + parts, header_length=len(head))),
    ("JSON", InferResult.from_response_body(answer(data=LABELS))),
):
    labels = result.as_numpy("label")
    print(f"{name}: dtype {labels.dtype}, {labels.tolist()}, == 'mug': {(labels == 'mug').tolist()}")
PYTHON
"$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
binary: dtype object, [b'mug', b'cup'], == 'mug': [False, False]
JSON: dtype object, ['mug', 'cup'], == 'mug': [True, False]
SEEN
echo "as described"
