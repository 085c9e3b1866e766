"""Stands for Triton's ONNX Runtime backend in a real server; `tests/triton-server` puts it there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    """One model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Nothing is added: the configuration has to say all."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the version's graph."""
        config = json.loads(args["model_config"])
        file = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        self.outputs = [output["name"] for output in config["output"]]
        shapes = {each.name: each.shape for each in (*self.session.get_inputs(), *self.session.get_outputs())}
        for tensor in (*config["input"], *config["output"]):
            for want, got in zip(tensor["dims"], shapes[tensor["name"]][1:], strict=True):
                if isinstance(got, int) and int(want) != got:  # as Triton's own backend has it
                    raise triton.TritonModelException(f"{tensor['name']}: dims {want}, the graph says {got}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers each request for itself."""
        answers = []
        for request in requests:
            found = self.session.run(self.outputs, {each.name(): each.as_numpy() for each in request.inputs()})
            tensors = [triton.Tensor(name, value) for name, value in zip(self.outputs, found, strict=True)]
            answers.append(triton.InferenceResponse(tensors))
        return answers
