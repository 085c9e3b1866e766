"""Probes of the machine: Python, Jetson, GPU, memory, disk, power mode."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator

from sp_edge.engines.device import driver_version, free_memory, read_text
from sp_edge.engines.plans import default_folder
from sp_edge.errors import BackendError, PlanError
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN, Finding, Host, LoadError

_GIB = 2**30
_JETPACK = {36: "6", 38: "7", 39: "7.2"}  # of Linux for Tegra's major release, where NVIDIA's package does not say
LEAST_PYTHON = (3, 10)
_BUNDLES = 3  # of which it is told what runs fastest


def python(host: Host) -> Iterator[Finding]:
    """The interpreter, and on a Jetson whether its environment sees what JetPack installs."""
    version = ".".join(map(str, host.python))
    if host.python < LEAST_PYTHON:
        yield Finding("Python", MISSING, version, "install Python 3.10 or newer, and make the environment with it", needed=True)
        return
    settings = read_text(host.prefix / "pyvenv.cfg") or ""
    closed = re.search(r"^include-system-site-packages\s*=\s*false", settings, re.MULTILINE | re.IGNORECASE)
    if host.l4t and closed:
        remedy = f"python3 -m venv --system-site-packages {host.prefix}, so that JetPack's tensorrt and OpenCV are seen"
        yield Finding("Python", WARN, f"{version} in a closed environment", remedy, needed=True)
        return
    yield Finding("Python", OK, version, needed=True)


def jetson(host: Host) -> Iterator[Finding]:
    """JetPack and Linux for Tegra; nothing where this is no Jetson."""
    if not host.l4t:
        return
    release = ".".join(map(str, host.l4t))
    said = (host.run(["dpkg-query", "-W", "-f", "${Version}", "nvidia-jetpack"]) or "").strip()
    jetpack = said.partition("+")[0] or _JETPACK.get(host.l4t[0], "")
    model = (read_text(host.root / "proc/device-tree/model") or "").strip("\0\n ")
    found = ", ".join(part for part in (model, f"JetPack {jetpack}" if jetpack else "", f"L4T {release}") if part)
    if host.l4t[0] < 36:
        yield Finding("Jetson", MISSING, found, "flash JetPack 6.1 or newer: older ones have Python 3.8 and TensorRT 8")
    elif host.l4t < (36, 4):
        yield Finding("Jetson", WARN, found, "update to JetPack 6.1 or newer for TensorRT 10.3")
    elif not said:
        yield Finding("Jetson", WARN, f"{found}, not all of JetPack", "sudo apt-get install nvidia-jetpack")
    else:
        yield Finding("Jetson", OK, found)


def fastest(host: Host) -> Iterator[Finding]:
    """What `--device auto` measured on this CPU as it is now, of the bundles that were measured last."""
    try:
        said = host.load("sp_edge_runtime.backends.fastest", f"m.told({_BUNDLES})") or ""
    except LoadError:  # without an ONNX Runtime that works, of which another finding tells
        return
    for sentence in json.loads((said.splitlines() or ["[]"])[-1]):
        yield Finding("fastest", OK, sentence)


def gpu(host: Host) -> Iterator[Finding]:
    """The GPU and its driver."""
    try:
        found = host.gpu()
    except BackendError as error:
        remedy = "run containers with --runtime nvidia; else sudo apt-get install --reinstall nvidia-l4t-cuda"
        if not host.l4t:
            remedy = "without an NVIDIA GPU all runs on the CPU; with one, install its driver: sudo ubuntu-drivers install"
        yield Finding("GPU", MISSING, error.got or error.what, remedy)
        return
    driver = driver_version(host.root)
    words = f"{found.name}, compute capability {found.compute_capability}, {found.memory / _GIB:.1f} GiB"
    words += " shared with the host" if found.integrated else ""
    yield Finding("GPU", OK, f"{words}, CUDA {found.cuda}" + (f", driver {driver}" if driver else ""))


def memory(host: Host) -> Iterator[Finding]:
    """The host's free memory, swap included."""
    free = free_memory(host.root)
    if free is None:
        return
    words = f"{free / _GIB:.1f} GiB free, swap included"
    if free < 2 * _GIB:
        remedy = (
            "building an engine needs about 2 GiB: close programs (on a Jetson: sudo systemctl isolate multi-user), or add swap"
        )
        yield Finding("memory", WARN, words, remedy)
    else:
        yield Finding("memory", OK, words)


def disk(_host: Host) -> Iterator[Finding]:
    """Room for engines, where they are kept."""
    try:
        folder = default_folder()
    except PlanError as error:
        yield Finding("disk", WARN, error.got, "--engines DIR, where engines can be kept")
        return
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    words = f"{free / _GIB:.1f} GiB free for {folder}"
    if free < _GIB:
        yield Finding("disk", WARN, words, "make room, or set XDG_CACHE_HOME to a larger disk")
    else:
        yield Finding("disk", OK, words)


def power(host: Host) -> Iterator[Finding]:
    """A Jetson's power mode; nothing elsewhere."""
    if not host.l4t:
        return
    said = host.run(["nvpmodel", "-q"]) or ""
    mode = re.search(r"NV Power Mode:\s*(\S+)", said)
    if mode is None:
        yield Finding("power mode", WARN, "unknown", "sudo nvpmodel -q")
        return
    modes = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", read_text(host.root / "etc/nvpmodel.conf") or "")
    best = next((number for wanted in ("MAXN_SUPER", "MAXN") for number, name in modes if name == wanted), None)
    if mode[1].startswith("MAXN") or best is None:
        yield Finding("power mode", OK, mode[1])
        return
    yield Finding("power mode", WARN, mode[1], f"sudo nvpmodel -m {best} for full speed, where supply and cooling allow it")
