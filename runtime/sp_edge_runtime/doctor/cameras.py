"""Probes of cameras, and of what reads them: PyAV, OpenCV, GStreamer, PyGObject."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sp_edge.engines.device import read_text
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN, Finding, Host, LoadError
from sp_edge_runtime.doctor.packages import least, numbers
from sp_edge_runtime.sources.usb import stable_device

_GST = "sudo apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
_GI = "sudo apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good"


def pyav(host: Host) -> Iterator[Finding]:
    """PyAV, which reads video files and network streams."""
    wanted = least(host, "av")
    remedy = f"pip install 'av>={wanted}'"
    try:
        version = host.load("av", "m.__version__")
    except LoadError as error:
        yield Finding("PyAV", MISSING, f"installed, but does not load: {error}", "pip install --force-reinstall av")
        return
    if version is None:
        # On a Jetson the extra would put pip's OpenCV before JetPack's.
        whole = remedy if host.l4t else "pip install 'sp-edge[camera]'"
        yield Finding("PyAV", MISSING, "not installed; pictures and USB cameras work without it", whole)
    elif numbers(version) < numbers(wanted):
        yield Finding("PyAV", MISSING, f"{version}, older than {wanted}", remedy)
    else:
        yield Finding("PyAV", OK, version)


def opencv(host: Host) -> Iterator[Finding]:
    """OpenCV, which reads USB cameras, and whether it was built with GStreamer, which a CSI camera needs."""
    try:
        said = host.load("cv2", "m.__version__ + chr(10) + m.getBuildInformation()")
    except LoadError as error:
        remedy = "pip install --force-reinstall opencv-python-headless"
        if host.l4t:
            remedy = "sudo apt-get install --reinstall nvidia-opencv; with JetPack 6 it needs numpy<2 in the environment"
        yield Finding("OpenCV", MISSING, f"installed, but does not load: {error}", remedy)
        return
    if said is None:
        remedy = "sudo apt-get install nvidia-opencv" if host.l4t else "pip install 'sp-edge[camera]'"
        yield Finding("OpenCV", MISSING, "not installed; files and network streams work without it", remedy)
        return
    version = said.split("\n", 1)[0]
    if re.search(r"GStreamer:\s*YES", said):
        yield Finding("OpenCV", OK, f"{version} with GStreamer")
    elif host.l4t:
        remedy = "pip uninstall opencv-python opencv-python-headless; sudo apt-get install nvidia-opencv"
        yield Finding("OpenCV", WARN, f"{version} without GStreamer: no CSI camera through it", remedy)
    else:
        yield Finding("OpenCV", OK, f"{version} without GStreamer; USB cameras work")


def gstreamer(host: Host) -> Iterator[Finding]:
    """GStreamer's programs, and on a Jetson the source of CSI cameras."""
    said = host.run(["gst-inspect-1.0", "--version"])
    if said is None:
        state = WARN if host.l4t else OK
        yield Finding("GStreamer", state, "not installed" + ("" if host.l4t else "; needed for CSI cameras alone"), _GST)
        return
    version = re.search(r"GStreamer ([\d.]+)", said)
    words = version[1] if version else "there"
    if host.l4t and host.run(["gst-inspect-1.0", "nvarguscamerasrc"]) is None:
        remedy = "sudo apt-get install --reinstall nvidia-l4t-gstreamer nvidia-l4t-camera; rm -r ~/.cache/gstreamer-1.0"
        yield Finding("GStreamer", WARN, f"{words} without nvarguscamerasrc: no CSI camera", remedy)
        return
    yield Finding("GStreamer", OK, words + (" with nvarguscamerasrc" if host.l4t else ""))


def pygobject(host: Host) -> Iterator[Finding]:
    """GStreamer from Python, which reads CSI cameras where OpenCV cannot."""
    try:
        said = host.load("gi", "m.__version__ if m.require_version('Gst', '1.0') is None else ''")
    except LoadError as error:
        yield Finding("PyGObject", WARN, f"does not load: {error}", _GI)
        return
    if said is None:
        yield Finding(
            "PyGObject", WARN if host.l4t else OK, "not installed; needed for CSI cameras where OpenCV has no GStreamer", _GI
        )
        return
    yield Finding("PyGObject", OK, f"{said} with Gst 1.0")


def cameras(host: Host) -> Iterator[Finding]:
    """Each camera, by the name under which it is found again after it was unplugged."""
    devices = sorted((host.root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not devices:
        remedy = "plug one in; files and RTSP streams need none"
        if host.l4t:
            remedy += "; a CSI camera: sudo /opt/nvidia/jetson-io/jetson-io.py, then reboot"
        yield Finding("cameras", WARN, "none", remedy)
        return
    by_id = host.root / "dev/v4l/by-id"
    sensors = 0
    for device in devices:
        name = (read_text(host.root / "sys/class/video4linux" / device.name / "name") or "").strip()
        csi = name.startswith("vi-output")
        source = f"csi://{sensors}" if csi else f"/dev/{device.name}"
        sensors += csi
        stable = Path(stable_device(str(device), by_id))
        found = (name or "a video device") + (f", /dev/v4l/by-id/{stable.name}" if stable != device else "")
        if host.usable(device):
            yield Finding(f"camera {source}", OK, found)
        else:
            yield Finding(
                f"camera {source}", WARN, f"{found}; not yours to open", "sudo usermod -aG video $USER, then log in again"
            )
    night = "a camera without color, as in infrared, tells less; stream says when it turns gray (docs/cameras.md, Night)"
    yield Finding("cameras at night", OK, night)
