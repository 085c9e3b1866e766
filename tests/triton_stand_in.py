"""Serves a model repository over gRPC as Triton does, as far as its configuration files say how: tests have no Triton."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import onnxruntime
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

Tensors = dict[str, NDArray[Any]]
DTYPES = {"UINT8": np.uint8, "FP32": np.float32}


class Served(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Loads every model's highest version, and holds each run to the configuration."""

    def __init__(self, path: Path, *, plans: bool = False) -> None:
        self.configs: dict[str, Any] = {}
        self.sessions: dict[str, Any] = {}
        for file in path.glob("*/config.pbtxt"):
            config = text_format.Parse(file.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
            assert config.name == file.parent.name
            assert config.platform == "ensemble" or config.backend in ("onnxruntime", "tensorrt")
            version = max(int(folder.name) for folder in file.parent.iterdir() if folder.name.isdecimal())
            self.configs[config.name] = config
            if config.platform != "ensemble" and not (plans and config.backend == "tensorrt"):  # which only a GPU can load
                model = file.parent / str(version) / config.default_model_filename
                session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
                self._check_open(config, session)
                self.sessions[config.name] = session
                for warm_up in config.model_warmup:
                    zeros = {
                        name: np.zeros((warm_up.batch_size, *tensor.dims), self._dtype(tensor))
                        for name, tensor in warm_up.inputs.items()
                    }
                    self.infer(config.name, zeros)

    @staticmethod
    def _check_open(config: Any, session: Any) -> None:
        """A size that the configuration leaves open must be open in the session, too: Triton refuses the model elsewhere."""
        shapes = {tensor.name: tensor.shape for tensor in (*session.get_inputs(), *session.get_outputs())}
        for tensor in (*config.input, *config.output):
            for want, got in zip(tensor.dims, shapes[tensor.name][1:], strict=True):
                assert want == got or not isinstance(got, int), (config.name, tensor.name, shapes[tensor.name])

    def infer(self, model: str, inputs: Tensors) -> Tensors:
        config = self.configs[model]
        self._check(config, config.input, inputs)
        if config.platform == "ensemble":
            tensors = dict(inputs)
            for step in config.ensemble_scheduling.step:
                given = {inner: tensors[outer] for inner, outer in step.input_map.items()}
                made = self.infer(step.model_name, given)
                tensors |= {outer: made[inner] for inner, outer in step.output_map.items()}
            outputs = {output.name: tensors[output.name] for output in config.output}
        else:
            names = [output.name for output in config.output]
            outputs = dict(zip(names, self.sessions[model].run(names, inputs), strict=True))
        self._check(config, config.output, outputs)
        return outputs

    def _check(self, config: Any, declared: Any, tensors: Tensors) -> None:
        assert {tensor.name for tensor in declared} == set(tensors)
        for tensor in declared:
            batch, *dims = tensors[tensor.name].shape
            assert 1 <= batch <= config.max_batch_size
            assert all(want in (-1, got) for want, got in zip(tensor.dims, dims, strict=True)), (tensor, dims)
            assert tensors[tensor.name].dtype == self._dtype(tensor)

    @staticmethod
    def _dtype(tensor: Any) -> Any:
        kinds = {"TYPE_UINT8": np.uint8, "TYPE_FP32": np.float32, "TYPE_STRING": object}
        return np.dtype(kinds[model_config_pb2.DataType.Name(tensor.data_type)])

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelConfigResponse(config=self.configs[request.name])

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        inputs = {
            tensor.name: np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        outputs = self.infer(request.model_name, inputs)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for wanted in request.outputs:
            value = outputs[wanted.name]
            text = value.dtype == object
            response.outputs.add(name=wanted.name, datatype="BYTES" if text else "FP32", shape=value.shape)
            raw = serialize_byte_tensor(value).item() if text else value.tobytes()
            response.raw_output_contents.append(raw)
        return response


class Server:
    """The repository on a free port of this machine."""

    def __init__(self, path: Path) -> None:
        self._server = grpc.server(ThreadPoolExecutor(2))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Served(path), self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Server:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop(None).wait()
