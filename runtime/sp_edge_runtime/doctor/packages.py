"""Probes of Python's packages: sp-edge's own needs, ONNX Runtime, TensorRT, CUDA's bindings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sp_edge.engines.sidecar import FLAVOURS, TITLES
from sp_edge.errors import BackendError
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN, Finding, Host, LoadError

LEAST_TENSORRT = (10, 3)
# What each extra is for; torch's wheels for a Jetson are NVIDIA's, and training is no work for one.
_EXTRAS = {
    "train": "sp-edge train and eval",
    "export": "sp-edge export of a checkpoint",
}
_PROVIDERS = {"CUDAExecutionProvider": "CUDA", "TensorrtExecutionProvider": "TensorRT", "CPUExecutionProvider": "CPU"}


def packages(host: Host) -> Iterator[Finding]:
    """sp-edge's own packages, against the ranges that it asks for."""
    for name, least, extra in _requirements(host):
        if not extra:
            yield _package(host, name, least)


def _package(host: Host, name: str, least: str) -> Finding:
    version = host.version(name) or (name == "onnxruntime" and host.version("onnxruntime-gpu")) or None
    numpy = "<2" if name == "numpy" and host.l4t[:1] == (36,) else ""  # JetPack 6's OpenCV is built for numpy 1
    wanted = f"{name}>={least}" + (f",{numpy}" if numpy else "")
    if version is None or numbers(version) < numbers(least):
        found = "not installed" if version is None else f"{version}, older than {least}"
        return Finding(name, MISSING, found, f"pip install '{wanted}'", needed=True)
    if numpy and numbers(version) >= (2,):
        remedy = f"pip install '{wanted}' in the environment: JetPack 6's OpenCV is built for numpy 1"
        return Finding(name, WARN, version, remedy, needed=True)
    return Finding(name, OK, version, needed=True)


def extras(host: Host) -> Iterator[Finding]:
    """The optional parts: each is whole, or says what it lacks."""
    required = list(_requirements(host))
    for extra, purpose in _EXTRAS.items():
        members = [(name, least) for name, least, of in required if of == extra]
        lacking = [
            f"{name} {version or 'missing'}"
            for name, least in members
            if (version := host.version(name)) is None or numbers(version) < numbers(least)
        ]
        if not members:
            continue
        if not lacking:
            yield Finding(f"extra {extra}", OK, f"whole, for {purpose}")
            continue
        remedy = f"pip install 'sp-edge[{extra}]', if this machine is for {purpose}"
        if host.l4t:
            remedy = "leave it out: a Jetson runs bundles, and torch by pip would replace NVIDIA's"
        yield Finding(f"extra {extra}", MISSING, ", ".join(lacking), remedy)


def onnxruntime(host: Host) -> Iterator[Finding]:
    """What ONNX Runtime can run on."""
    try:
        said = host.load("onnxruntime", "' '.join([m.__version__, *m.get_available_providers()])")
    except LoadError as error:
        yield Finding(
            "ONNX Runtime", MISSING, f"does not load: {error}", "pip install --force-reinstall onnxruntime", needed=True
        )
        return
    if said is None:
        yield Finding("ONNX Runtime", MISSING, "not installed", "pip install onnxruntime", needed=True)
        return
    version, *providers = said.split()
    words = f"{version} on {', '.join(_PROVIDERS.get(provider, provider) for provider in providers)}"
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if host.version(name)]
    if len(both) == 2:
        remedy = "pip uninstall onnxruntime onnxruntime-gpu, then install the one that is wanted: they overwrite each other"
        yield Finding("ONNX Runtime", WARN, f"{words}; installed twice", remedy, needed=True)
    elif "CUDAExecutionProvider" not in providers and _has_gpu(host):
        remedy = "engines use the GPU without it (--format engine); else pip uninstall onnxruntime, pip install onnxruntime-gpu"
        if host.l4t:
            remedy = "engines use the GPU without it (--format engine); docs/jetson.md has NVIDIA's wheels"
        yield Finding("ONNX Runtime", OK, words, remedy, needed=True)
    elif "CUDAExecutionProvider" in providers and _has_gpu(host):
        tried, fails = _trial(host, "onnx_runtime", "CUDAExecutionProvider")
        remedy = "--device cpu, or engines (--format engine); else another onnxruntime-gpu, built for this GPU"
        if host.l4t:
            remedy += ": docs/jetson.md"
        words = f"{words}; CUDA {tried}"
        yield Finding("ONNX Runtime", WARN if fails else OK, words, remedy if fails else "", needed=True)
    else:
        yield Finding("ONNX Runtime", OK, words, needed=True)


