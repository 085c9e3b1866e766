"""The TensorRT backend over a stand-in that runs the ONNX graphs on the host, on a desktop's memory and on a Jetson's."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toy
from host_cuda import DESKTOP, ORIN, HostDriver, host_cuda
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device, Gpu
from sp_edge.engines.plans import plans_of, sidecar_of
from sp_edge.errors import BackendError, BundleError, MissingExtraError, PlanError
from sp_edge_runtime.backends import tensorrt_runtime
from sp_edge_runtime.backends.tensorrt_runtime import TensorRtBackend, open_tensorrt
from tensorrt_on_the_host import StandIn, plan_of, put_plans
from threads import at_once
from toy_plans import put


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


def pictures(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, toy.SIDE, toy.SIDE, 3), dtype=np.uint8)


class Rig:
    """A backend with all that it stands on."""

    def __init__(self, bundle: Bundle, folder: Path, gpu: Gpu = DESKTOP, **put: Any) -> None:
        self.bundle, self.folder = bundle, folder
        self.device = put_plans(bundle, folder, gpu, **put)
        self.cuda = host_cuda(gpu)
        self.driver: HostDriver = self.cuda.driver
        self.trt = StandIn(self.driver)

    def open(self) -> TensorRtBackend:
        backend = TensorRtBackend(self.bundle, None, self.trt, self.cuda, self.device, folder=self.folder)
        self.trt.executed.clear()
        self.driver.calls.clear()
        return backend


@pytest.mark.parametrize("gpu", [DESKTOP, ORIN], ids=["desktop", "jetson"])
def test_every_batch_through_every_step(bundle: Bundle, tmp_path: Path, gpu: Gpu) -> None:
    rig = Rig(bundle, tmp_path, gpu)
    with rig.open() as backend:
        assert backend.description == f"TensorRT 10.3.0 on {gpu.name} through host, fp32"
        for count in (1, 1, 1, 2, 2, 2, 4, 3, 9, 9, 1):
            images = pictures(count, seed=count)
            np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)
            prompt = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
            support = backend.run("support", {"image": images, "prompt": prompt})
            np.testing.assert_allclose(support["feature"], toy.features(images, prompt), atol=1e-5)
            np.testing.assert_allclose(support["plain"], toy.features(images), atol=1e-5)
        assert ("upload" in rig.driver.calls) == (gpu is DESKTOP)
    assert rig.driver.clean


def test_a_batch_goes_to_the_smallest_plan_and_is_cut_to_the_largest(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)
    with rig.open() as backend:
        for count in (1, 2, 9):
            backend.run("query", {"image": pictures(count)})
        assert rig.driver.calls.count("launch") == 3, "twice one picture, which the golden ones have recorded"
    assert rig.trt.executed == [2, 4, 4]


def test_the_first_run_of_a_size_is_plain_the_second_recorded_and_the_rest_launched(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)

    def calls() -> str:
        backend.run("query", {"image": pictures(3)})
        said = [name for name in rig.driver.calls if name in {"upload", "download", "begin_capture", "launch", "destroy_graph"}]
        rig.driver.calls.clear()
        return " ".join(said)

    with rig.open() as backend:
        backend.run("query", {"image": pictures(2)})  # the golden pictures were three
        rig.driver.calls.clear()
        assert calls() == "upload download"
        assert calls() == "begin_capture upload download launch"
        assert calls() == "launch"
        backend.run("query", {"image": pictures(2)})
        assert "destroy_graph" in rig.driver.calls
        rig.driver.calls.clear()
        assert calls() == "upload download"


def test_a_gpu_that_records_nothing_runs_step_by_step_and_says_so(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)
    rig.driver.no_graphs = True
    images = pictures(2)
    with rig.open() as backend:
        for _ in range(4):
            np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)
        assert "without a CUDA graph (CUDA error 900" in backend.description
        assert rig.driver.calls.count("begin_capture") == 1
    assert rig.driver.clean


def test_the_feature_is_the_callers(bundle: Bundle, tmp_path: Path) -> None:
    with Rig(bundle, tmp_path).open() as backend:
        first = backend.run("query", {"image": pictures(2)})["feature"]
        kept = first.copy()
        backend.run("query", {"image": pictures(2, seed=9)})
        np.testing.assert_array_equal(first, kept)
        first[:] = 0  # writable


@pytest.mark.parametrize("gpu", [DESKTOP, ORIN], ids=["desktop", "jetson"])
def test_whichever_call_fails_everything_is_given_back(bundle: Bundle, tmp_path: Path, gpu: Gpu) -> None:
    def use(fails: int | None) -> HostDriver:
        rig = Rig(bundle, tmp_path, gpu, batches={"query": (2,), "support": (2,)})
        rig.driver.fails = fails
        try:
            with rig.open() as backend:
                for _ in range(3):
                    feature = backend.run("query", {"image": images})["feature"]
                    np.testing.assert_allclose(feature, toy.features(images), atol=1e-5)
        finally:
            assert rig.driver.clean
        return rig.driver

    images = pictures(2)
    names = use(None).asked
    assert {"allocate_host", "create_stream", "begin_capture", "launch"} < set(names)
    begun = [number for number, name in enumerate(names) if name == "begin_capture"]
    recorded = {number for first in begun for number in range(first, names.index("launch", first))}
    for number in range(1, len(names)):  # the first is the share itself, which the rig took
        if number in recorded:  # what cannot be recorded runs step by step
            use(number)
        else:
            with pytest.raises(BackendError, match="the GPU failed"):
                use(number)


@pytest.mark.parametrize("what", ["deserialise", "context", "address", "shape", "execute"])
def test_what_tensorrt_refuses_is_said_in_its_words(bundle: Bundle, tmp_path: Path, what: str) -> None:
    rig = Rig(bundle, tmp_path)
    rig.trt.refuses = what
    with pytest.raises(BackendError, match="TensorRT could not") as caught:
        rig.open()
    assert caught.value.got == f"Error Code 1: {what}"
    assert rig.driver.clean


def test_a_run_that_fails_leaves_the_next_one_right(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)
    images = pictures(3)
    with rig.open() as backend:
        backend.run("query", {"image": pictures(2)})
        for refuses in ("shape", "execute"):
            rig.trt.refuses = refuses
            with pytest.raises(BackendError):
                backend.run("query", {"image": images})
            rig.trt.refuses = ""
            for _ in range(3):
                np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)
            backend.run("query", {"image": pictures(2)})


@pytest.mark.parametrize("refuses", ["shape", "execute"])
def test_after_a_resize_that_failed_the_old_size_is_set_again(bundle: Bundle, tmp_path: Path, refuses: str) -> None:
    rig = Rig(bundle, tmp_path)
    images = pictures(2)
    with rig.open() as backend:
        backend.run("query", {"image": images})
        rig.trt.refuses = refuses
        with pytest.raises(BackendError):
            backend.run("query", {"image": pictures(3)})
        rig.trt.refuses = ""
        rig.trt.executed.clear()
        np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)
        assert rig.trt.executed == [2]


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"graph": "support"}, "not of the bundle's graph"), ({"profile": 3}, "another batch"), ({"max_batch": 1}, "not of the")],
    ids=["another graph", "profile", "static"],
)
def test_an_engine_that_is_not_what_its_sidecar_says(
    bundle: Bundle, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    rig = Rig(bundle, tmp_path)
    graph = bundle.graph(changes.pop("graph", "query"), "fp32")
    put(bundle, tmp_path, rig.device, max_batch=4, content=plan_of(graph, changes.pop("max_batch", 4), **changes))
    with pytest.raises(BackendError, match=match):
        rig.open()
    assert rig.driver.clean


def test_a_plan_without_a_fitting_sidecar_is_never_deserialised(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)
    rig.trt.Runtime = None  # nothing may be asked of it
    for path in plans_of(bundle, tmp_path):
        sidecar_of(path).unlink()
    with pytest.raises(PlanError, match="no engine fits"):
        rig.open()
    assert rig.driver.clean


def test_a_plan_that_was_changed_is_never_deserialised(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)
    seen: list[bytes] = []
    real = rig.trt.Runtime

    def runtime(log: Any) -> Any:
        made = real(log)
        inner = made.deserialize_cuda_engine
        made.deserialize_cuda_engine = lambda content: seen.append(content) or inner(content)
        return made

    rig.trt.Runtime = runtime
    path = next(p for p in plans_of(bundle, tmp_path) if "query.fp32.n1" in p.name)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(PlanError, match="not what its sidecar says"):
        rig.open()
    assert not seen
    assert rig.driver.clean


def test_features_that_are_not_the_golden_ones_are_not_believed(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "bundle"))
    other = tmp_path / "other.onnx"
    other.write_bytes(toy.graph("support", strength=-9.0).SerializeToString())
    rig = Rig(bundle, tmp_path / "plans")
    put(bundle, tmp_path / "plans", rig.device, graph="support", max_batch=4, content=plan_of(other, 4))
    with pytest.raises(BackendError, match="golden pictures") as caught:
        rig.open()
    assert "build its engines again" in caught.value.next_step
    assert rig.driver.clean


def test_threads_share_one_gpu(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)

    def work(seed: int) -> None:
        for count in (1, 2, 2, 5):
            images = pictures(count, seed)
            np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)

    with rig.open() as backend:
        at_once(work, 4)
    assert rig.driver.clean


def test_closed_from_another_thread(bundle: Bundle, tmp_path: Path) -> None:
    rig = Rig(bundle, tmp_path)
    backend = rig.open()
    worker = threading.Thread(target=backend.close)
    worker.start()
    worker.join()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run("query", {"image": pictures(1)})
    assert rig.driver.clean


class TestOpening:
    @pytest.fixture
    def modules(self, monkeypatch: pytest.MonkeyPatch, bundle: Bundle, tmp_path: Path) -> Rig:
        rig = Rig(bundle, tmp_path)
        monkeypatch.setitem(sys.modules, "tensorrt", rig.trt)
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        monkeypatch.setattr(Device, "here", lambda flavour, version: rig.device)
        monkeypatch.setattr(tensorrt_runtime, "open_cuda", lambda: rig.cuda)
        return rig

    def test_the_module_that_is_there(self, modules: Rig) -> None:
        with open_tensorrt(modules.bundle, folder=modules.folder) as backend:
            assert backend.run("query", {"image": pictures(1)})["feature"].shape == (1, toy.DIM)
        assert modules.driver.clean

    def test_no_plans(self, modules: Rig, tmp_path: Path) -> None:
        with pytest.raises(PlanError, match="none was built") as caught:
            open_tensorrt(modules.bundle, folder=tmp_path / "empty")
        assert "--format engine" in caught.value.next_step
        assert not modules.driver.calls[1:], "the GPU is left alone"

    def test_no_module(self, modules: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(MissingExtraError, match="JetPack"):
            open_tensorrt(modules.bundle, folder=modules.folder)
        with pytest.raises(MissingExtraError, match=r"sp-edge\[rtx\]"):
            open_tensorrt(modules.bundle, flavour="tensorrt_rtx", folder=modules.folder)

    def test_a_precision_that_the_bundle_has_not(self, modules: Rig) -> None:
        with pytest.raises(BundleError, match="no int8 graphs"):
            open_tensorrt(modules.bundle, "int8", folder=modules.folder)
