"""Machines for the doctor's probes: files, packages and programs as they were recorded, or as NVIDIA documents them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sp_edge.engines.device import Gpu
from sp_edge.errors import BackendError
from sp_edge_runtime.doctor.finding import Host, LoadError

ORIN = Gpu("Orin", "8.7", 8 << 30, integrated=True, cuda="12.6")
RTX = Gpu("NVIDIA GeForce RTX 4090", "8.9", 24 << 30, integrated=False, cuda="13.0")
REQUIRES = (
    "click>=8.1",
    "numpy>=1.26",
    "onnxruntime>=1.18",
    'tomli>=2; python_version < "3.11"',
    "torch>=2.6; extra == 'train'",
    'timm>=1.0.20; extra == "train"',
    "onnx>=1.17; extra == 'export'",
    "av>=17; extra == 'camera'",
    "opencv-python-headless>=4.9; extra == 'camera'",
    "tensorrt>=10.3; extra == 'tensorrt'",
)
PACKAGES = {"click": "8.1.7", "numpy": "1.26.4", "onnxruntime": "1.20.1", "tomli": "2.0.1"}
JETSON_FILES = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8\n",
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/meminfo": "MemTotal:        7802976 kB\nMemAvailable:    3145728 kB\nSwapFree:        1048576 kB\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    "< PM_CONFIG DEFAULT=1 >\n",
    "env/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.10.12\n",
}
JETSON_PROGRAMS = {
    "dpkg-query": "6.2+b77",
    "nvpmodel": "NV Power Mode: MAXN_SUPER\n2\n",
    "gst-inspect-1.0": "gst-inspect-1.0 version 1.20.3\nGStreamer 1.20.3\n",
}
JETSON_MODULES = {
    "onnxruntime": "1.20.1 CPUExecutionProvider",
    "tensorrt": "10.3.0",
    "cuda.bindings.driver": "cuda.bindings.driver",
    "sp_edge_runtime.doctor.trials": "0.999998",
    "av": "17.1.0",
    "cv2": "4.8.0\n  Video I/O:\n    GStreamer:                   YES (1.20.3)\n",
    "gi": "3.42.1",
}


def host(
    root: Path,
    *,
    files: Mapping[str, str] | None = None,
    packages: Mapping[str, str] | None = None,
    modules: Mapping[str, str | Exception] | None = None,
    programs: Mapping[str, str] | None = None,
    gpu: Gpu | None = None,
    python: tuple[int, ...] = (3, 10, 12),
    usable: Callable[[Path], bool] = lambda _: True,
) -> Host:
    """A machine whose file system is `root`, and that has nothing but what is named."""
    for name, text in (files or {}).items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def load(module: str, expression: str) -> str | None:
        found = (modules or {}).get(expression, (modules or {}).get(module))
        if isinstance(found, Exception):
            raise LoadError(str(found))
        return found

    def run(command: Sequence[str]) -> str | None:
        return (programs or {}).get(" ".join(command), (programs or {}).get(command[0]))

    def find() -> Gpu:
        if gpu is None:
            raise BackendError("no NVIDIA GPU can be used", got="no libcuda.so.1")
        return gpu

    return Host(
        root=root,
        version=(PACKAGES if packages is None else packages).get,
        requires=REQUIRES,
        load=load,
        run=run,
        gpu=find,
        python=python,
        prefix=root / "env",
        environment={},
        usable=usable,
    )


def jetson(root: Path, **changes: object) -> Host:
    """An Orin Nano with JetPack 6.2, all of it; each change adds to or replaces a part."""
    parts = {"files": JETSON_FILES, "modules": JETSON_MODULES, "programs": JETSON_PROGRAMS}
    merged = {name: {**part, **changes.pop(name, {})} for name, part in parts.items()}  # type: ignore[dict-item]
    return host(root, gpu=changes.pop("gpu", ORIN), **merged, **changes)  # type: ignore[arg-type]