def _trial(host: Host, engine: str, argument: str) -> tuple[str, bool]:
    """How a small network ran, in words, and whether it failed."""
    try:
        cosine = host.load("sp_edge_runtime.doctor.trials", f"m.{engine}({argument!r})")
    except LoadError as error:
        return f"fails at a small network: {error}", True
    return f"runs a small network as the CPU does (cosine {float(cosine or 'nan'):.5f})", False


def tensorrt(host: Host) -> Iterator[Finding]:
    """TensorRT, and where it is there TensorRT-RTX."""
    found = [finding for flavour in FLAVOURS if (finding := _flavour(host, flavour)) is not None]
    if found:
        yield from found
        return
    remedy = "pip install 'sp-edge[tensorrt]', or 'sp-edge[rtx]' for RTX GPUs"
    if host.l4t:
        remedy = (
            "sudo apt-get install tensorrt python3-libnvinfer, and an environment with --system-site-packages; never by pip"
        )
    yield Finding("TensorRT", MISSING, "not installed; ONNX Runtime serves without it", remedy)


def _flavour(host: Host, flavour: str) -> Finding | None:
    name = TITLES[flavour]
    try:
        version = host.load(flavour, "m.__version__")
    except LoadError as error:
        remedy = (
            "sudo apt-get install --reinstall tensorrt python3-libnvinfer"
            if host.l4t
            else f"pip install --force-reinstall {flavour}"
        )
        return Finding(name, MISSING, f"installed, but does not load: {error}", remedy.replace("_", "-"))
    if version is None:
        return None
    if flavour == "tensorrt" and numbers(version) < LEAST_TENSORRT:
        remedy = "update to JetPack 6.1 or newer" if host.l4t else "pip install 'tensorrt>=10.3'"
        return Finding(name, MISSING, f"{version}, older than 10.3", remedy)
    if not _has_gpu(host) or not any(loads for _, loads in _bindings(host)):
        return Finding(name, OK, version)
    tried, fails = _trial(host, "tensorrt", flavour)
    remedy = "--device cpu works without; " + ("install JetPack's TensorRT again" if host.l4t else "update the GPU's driver")
    return Finding(name, MISSING if fails else OK, f"{version}; {tried}", remedy if fails else "")


def cuda_bindings(host: Host) -> Iterator[Finding]:
    """Pycuda or cuda-python, one of which TensorRT's runs need."""
    tried = _bindings(host)
    found = next((words for words, loads in tried if loads), None)
    if found is not None:
        yield Finding("CUDA bindings", OK, found)
        return
    broken = "; ".join(words for words, _ in tried if words) or "neither pycuda nor cuda-python"
    try:
        major = host.gpu().cuda.partition(".")[0]
    except BackendError:
        yield Finding("CUDA bindings", MISSING, broken, "the GPU's driver first; without a GPU nothing needs them")
        return
    remedy = f"pip install 'cuda-python=={major}.*' (wheels), or pycuda (compiles, with /usr/local/cuda/bin on the PATH)"
    yield Finding("CUDA bindings", MISSING, broken, remedy)


def _bindings(host: Host) -> list[tuple[str, bool]]:
    return [_binding(host, *names) for names in (("pycuda.driver", "pycuda"), ("cuda.bindings.driver", "cuda-python"))]


def _binding(host: Host, module: str, package: str) -> tuple[str, bool]:
    try:
        loads = host.load(module, "m.__name__") is not None
    except LoadError as error:
        return f"{package} does not load: {error}", False
    return (f"{package} {host.version(package) or ''}".strip(), True) if loads else ("", False)


def _has_gpu(host: Host) -> bool:
    try:
        host.gpu()
    except BackendError:
        return False
    return True


def _requirements(host: Host) -> Iterator[tuple[str, str, str]]:
    """(name, least version, extra) of what applies to this Python."""
    for line in host.requires:
        what, _, marker = line.partition(";")
        found = re.match(r"^\s*([\w.-]+)\s*(?:[>=]=\s*([\d.]+))?", what)
        before = re.search(r"python_version\s*<\s*['\"]([\d.]+)['\"]", marker)
        if found is None or (before and host.python >= numbers(before[1])):
            continue
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        yield found[1], found[2] or "0", extra[1] if extra else ""


def least(host: Host, name: str) -> str:
    """The least version of a package that sp-edge asks for; '0' where it asks for any."""
    return next((version for package, version, _ in _requirements(host) if package == name), "0")


def numbers(version: str) -> tuple[int, ...]:
    """(1, 26, 4) of '1.26.4', without what stands behind the numbers."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
