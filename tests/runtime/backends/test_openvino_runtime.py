"""What is OpenVINO's own; `test_backends.py` holds it to what every backend promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import toy
from sp_edge import files
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError, BundleError, MissingExtraError, SettingsError
from sp_edge_runtime.backends import openvino_runtime
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.backends.openvino_runtime import OpenVinoBackend, import_openvino

try:
    openvino = import_openvino()
except ImportError:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

HAS_BF16 = "BF16" in openvino_runtime._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(toy.make_bundle(tmp_path_factory.mktemp("openvino") / "bundle", precisions=("fp16", "fp32")))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(openvino_runtime, "cache_folder", files.cache_folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/sp-edge/openvino"


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, toy.SIDE, toy.SIDE, 3), dtype=np.uint8)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of each compilation."""
    asked: list[dict[str, Any]] = []
    real = openvino.Core.compile_model

    def compile_model(self: Any, model: Any, device: str, settings: dict[str, Any]) -> Any:
        made = real(self, model, device, settings)
        asked.append({**settings, "static": not model.is_dynamic(), "got": made.get_property("INFERENCE_PRECISION_HINT")})
        return made

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    return asked


def test_fp32_is_computed_in_fp32_also_where_the_cpu_has_bf16(bundle: Bundle, compiled: list[dict[str, Any]]) -> None:
    with OpenVinoBackend(bundle, threads=1) as backend:
        for count in (1, 2, 3, 1):
            feature = backend.run("query", {"image": pictures(count)})["feature"]
            np.testing.assert_allclose(feature, toy.features(pictures(count)), atol=1e-5)
        assert backend.description == f"OpenVINO {'.'.join(openvino.__version__.split('.')[:2])} on CPU, fp32"
    assert [each["got"] for each in compiled] == [openvino.Type.f32] * 2
    assert [each["static"] for each in compiled] == [True, False]
    assert {each["INFERENCE_NUM_THREADS"] for each in compiled} == {1}


def test_fp16_is_held_against_the_golden_pictures(bundle: Bundle) -> None:
    with open_backend(bundle, "openvino", "fp16") as backend:
        assert "on CPU, fp16 (golden pictures: cosine " in backend.description
        np.testing.assert_allclose(
            backend.run("query", {"image": pictures(2)})["feature"], toy.features(pictures(2)), atol=5e-3
        )


def test_int8_is_the_form_for_cpus_where_the_bundle_has_one(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "eight", precisions=("fp32", "int8"), for_cpu=True))
    golden = bundle.golden()
    with open_backend(bundle, "openvino", "int8") as backend:
        got = backend.run("support", {"image": golden.images, "prompt": golden.prompts})
    np.testing.assert_allclose(got["feature"], toy.features(golden.images, 0.9 * golden.prompts), atol=1e-5)


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16")
def test_bf16_where_it_passes(bundle: Bundle, compiled: list[dict[str, Any]]) -> None:
    with open_backend(bundle, "auto", "bf16") as backend:
        assert "on CPU, bf16 (golden pictures: cosine " in backend.description
        backend.run("query", {"image": pictures(1)})
    assert {each["got"] for each in compiled} == {openvino.Type.bf16}


def test_bf16_on_a_cpu_without_it(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda self, device, name: ["FP32", "INT8"])
    with pytest.raises(BackendError, match="no bfloat16"):
        OpenVinoBackend(bundle, "bf16")


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.skipif(not HAS_BF16, reason="no bf16"))])
def test_a_precision_that_does_not_pass_is_an_error(tmp_path: Path, precision: str) -> None:
    folder = toy.make_bundle(tmp_path / "bundle", precisions=("fp16", "fp32"))
    for name in ("query.onnx", "query.fp16.onnx"):
        model = onnx.load(folder / name)
        one = next(each for each in model.graph.initializer if each.name == "one")
        one.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(one), "one"))
        onnx.save(model, folder / name)
    toy.reseal(folder)
    with pytest.raises(BackendError, match="computes wrong features") as caught:
        OpenVinoBackend(Bundle.load(folder), precision)
    assert "--precision fp32" in caught.value.next_step


def test_compiled_graphs_are_kept_outside_the_bundle(bundle: Bundle, cache: Path, tmp_path: Path) -> None:
    before = sorted(bundle.path.rglob("*"))
    with OpenVinoBackend(bundle) as backend:
        backend.open("query")
    assert sorted(bundle.path.rglob("*")) == before
    assert list(cache.iterdir())
    with OpenVinoBackend(bundle, cache=tmp_path / "other") as backend:
        backend.open("query")
    assert list((tmp_path / "other").iterdir())


def test_a_damaged_cache_is_made_again(bundle: Bundle, cache: Path) -> None:
    images = pictures(1)
    for damage in (b"", b"not a model", None):
        with OpenVinoBackend(bundle) as backend:
            np.testing.assert_allclose(backend.run("query", {"image": images})["feature"], toy.features(images), atol=1e-5)
        if damage is not None:
            for blob in cache.glob("*/*"):
                blob.write_bytes(damage)


