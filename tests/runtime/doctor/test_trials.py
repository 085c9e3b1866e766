"""The small network with which the doctor tries a GPU; `python tests/runtime/doctor/test_trials.py` writes it anew."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from host_cuda import DESKTOP, ORIN, host_cuda
from sp_edge.bundle.session import CPU, CUDA
from sp_edge.engines.device import Gpu
from sp_edge.errors import BackendError, MissingExtraError
from sp_edge_runtime.doctor import trials
from tensorrt_on_the_host import StandIn


def graph() -> onnx.ModelProto:
    random = np.random.default_rng(1)
    constants = {
        "kernel": random.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "weights": random.normal(size=(8, 16)).astype(np.float32),
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["seen"], name="conv"),
        helper.make_node("Div", ["seen", "root"], ["scaled"], name="div"),
        helper.make_node("Erf", ["scaled"], ["erf"], name="erf"),
        helper.make_node("Add", ["erf", "one"], ["gate"], name="add"),
        helper.make_node("Mul", ["seen", "gate"], ["gelu"], name="mul"),
        helper.make_node("GlobalAveragePool", ["gelu"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"], name="product"),
        helper.make_node("Softmax", ["logits"], ["feature"], name="softmax", axis=1),
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            "trial",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
            [helper.make_tensor_value_info("feature", TensorProto.FLOAT, [1, 16])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="sp-edge",
    )


def test_the_network_is_the_one_that_is_described_here() -> None:
    assert onnx.load(trials.GRAPH) == graph()


class OnAGpu(onnxruntime.InferenceSession):
    """Stands for ONNX Runtime with CUDA, which runs on the CPU."""

    fails = turns = False

    def __init__(self, content: bytes, options: object, *, providers: list[str], enable_fallback: int) -> None:
        self.asked = providers
        super().__init__(content, options, providers=[CPU])

    def get_providers(self) -> list[str]:
        return self.asked

    def run(self, names: list[str], inputs: Any) -> Any:
        if self.asked == [CUDA] and self.fails:
            raise RuntimeError("CUDA error 209: no kernel image is available for execution on the device")
        found = super().run(names, inputs)
        return [np.flip(value, 1) for value in found] if self.asked == [CUDA] and self.turns else found


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> type[OnAGpu]:
    monkeypatch.setattr(onnxruntime, "InferenceSession", OnAGpu)
    return OnAGpu


def test_onnx_runtime_that_computes_what_the_cpu_does(on_a_gpu: type[OnAGpu]) -> None:
    assert trials.onnx_runtime(CUDA) == pytest.approx(1)


@pytest.mark.parametrize(("fault", "words"), [("fails", "no kernel image is available"), ("turns", "wrong features")])
def test_onnx_runtime_that_does_not(on_a_gpu: type[OnAGpu], monkeypatch: pytest.MonkeyPatch, fault: str, words: str) -> None:
    monkeypatch.setattr(on_a_gpu, fault, True)
    with pytest.raises(BackendError, match=words):
        trials.onnx_runtime(CUDA)


@pytest.fixture(params=[DESKTOP, ORIN], ids=["desktop", "jetson"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    gpu: Gpu = request.param
    cuda = host_cuda(gpu)
    stand_in = StandIn(cuda.driver)
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)  # type: ignore[arg-type]
    monkeypatch.setattr(trials, "open_cuda", lambda: cuda)
    return stand_in


def test_a_tensorrt_that_computes_what_the_cpu_does(trt: StandIn) -> None:
    assert trials.tensorrt("tensorrt") == pytest.approx(1)
    assert trt.driver.clean


@pytest.mark.parametrize("step", ["parse", "build", "deserialise", "context", "address", "execute", "wrong"])
def test_a_tensorrt_that_does_not(trt: StandIn, step: str) -> None:
    trt.refuses = step
    with pytest.raises(BackendError, match="wrong features" if step == "wrong" else f"TensorRT cannot .*[\\s\\S]*{step}"):
        trials.tensorrt("tensorrt")
    assert trt.driver.clean


def test_a_tensorrt_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError):
        trials.tensorrt("tensorrt")


if __name__ == "__main__":
    onnx.save(graph(), trials.GRAPH)
