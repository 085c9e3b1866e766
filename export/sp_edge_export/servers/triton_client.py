"""Recognizes pictures on a Triton server that serves an sp-edge repository.

python client.py grpc://HOST:8001 PICTURE...
python client.py http://HOST:8000 PICTURE...
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess

MODEL = "sp_edge"


def classify(address: str, pictures: list[Path]) -> list[tuple[str, float]]:
    """Each picture's label, a class's name or 'unknown', and the best class's confidence, 0 to 1."""
    protocol, _, place = address.partition("://")
    triton = importlib.import_module(f"tritonclient.{protocol}")  # both have the same classes
    with triton.InferenceServerClient(place) as client:
        # How the server wants pictures to be prepared stands in the model's own configuration.
        config = (
            client.get_model_config(MODEL) if protocol == "http" else client.get_model_config(MODEL, as_json=True)["config"]
        )
        prepare = Preprocess.from_json(json.loads(config["parameters"]["preprocess"]["string_value"]))
        most = config["max_batch_size"]
        results: list[tuple[str, float]] = []
        for start in range(0, len(pictures), most):
            images = np.stack([prepare(load_image(picture)) for picture in pictures[start : start + most]])
            image = triton.InferInput("image", list(images.shape), "UINT8")
            image.set_data_from_numpy(images)
            wanted = [triton.InferRequestedOutput(name) for name in ("label", "confidence")]
            answer = client.infer(MODEL, [image], outputs=wanted)
            labels, confidences = answer.as_numpy("label"), answer.as_numpy("confidence")
            results += [(name.decode(), float(row.max())) for (name,), row in zip(labels, confidences, strict=True)]
    return results


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].startswith(("grpc://", "http://")):
        sys.exit(__doc__)
    paths = [Path(argument) for argument in sys.argv[2:]]
    for path, (label, confidence) in zip(paths, classify(sys.argv[1], paths), strict=True):
        print(f"{path}: {label}, {100 * confidence:.0f} %")
