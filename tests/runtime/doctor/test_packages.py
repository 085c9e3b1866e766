from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import toy_host
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN, Finding, LoadError
from sp_edge_runtime.doctor.packages import cuda_bindings, extras, numbers, onnxruntime, packages, tensorrt


def by_name(findings: object) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}  # type: ignore[attr-defined]


def test_own_packages_are_held_against_their_ranges(tmp_path: Path) -> None:
    found = by_name(packages(toy_host.host(tmp_path, packages={"click": "8.0.3", "numpy": "2.4.6", "onnxruntime-gpu": "1.20"})))
    assert set(found) == {"click", "numpy", "onnxruntime", "tomli"}
    assert all(finding.needed for finding in found.values())
    assert (found["click"].state, found["click"].found) == (MISSING, "8.0.3, older than 8.1")
    assert found["click"].remedy == "pip install 'click>=8.1'"
    assert (found["numpy"].state, found["onnxruntime"].state) == (OK, OK)
    assert (found["tomli"].state, found["tomli"].found) == (MISSING, "not installed")


def test_what_an_older_python_alone_needs(tmp_path: Path) -> None:
    assert "tomli" not in by_name(packages(toy_host.host(tmp_path, python=(3, 12, 3))))


def test_numpy_2_does_not_go_with_jetpack_6(tmp_path: Path) -> None:
    found = by_name(packages(toy_host.jetson(tmp_path, packages={**toy_host.PACKAGES, "numpy": "2.2.6"})))["numpy"]
    assert found.state == WARN
    assert "numpy>=1.26,<2" in found.remedy
    thor = {"etc/nv_tegra_release": "# R38 (release), REVISION: 2.0, GCID: 1\n"}
    newer = toy_host.jetson(tmp_path, files=thor, packages={**toy_host.PACKAGES, "numpy": "2.2.6"})
    assert by_name(packages(newer))["numpy"].state == OK


def test_the_packages_metadata_is_understood(tmp_path: Path) -> None:
    host = replace(toy_host.host(tmp_path), requires=tuple(metadata.requires("sp-edge") or ()), python=(3, 12, 0))
    assert set(by_name(packages(host))) >= {"click", "numpy", "onnxruntime", "pillow", "safetensors", "tokenizers", "tqdm"}
    assert set(by_name(extras(host))) == {"extra train", "extra export"}


def test_extras_are_whole_or_say_what_they_lack(tmp_path: Path) -> None:
    have = {**toy_host.PACKAGES, "torch": "2.4", "timm": "1.0.20", "onnx": "1.17"}
    found = by_name(extras(toy_host.host(tmp_path, packages=have)))
    assert (found["extra train"].state, found["extra train"].found) == (MISSING, "torch 2.4")
    assert "sp-edge[train]" in found["extra train"].remedy
    assert found["extra export"].state == OK
    assert not any(finding.needed for finding in found.values())


def test_a_jetson_gets_no_torch_by_pip(tmp_path: Path) -> None:
    found = by_name(extras(toy_host.jetson(tmp_path)))
    assert "leave it out" in found["extra train"].remedy
    assert not any("pip install" in finding.remedy for finding in found.values())


# --- ONNX Runtime ---


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("1.20.1 TensorrtExecutionProvider CUDAExecutionProvider CPUExecutionProvider", OK, "1.20.1 on TensorRT, CUDA, CPU"),
        ("1.32.0 AzureExecutionProvider CPUExecutionProvider", OK, "1.32.0 on AzureExecutionProvider, CPU"),
        (None, MISSING, "not installed"),
        (OSError("libcudart.so.12: cannot open"), MISSING, "does not load: libcudart.so.12: cannot open"),
    ],
)
def test_onnx_runtime(tmp_path: Path, said: str | Exception | None, state: str, words: str) -> None:
    (found,) = onnxruntime(toy_host.host(tmp_path, modules={"onnxruntime": said} if said else {}))
    assert found.state == state
    assert words in found.found
    assert found.needed


def test_onnx_runtime_on_the_cpu_beside_a_gpu(tmp_path: Path) -> None:
    modules: dict[str, str | Exception] = {"onnxruntime": "1.20.1 CPUExecutionProvider"}
    (found,) = onnxruntime(toy_host.host(tmp_path, modules=modules, gpu=toy_host.RTX))
    assert "onnxruntime-gpu" in found.remedy
    (found,) = onnxruntime(toy_host.jetson(tmp_path))
    assert "docs/jetson.md" in found.remedy
    both = {**toy_host.PACKAGES, "onnxruntime-gpu": "1.20"}
    (found,) = onnxruntime(toy_host.host(tmp_path / "both", modules=modules, packages=both))
    assert (found.state, "installed twice" in found.found) == (WARN, True)


NO_KERNEL = LoadError("sp_edge.errors.BackendError: ONNX Runtime cannot run a small network: no kernel image is available")


@pytest.mark.parametrize("gpu", ["desktop", "jetson"])
def test_cuda_in_onnx_runtime_is_tried_before_it_is_believed(tmp_path: Path, gpu: str) -> None:
    def found(said: str | Exception) -> Finding:
        trial = "m.onnx_runtime('CUDAExecutionProvider')"
        modules: dict[str, str | Exception] = {"onnxruntime": "1.23.0 CUDAExecutionProvider CPUExecutionProvider", trial: said}
        on_a_jetson = gpu == "jetson"
        host = (
            toy_host.jetson(tmp_path, modules=modules)
            if on_a_jetson
            else toy_host.host(tmp_path, modules=modules, gpu=toy_host.RTX)
        )
        (one,) = onnxruntime(host)
        return one

    right = found("0.9999987")
    assert (right.state, right.remedy) == (OK, "")
    assert right.found == "1.23.0 on CUDA, CPU; CUDA runs a small network as the CPU does (cosine 1.00000)"
    wrong = found(NO_KERNEL)
    assert wrong.state == WARN
    assert "CUDA fails at a small network" in wrong.found
    assert "no kernel image" in wrong.found
    assert ("docs/jetson.md" in wrong.remedy) == (gpu == "jetson")
    assert "--device cpu" in wrong.remedy


