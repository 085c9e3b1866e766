"""Which engine a device gets, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

import toy
from command_line import commands
from host_cuda import DESKTOP, host_cuda
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import CPU, CUDA
from sp_edge.cli import cli
from sp_edge.engines.device import Device
from sp_edge.engines.plans import folder_of, plans_of
from sp_edge.errors import BackendError, BundleError, MissingExtraError, PlanError, SettingsError
from sp_edge.precisions import PRECISIONS
from sp_edge_runtime.backends import devices, tensorrt_runtime
from sp_edge_runtime.backends.choices import DEVICES
from sp_edge_runtime.backends.cuda_pycuda import PycudaDriver
from sp_edge_runtime.backends.cuda_python import CudaPythonDriver
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from tensorrt_on_the_host import StandIn, plan_of, put_plans
from toy_plans import put

VERSION = ".".join(onnxruntime.__version__.split(".")[:2])


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


def image() -> Any:
    return toy.picture("red")[None]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with nothing but ONNX Runtime, and no engines."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    for name in ("tensorrt", "tensorrt_rtx", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)


class CudaSession(onnxruntime.InferenceSession):
    """Stands for a session on a GPU: runs on the CPU, and says that CUDA took the graph, or that it did not."""

    works = True
    fails = ""  # what a run raises
    turns = False  # whether the numbers are wrong

    def __init__(self, path: str, options: object, *, providers: list[str], enable_fallback: int) -> None:
        assert enable_fallback == 0
        self.asked = providers
        super().__init__(path, options, providers=[CPU])

    def get_providers(self) -> list[str]:
        return [p for p in self.asked if self.works or p != CUDA]

    def run(self, names: list[str], inputs: Any) -> Any:
        if CUDA in self.asked and self.fails:
            raise RuntimeError(self.fails)
        found = super().run(names, inputs)
        return [value[:, ::-1] for value in found] if CUDA in self.asked and self.turns else found


@pytest.fixture
def cuda_session(monkeypatch: pytest.MonkeyPatch) -> type[CudaSession]:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", CudaSession)
    return CudaSession


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """TensorRT and a GPU; no engines yet."""
    cuda = host_cuda(DESKTOP)
    trt = StandIn(cuda.driver)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(tensorrt_runtime, "open_cuda", lambda: cuda)
    monkeypatch.setattr(devices, "open_cuda", lambda: host_cuda(DESKTOP))
    return trt


@pytest.fixture
def engines(tensorrt: StandIn, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = put_plans(bundle, tmp_path / "engines", DESKTOP)
    monkeypatch.setattr(Device, "here", lambda flavour, version: device)
    return tmp_path / "engines"


def test_auto_on_a_machine_with_nothing_else(bundle: Bundle) -> None:
    with open_backend(bundle) as backend:
        assert backend.description == (
            f"ONNX Runtime {VERSION} on CPU, fp32 (auto: no TensorRT engine was built; this ONNX Runtime has no CUDA provider)"
        )
    with open_backend(bundle, "cpu") as backend:
        assert backend.description == f"ONNX Runtime {VERSION} on CPU, fp32"


def test_a_cpu_takes_fp32_unless_told_otherwise(tmp_path: Path) -> None:
    half = Bundle.load(toy.make_bundle(tmp_path / "half", precisions=("fp32", "fp16")))
    for device in ("auto", "cpu"):
        with open_backend(half, device) as backend:
            assert backend.description.startswith(f"ONNX Runtime {VERSION} on CPU, fp32")
    with open_backend(half, "cpu", "fp16") as backend:
        assert backend.description == f"ONNX Runtime {VERSION} on CPU, fp16"


@pytest.mark.parametrize("device", ["tensorrt", "auto"])
def test_where_int8_was_not_kept_fp16_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    eight = Bundle.load(toy.make_bundle(tmp_path / "eight", precisions=("fp32", "fp16", "int8")))
    built, asked = {"fp16"}, []

    def opened(bundle: Bundle, precision: str | None, *, folder: Path | None) -> OnnxRuntimeBackend:
        asked.append(precision or "int8")
        if asked[-1] not in built:
            raise PlanError(f"no engine of {asked[-1]}")
        return OnnxRuntimeBackend(bundle, precision)  # stands for TensorRT

    monkeypatch.setattr(devices, "open_tensorrt", opened)
    monkeypatch.setattr(devices, "plans_of", lambda *_: [tmp_path / "some.plan"])
    open_backend(eight, device).close()
    assert asked == ["int8", "fp16"]
    with pytest.raises(PlanError, match="no engine of int8"):
        open_backend(eight, "tensorrt", "int8")
    built.clear()
    with pytest.raises(PlanError, match="no engine of int8"):
        open_backend(eight, "tensorrt")


def test_auto_takes_engines_that_fit(bundle: Bundle, engines: Path) -> None:
    with open_backend(bundle, engines=engines) as backend:
        assert backend.description == "TensorRT 10.3.0 on RTX 4090 through host, fp32 (auto)"
        assert backend.run("query", {"image": image()})["feature"].shape == (1, toy.DIM)


def test_engines_that_do_not_fit_are_named(bundle: Bundle, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Device("tensorrt", "10.16.1", "8.9", "RTX 4090", "580.0", "13.0", None, "Linux", "x86_64")
    monkeypatch.setattr(Device, "here", lambda flavour, version: other)
    with pytest.raises(PlanError, match=r"built with version 10\.3\.0, here is 10\.16\.1"):
        open_backend(bundle, "tensorrt", engines=engines)
    with open_backend(bundle, engines=engines) as backend:
        assert backend.description.startswith("ONNX Runtime")
        assert "auto: no engine fits for the fp32 query graph" in backend.description
        assert "here is 10.16.1" in backend.description


def test_a_gpu_that_fails_is_named(bundle: Bundle, engines: Path, tensorrt: StandIn) -> None:
    tensorrt.refuses = "deserialise"
    with open_backend(bundle, engines=engines) as backend:
        assert backend.description.startswith("ONNX Runtime")
        assert "TensorRT could not deserialize it" in backend.description
    assert tensorrt.driver.clean


def test_auto_takes_cuda_where_it_works(bundle: Bundle, cuda_session: type[CudaSession]) -> None:
    with open_backend(bundle) as backend:
        assert backend.description == f"ONNX Runtime {VERSION} on CUDA, fp32 (auto: no TensorRT engine was built)"
        assert backend.run("query", {"image": image()})["feature"].shape == (1, toy.DIM)
    for device in ("0", "cuda"):
        with open_backend(bundle, device) as backend:
            assert backend.description == f"ONNX Runtime {VERSION} on CUDA, fp32"
    with open_backend(bundle, "cpu") as backend:
        assert backend.description.endswith("on CPU, fp32")


def test_cuda_that_is_listed_and_does_not_load(
    bundle: Bundle, cuda_session: type[CudaSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_session, "works", False)
    with open_backend(bundle) as backend:
        assert "ONNX Runtime did not take query.onnx to CUDAExecutionProvider" in backend.description
    with pytest.raises(BackendError, match=r"did not take query\.onnx to CUDAExecutionProvider"):
        open_backend(bundle, "cuda")


def test_cuda_that_fails_at_the_first_run(
    bundle: Bundle, cuda_session: type[CudaSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "CUDA error 209: no kernel image is available\nfor execution on the device"
    monkeypatch.setattr(cuda_session, "fails", said)
    with open_backend(bundle) as backend:
        assert backend.description == (
            f"ONNX Runtime {VERSION} on CPU, fp32 (auto: no TensorRT engine was built; "
            f"ONNX Runtime cannot run query.onnx: {said})".replace("\n", " ")
        )
        assert backend.run("query", {"image": image()})["feature"].shape == (1, toy.DIM)
    with pytest.raises(BackendError, match=r"cannot run query\.onnx[\s\S]*no kernel image[\s\S]*next: --device cpu"):
        open_backend(bundle, "cuda")


def test_cuda_that_gives_wrong_numbers(
    bundle: Bundle, cuda_session: type[CudaSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_session, "turns", True)
    with open_backend(bundle) as backend:
        assert backend.description.startswith(f"ONNX Runtime {VERSION} on CPU, fp32 (auto: ")
        assert f"; ONNX Runtime {VERSION} on CUDA, fp32 computes wrong features (cosine " in backend.description
    with pytest.raises(BackendError, match=r"wrong features[\s\S]*cosine at least 0\.9999[\s\S]*onnxruntime-gpu"):
        open_backend(bundle, "0")


def test_an_engine_for_one_picture_is_held_to_the_golden_ones_too(
    bundle: Bundle, tensorrt: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = tmp_path / "engines"
    device = put_plans(bundle, engines, DESKTOP, {"query": (4,), "support": (4,)})
    other, wrong = tmp_path / "other.onnx", toy.graph("query")
    one = next(each for each in wrong.graph.initializer if each.name == "one")
    one.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(one), "one"))
    onnx.save(wrong, other)
    put(bundle, engines, device, graph="query", max_batch=1, content=plan_of(other, 1))
    monkeypatch.setattr(Device, "here", lambda flavour, version: device)
    with open_backend(bundle, engines=engines) as backend:
        assert backend.description.startswith("ONNX Runtime")
        assert "TensorRT 10.3.0 on RTX 4090 through host, fp32 computes wrong features (cosine" in backend.description
    assert tensorrt.driver.clean


@pytest.mark.parametrize(
    ("device", "error", "remedy"),
    [
        ("cuda", BackendError, "onnxruntime-gpu"),
        ("0", BackendError, "onnxruntime-gpu"),
        ("openvino", MissingExtraError, r"sp-edge\[openvino\]"),
        ("tensorrt", MissingExtraError, r"sp-edge\[tensorrt\]"),
    ],
)
def test_what_was_asked_for_is_never_replaced(bundle: Bundle, device: str, error: type[Exception], remedy: str) -> None:
    with pytest.raises(error, match=remedy):
        open_backend(bundle, device)


def test_tensorrt_without_engines_says_how_to_build_them(bundle: Bundle, tensorrt: StandIn) -> None:
    with pytest.raises(PlanError, match="--format engine") as caught:
        open_backend(bundle, "tensorrt")
    assert str(folder_of(bundle)) in caught.value.expected


@pytest.mark.parametrize(
    "error", ["OSError('libnvinfer.so.10: cannot open')", "ImportError('libnvinfer: ABI')", "RuntimeError('libnvinfer')"]
)
def test_a_tensorrt_that_does_not_load_is_a_reason_for_auto_and_an_error_of_ours(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    engines = tmp_path / "engines"
    put_plans(bundle, engines, DESKTOP)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tensorrt.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    monkeypatch.delitem(sys.modules, "tensorrt")
    with open_backend(bundle, engines=engines) as backend:
        assert backend.description.startswith("ONNX Runtime")
        assert "tensorrt is installed, but does not load: libnvinfer" in backend.description
    for build in (False, True):
        with pytest.raises(BackendError, match=r"does not load[\s\S]*libnvinfer[\s\S]*next: sp-edge doctor"):
            open_backend(bundle, "tensorrt", engines=engines, build_engine=build)


@pytest.mark.parametrize("package", ["pycuda", "cuda", "openvino"])
def test_packages_that_do_not_load_are_errors_of_ours(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    (tmp_path / f"{package}.py").write_text("raise OSError('libsomething.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    opener = {"pycuda": PycudaDriver, "cuda": CudaPythonDriver, "openvino": lambda: open_backend(bundle, "openvino")}[package]
    with pytest.raises(BackendError, match=rf"{package} is installed, but does not load[\s\S]*libsomething"):
        opener()


@pytest.mark.parametrize("device", ["", "1", "gpu", "CPU", "tpu"])
def test_devices_that_do_not_exist(bundle: Bundle, device: str) -> None:
    with pytest.raises(SettingsError, match=r"auto \| cpu \| cuda \| 0 \| tensorrt \| openvino"):
        open_backend(bundle, device)


def test_bf16_is_openvinos(bundle: Bundle) -> None:
    for device in ("cpu", "cuda", "tensorrt"):
        with pytest.raises(SettingsError, match="bf16 runs in OpenVINO alone"):
            open_backend(bundle, device, "bf16")
    with pytest.raises(MissingExtraError, match="openvino"):
        open_backend(bundle, "auto", "bf16")


@pytest.mark.parametrize("device", DEVICES)
def test_a_precision_that_the_bundle_has_not(bundle: Bundle, device: str) -> None:
    with pytest.raises(BundleError, match="no int8 graphs"):
        open_backend(bundle, device, "int8")


def test_openvino_is_for_who_asks_for_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "OpenVinoBackend", lambda *_: pytest.fail("nobody asked for it"))
    with open_backend(bundle) as backend:
        assert backend.description.startswith("ONNX Runtime")


class TestBuilding:
    def test_engines_that_are_there_need_no_building(self, bundle: Bundle, engines: Path) -> None:
        with open_backend(bundle, "tensorrt", engines=engines, build_engine=True) as backend:
            assert backend.description.startswith("TensorRT")

    def test_the_command(self, bundle: Bundle, tensorrt: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        made: list[Any] = []
        monkeypatch.setattr(devices, "HandOver", lambda serving, command, opener: made.append((serving, command)) or serving)
        with open_backend(bundle, "tensorrt", engines=tmp_path / "plans", build_engine=True) as backend:
            assert backend.description.startswith("ONNX Runtime")
        ((_, command),) = made
        # The one tie to export is a string, which no checker of imports sees: so it is run.
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in ran.stderr
        assert "sp_edge.cli" not in " ".join(command[:4])
        if ran.returncode:
            assert ran.stderr.startswith("error: cannot build an engine"), "no TensorRT here"
        else:
            assert len(plans_of(bundle, tmp_path / "plans")) == 3

    def test_nothing_is_built_where_the_engine_could_not_run(self, bundle: Bundle) -> None:
        for device in ("auto", "tensorrt"):
            with pytest.raises(MissingExtraError, match="tensorrt"):
                open_backend(bundle, device, build_engine=True)

    @pytest.mark.parametrize("device", ["cpu", "cuda", "0", "openvino"])
    def test_only_for_tensorrt(self, bundle: Bundle, device: str) -> None:
        with pytest.raises(SettingsError, match="engines are TensorRT's"):
            open_backend(bundle, device, build_engine=True)


def test_only_a_stream_lasts_long_enough_to_build() -> None:
    having = {name for name, command in commands(cli).items() if "build_engine" in {option.name for option in command.params}}
    assert having == {"serve", "stream"}


@pytest.mark.parametrize("command", ["enroll", "classify", "stream"])
def test_the_commands_offer_just_these(command: str) -> None:
    options = {option.name: option.type for option in commands(cli)[command].params}
    assert list(options["device"].choices) == list(DEVICES)
    assert list(options["precision"].choices) == list(PRECISIONS)
