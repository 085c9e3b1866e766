from __future__ import annotations

from pathlib import Path

import pytest

import toy_host
from sp_edge_runtime.doctor.cameras import cameras, gstreamer, opencv, pyav, pygobject
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN

WITH = "4.8.0\n  Video I/O:\n    DC1394:                      NO\n    GStreamer:                   YES (1.20.3)\n"
WITHOUT = "4.12.0\n  Video I/O:\n    FFMPEG:                      YES\n    GStreamer:                   NO\n"


@pytest.mark.parametrize(
    ("said", "desktop", "jetson", "words"),
    [
        (WITH, OK, OK, "4.8.0 with GStreamer"),
        (WITHOUT, OK, WARN, "4.12.0 without GStreamer"),
        (None, MISSING, MISSING, "not installed"),
        (ImportError("numpy.core.multiarray failed to import"), MISSING, MISSING, "does not load: numpy.core"),
    ],
)
def test_opencv(tmp_path: Path, said: str | Exception | None, desktop: str, jetson: str, words: str) -> None:
    (found,) = opencv(toy_host.host(tmp_path / "desktop", modules={"cv2": said}))  # type: ignore[dict-item]
    assert found.state == desktop
    assert words in found.found
    (found,) = opencv(toy_host.jetson(tmp_path / "jetson", modules={"cv2": said}))
    assert found.state == jetson
    assert ("nvidia-opencv" in found.remedy) == (jetson != OK)
    assert "pip install" not in found.remedy


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("17.1.0", OK, "17.1.0"),
        ("14.4.0", MISSING, "14.4.0, older than 17"),
        (None, MISSING, "not installed"),
        (ImportError("libavcodec.so.62"), MISSING, "does not load: libavcodec.so.62"),
    ],
)
def test_pyav(tmp_path: Path, said: str | Exception | None, state: str, words: str) -> None:
    (found,) = pyav(toy_host.host(tmp_path / "desktop", modules={"av": said}))  # type: ignore[dict-item]
    assert (found.state, words in found.found) == (state, True)
    (found,) = pyav(toy_host.jetson(tmp_path / "jetson", modules={"av": said}))
    assert found.state == state
    # The extra would put pip's OpenCV, which has no GStreamer, before JetPack's.
    assert "sp-edge[camera]" not in found.remedy


def test_gstreamer_has_the_csi_cameras_source(tmp_path: Path) -> None:
    (found,) = gstreamer(toy_host.jetson(tmp_path))
    assert (found.state, found.found) == (OK, "1.20.3 with nvarguscamerasrc")
    # Only `--version` answers: the source is not there.
    host = toy_host.host(
        tmp_path,
        files=toy_host.JETSON_FILES,
        programs={"gst-inspect-1.0 --version": toy_host.JETSON_PROGRAMS["gst-inspect-1.0"]},
    )
    (found,) = gstreamer(host)
    assert found.state == WARN
    assert "nvidia-l4t-gstreamer" in found.remedy
    (found,) = gstreamer(toy_host.host(tmp_path / "desktop"))
    assert (found.state, "CSI cameras alone" in found.found) == (OK, True)


def test_pygobject(tmp_path: Path) -> None:
    (found,) = pygobject(toy_host.jetson(tmp_path))
    assert (found.state, found.found) == (OK, "3.42.1 with Gst 1.0")
    for said in (None, ValueError("Namespace Gst not available")):
        (found,) = pygobject(toy_host.jetson(tmp_path, modules={"gi": said}))
        assert found.state == WARN
        assert "python3-gi" in found.remedy


def test_cameras_by_the_names_that_last(tmp_path: Path) -> None:
    for number, name in [
        (0, "vi-output, imx219 9-0010\n"),
        (1, "vi-output, imx219 10-0010\n"),
        (10, "C920\n"),
        (2, "HD Webcam\n"),
    ]:
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / f"dev/video{number}").touch()
        about = tmp_path / f"sys/class/video4linux/video{number}/name"
        about.parent.mkdir(parents=True)
        about.write_text(name)
    by_id = tmp_path / "dev/v4l/by-id"
    by_id.mkdir(parents=True)
    (by_id / "usb-HD_Webcam-video-index0").symlink_to("../../video2")
    found = list(cameras(toy_host.jetson(tmp_path, usable=lambda path: path.name != "video10")))
    assert [(finding.name, finding.state) for finding in found] == [
        ("camera csi://0", OK),
        ("camera csi://1", OK),
        ("camera /dev/video2", OK),
        ("camera /dev/video10", WARN),
        ("cameras at night", OK),
    ]
    assert found[0].found == "vi-output, imx219 9-0010"
    assert found[2].found == "HD Webcam, /dev/v4l/by-id/usb-HD_Webcam-video-index0"
    assert "usermod -aG video" in found[3].remedy
    assert "infrared" in found[4].found


def test_no_camera_is_no_error(tmp_path: Path) -> None:
    (found,) = cameras(toy_host.host(tmp_path))
    assert found.state == WARN
    assert "jetson-io" not in found.remedy
    (found,) = cameras(toy_host.jetson(tmp_path))
    assert "jetson-io" in found.remedy