def test_graphs_that_differ_in_weights_alone_share_no_cache(tmp_path: Path, compiled: list[dict[str, Any]]) -> None:
    """OpenVINO 2025.4 tells them apart by the folder only."""
    for sign in (1, -1, 1):
        folder = toy.make_bundle(tmp_path / f"bundle{len(compiled)}")
        model = onnx.load(folder / "query.onnx")
        one = next(each for each in model.graph.initializer if each.name == "one")
        one.CopyFrom(onnx.numpy_helper.from_array(sign * onnx.numpy_helper.to_array(one), "one"))
        onnx.save(model, folder / "query.onnx")
        toy.reseal(folder)
        with OpenVinoBackend(Bundle.load(folder)) as backend:
            backend.open("query")
    first, other, again = (each["CACHE_DIR"] for each in compiled)
    assert first == again != other


def test_a_system_that_is_only_read_needs_no_cache(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with OpenVinoBackend(bundle) as backend:
        feature = backend.run("query", {"image": pictures(1)})["feature"]
    np.testing.assert_allclose(feature, toy.features(pictures(1)), atol=1e-5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(BackendError, match="cannot load"), OpenVinoBackend(bundle, cache=tmp_path / "locked/x") as backend:
        backend.open("query")


def test_a_graph_that_was_put_in_its_place_is_not_opened(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "toy"))
    (bundle.path / "query.onnx").write_bytes(toy.graph("query", half=True).SerializeToString())
    with OpenVinoBackend(bundle) as backend, pytest.raises(BundleError, match=r"has changed: query\.onnx"):
        backend.open("query")


@pytest.mark.parametrize("batch", [2, "N"])
def test_a_graph_that_is_not_the_manifests(tmp_path: Path, batch: int | str) -> None:
    folder = toy.make_bundle(tmp_path / "bundle")
    side = toy.SIDE if batch == 2 else 16
    onnx.save(toy.graph("query", batch=batch, side=side), folder / "query.onnx")
    toy.reseal(folder)
    with pytest.raises(BundleError, match="not what the manifest says"):
        open_backend(Bundle.load(folder), "openvino")


def test_not_a_graph(tmp_path: Path) -> None:
    folder = toy.make_bundle(tmp_path / "bundle")
    (folder / "query.onnx").write_bytes(b"not a graph")
    toy.reseal(folder)
    with pytest.raises(BackendError, match=r"OpenVINO cannot load query\.onnx"):
        open_backend(Bundle.load(folder), "openvino")


def test_signals_have_a_stack_when_a_backend_goes_in_another_thread(tmp_path: Path) -> None:
    """OpenVINO gives the main thread one, and another thread cannot take it back: memory that is no longer its own."""
    code = f"""
import ctypes, gc, threading
from pathlib import Path
from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.backends.openvino_runtime import OpenVinoBackend

held = [OpenVinoBackend(Bundle.load(Path({str(toy.make_bundle(tmp_path / "bundle"))!r})), cache=Path({str(tmp_path)!r}))]
held[0].open("query")

def drop():
    held.pop().close()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

stack = Stack()
assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
assert stack.start is None or any(int(a, 16) <= stack.start < int(b, 16) for a, b in ranges)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_reported(tmp_path: Path) -> None:
    code = f"""
import sys, threading
from pathlib import Path
from sp_edge.bundle.bundle import Bundle
from sp_edge_runtime.backends.openvino_runtime import OpenVinoBackend

OpenVinoBackend(Bundle.load(Path({str(toy.make_bundle(tmp_path / "bundle"))!r})), cache=Path({str(tmp_path / "cache")!r}))
assert threading.enumerate() == [threading.main_thread()]
assert "openvino" in sys.modules and not any(name.startswith("openvino_telemetry") for name in sys.modules)
"""
    (tmp_path / "home").mkdir()
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HOME": str(tmp_path / "home")})
    assert not list((tmp_path / "home").iterdir()), "neither consent nor the number of a client"


def test_threads_may_import_it_at_once() -> None:
    code = """
import sys, threading
from sp_edge_runtime.backends.openvino_runtime import import_openvino

sys.setswitchinterval(1e-5)
begin, found = threading.Barrier(4), []

def work():
    begin.wait()
    found.append(import_openvino())

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [sys.modules["openvino"]] * 4 and "openvino_telemetry" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_who_has_blocked_the_reports_finds_them_blocked_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    import_openvino()
    assert sys.modules["openvino_telemetry"] is None


def test_threads_out_of_range(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="threads"):
        OpenVinoBackend(bundle, threads=0)


def test_not_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"sp-edge\[openvino\]"):
        OpenVinoBackend(bundle)