def test_without_a_gpu_nothing_is_tried(tmp_path: Path) -> None:
    modules: dict[str, str | Exception] = {
        "onnxruntime": "1.23.0 CUDAExecutionProvider CPUExecutionProvider",
        "tensorrt": "10.3.0",
        "cuda.bindings.driver": "cuda.bindings.driver",
        "sp_edge_runtime.doctor.trials": NO_KERNEL,
    }
    for probe in (onnxruntime, tensorrt):
        (found,) = probe(toy_host.host(tmp_path, modules=modules))
        assert (found.state, found.remedy) == (OK, "")


# --- TensorRT ---


@pytest.mark.parametrize("bindings", ["cuda.bindings.driver", "pycuda.driver", None])
def test_tensorrt_is_tried_where_it_could_run(tmp_path: Path, bindings: str | None) -> None:
    def found(said: str | Exception) -> Finding:
        modules: dict[str, str | Exception] = {"tensorrt": "10.3.0", "m.tensorrt('tensorrt')": said}
        if bindings:
            modules[bindings] = bindings
        (one,) = tensorrt(toy_host.host(tmp_path, modules=modules, gpu=toy_host.RTX))
        return one

    right, wrong = found("1.0"), found(LoadError("TensorRT cannot build a small network"))
    if bindings is None:
        assert (wrong.state, wrong.found) == (OK, "10.3.0")
        return
    assert (right.state, right.found) == (OK, "10.3.0; runs a small network as the CPU does (cosine 1.00000)")
    assert (wrong.state, "cannot build" in wrong.found) == (MISSING, True)
    assert "driver" in wrong.remedy


def test_both_flavours_are_found(tmp_path: Path) -> None:
    found = by_name(tensorrt(toy_host.host(tmp_path, modules={"tensorrt": "10.13.3.9", "tensorrt_rtx": "1.2.0.36"})))
    assert {name: (f.state, f.found) for name, f in found.items()} == {
        "TensorRT": (OK, "10.13.3.9"),
        "TensorRT-RTX": (OK, "1.2.0.36"),
    }


@pytest.mark.parametrize(
    ("said", "words", "desktop", "jetson"),
    [
        (None, "not installed", "sp-edge[tensorrt]", "sudo apt-get install tensorrt python3-libnvinfer"),
        ("8.5.2.2", "older than 10.3", "tensorrt>=10.3", "JetPack 6.1 or newer"),
        (
            OSError("libnvinfer.so.10: cannot open"),
            "does not load",
            "--force-reinstall tensorrt",
            "apt-get install --reinstall",
        ),
    ],
)
def test_a_tensorrt_that_does_not_do(
    tmp_path: Path, said: str | Exception | None, words: str, desktop: str, jetson: str
) -> None:
    modules = {"tensorrt": said}
    (found,) = tensorrt(toy_host.host(tmp_path / "desktop", modules=modules))  # type: ignore[arg-type]
    assert found.state == MISSING
    assert words in found.found
    assert desktop in found.remedy
    (found,) = tensorrt(toy_host.jetson(tmp_path / "jetson", modules=modules))
    assert jetson in found.remedy
    assert "pip install" not in found.remedy


# --- CUDA's bindings ---


def test_one_of_the_bindings_is_enough(tmp_path: Path) -> None:
    have = {**toy_host.PACKAGES, "pycuda": "2025.1"}
    (found,) = cuda_bindings(toy_host.host(tmp_path, modules={"pycuda.driver": "pycuda.driver"}, packages=have))
    assert (found.state, found.found) == (OK, "pycuda 2025.1")
    modules: dict[str, str | Exception] = {"pycuda.driver": ImportError("libcuda.so.1"), "cuda.bindings.driver": "there"}
    (found,) = cuda_bindings(toy_host.host(tmp_path, modules=modules))
    assert (found.state, found.found) == (OK, "cuda-python")


def test_bindings_are_those_of_the_drivers_cuda(tmp_path: Path) -> None:
    (found,) = cuda_bindings(toy_host.jetson(tmp_path, modules={"cuda.bindings.driver": None}))
    assert found.state == MISSING
    assert "cuda-python==12.*" in found.remedy
    (found,) = cuda_bindings(toy_host.host(tmp_path, modules={"pycuda.driver": ImportError("no nvcc")}, gpu=toy_host.RTX))
    assert found.found == "pycuda does not load: no nvcc"
    assert "cuda-python==13.*" in found.remedy
    (found,) = cuda_bindings(toy_host.host(tmp_path / "none"))
    assert "without a GPU nothing needs them" in found.remedy


@pytest.mark.parametrize(
    ("version", "parts"), [("1.26.4", (1, 26, 4)), ("2.6.0+cu126", (2, 6, 0)), ("10.3.0rc1", (10, 3, 0)), ("", ()), ("git", ())]
)
def test_versions_are_compared_by_their_numbers(version: str, parts: tuple[int, ...]) -> None:
    assert numbers(version) == parts
