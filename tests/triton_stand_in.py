"""Serves a model repository over gRPC and HTTP as Triton does, as far as its configuration files say how.

What it takes for granted is held against a real server by test_served.py, where one is at hand:

- a load takes the model's highest version, and an ensemble's load that of its models, too;
- what is not loaded answers with an error, the index names it without a state;
- a size of an output that the configuration leaves open must be open in ONNX Runtime's session, too (this, Triton's own
  backend for ONNX Runtime demands, which the real server of the tests has not);
- of a batch, no more pictures come than `max_batch_size`;
- over HTTP, tensors are binary behind a JSON head whose length stands in Inference-Header-Content-Length.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import onnxruntime
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

Tensors = dict[str, NDArray[Any]]
DTYPES = {"UINT8": np.uint8, "FP32": np.float32}


class Served(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Loads models, and holds each run to the configuration."""

    def __init__(self, path: Path, *, plans: bool = False, load: bool = True) -> None:
        self.path, self.plans = path, plans
        self.configs: dict[str, Any] = {}
        self.sessions: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        for name in self.names() if load else ():
            self.load(name)

    def names(self) -> list[str]:
        return sorted(file.parent.name for file in self.path.glob("*/config.pbtxt"))

    def load(self, name: str) -> None:
        folder = self.path / name
        config = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        assert config.name == name
        assert config.platform == "ensemble" or config.backend in ("onnxruntime", "tensorrt")
        version = max(int(each.name) for each in folder.iterdir() if each.name.isdecimal())
        for step in config.ensemble_scheduling.step:
            self.load(step.model_name)
        self.configs[name], self.versions[name] = config, version
        if config.platform == "ensemble" or (self.plans and config.backend == "tensorrt"):  # which only a GPU can load
            return
        model = folder / str(version) / config.default_model_filename
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self._check_open(config, session)
        self.sessions[name] = session
        for warm_up in config.model_warmup:
            zeros = {
                tensor_name: np.zeros((warm_up.batch_size, *tensor.dims), self._dtype(tensor))
                for tensor_name, tensor in warm_up.inputs.items()
            }
            self.infer(name, zeros)

    def unload(self, name: str, *, dependents: bool) -> None:
        config = self.configs.pop(name)
        self.sessions.pop(name, None)
        for step in config.ensemble_scheduling.step if dependents else ():
            self.unload(step.model_name, dependents=True)

    def index(self) -> list[dict[str, str]]:
        ready = {name: {"version": str(self.versions[name]), "state": "READY"} for name in self.configs}
        return [{"name": name, **ready.get(name, {})} for name in self.names()]

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

    # --- over gRPC ---

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelConfigResponse(config=self.configs[request.name])

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.RepositoryIndexResponse(models=self.index())

    def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.load(request.model_name)
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.unload(request.model_name, dependents=request.parameters["unload_dependents"].bool_param)
        return service_pb2.RepositoryModelUnloadResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.model_name not in self.configs:
            context.abort(grpc.StatusCode.UNAVAILABLE, "it is not loaded")
        inputs = {
            tensor.name: np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        outputs = self.infer(request.model_name, inputs)
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name in [wanted.name for wanted in request.outputs] or outputs:
            datatype, raw = _raw(outputs[name])
            response.outputs.add(name=name, datatype=datatype, shape=outputs[name].shape)
            response.raw_output_contents.append(raw)
        return response


def _raw(value: NDArray[Any]) -> tuple[str, bytes]:
    """Triton's name of its kind, and its bytes."""
    return ("BYTES", serialize_byte_tensor(value).item()) if value.dtype == object else ("FP32", value.tobytes())


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            _, _, model, what = self.path.strip("/").split("/")
            assert what == "config"
            self._answer(json_format.MessageToDict(served.configs[model], preserving_proto_field_name=True))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match self.path.strip("/").split("/")[1:]:
                case ["repository", "index"]:
                    self._answer(served.index())
                case ["repository", "models", model, "load"]:
                    served.load(model)
                    self._answer({})
                case ["repository", "models", model, "unload"]:
                    served.unload(model, dependents=json.loads(body)["parameters"]["unload_dependents"])
                    self._answer({})
                case ["models", model, "infer"]:
                    self._infer(model, body)

        def _infer(self, model: str, body: bytes) -> None:
            if model not in served.configs:
                self._answer({"error": "it is not loaded"}, status=400)
                return
            start = int(self.headers["Inference-Header-Content-Length"])
            head, inputs = json.loads(body[:start]), {}
            for tensor in head["inputs"]:
                end = start + tensor["parameters"]["binary_data_size"]
                inputs[tensor["name"]] = np.frombuffer(body[start:end], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
                start = end
            outputs, described, content = served.infer(model, inputs), [], b""
            for name in [wanted["name"] for wanted in head.get("outputs", ())] or outputs:
                datatype, raw = _raw(outputs[name])
                shape, size = list(outputs[name].shape), {"binary_data_size": len(raw)}
                described.append({"name": name, "datatype": datatype, "shape": shape, "parameters": size})
                content += raw
            self._answer({"model_name": model, "outputs": described}, content)

        def _answer(self, value: object, content: bytes = b"", status: int = 200) -> None:
            head = json.dumps(value).encode()
            self.send_response(status)
            if content:
                self.send_header("Inference-Header-Content-Length", str(len(head)))
            self.send_header("Content-Length", str(len(head) + len(content)))
            self.end_headers()
            self.wfile.write(head + content)

    return Handler


class Server:
    """The repository on two free ports of this machine.

    Attributes:
        addresses: 'grpc', 'http' -> host and port.
    """

    def __init__(self, path: Path, *, explicit: bool = False) -> None:
        served = Served(path, load=not explicit)
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(served, self._grpc)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
        self._http.daemon_threads = True
        self.addresses = {
            "grpc": f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}",
            "http": f"127.0.0.1:{self._http.server_port}",
        }

    def __enter__(self) -> Server:
        self._grpc.start()
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
