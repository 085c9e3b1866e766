"""Recognizes pictures on a Triton server that serves an sp-edge repository: python client.py HOST:PORT PICTURE..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

from sp_edge.pictures import load_image
from sp_edge.preprocess import Preprocess

MODEL = "sp_edge"


def classify(address: str, pictures: list[Path]) -> list[tuple[str, float]]:
    """Each picture's label, a class's name or 'unknown', and the best class's confidence, 0 to 1."""
    with triton.InferenceServerClient(address) as client:
        config = client.get_model_config(MODEL).config
        prepare = Preprocess.from_json(json.loads(config.parameters["preprocess"].string_value))
        results: list[tuple[str, float]] = []
        for start in range(0, len(pictures), config.max_batch_size):
            images = np.stack([prepare(load_image(picture)) for picture in pictures[start : start + config.max_batch_size]])
            image = triton.InferInput("image", list(images.shape), "UINT8")
            image.set_data_from_numpy(images)
            wanted = [triton.InferRequestedOutput(name) for name in ("label", "confidence")]
            answer = client.infer(MODEL, [image], outputs=wanted)
            labels, confidences = answer.as_numpy("label"), answer.as_numpy("confidence")
            results += [(name.decode(), float(row.max())) for (name,), row in zip(labels, confidences, strict=True)]
    return results


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    paths = [Path(argument) for argument in sys.argv[2:]]
    for path, (label, confidence) in zip(paths, classify(sys.argv[1], paths), strict=True):
        print(f"{path}: {label}, {100 * confidence:.0f} %")
