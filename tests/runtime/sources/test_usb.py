from pathlib import Path

import pytest

from sp_edge_runtime.sources.options import SourceOptions
from sp_edge_runtime.sources.usb import stable_device, usb_request


def test_a_usb_camera_keeps_its_name_when_it_is_plugged_in_again(tmp_path: Path) -> None:
    by_id = tmp_path / "by-id"
    assert stable_device("/dev/video0", by_id) == "/dev/video0"
    by_id.mkdir()
    for number in range(2):
        (tmp_path / f"video{number}").touch()
        (by_id / f"usb-camera{number}").symlink_to(f"../video{number}")
    assert stable_device(str(tmp_path / "video1"), by_id) == str(by_id / "usb-camera1")
    assert stable_device(str(tmp_path / "video7"), by_id) == str(tmp_path / "video7")


@pytest.mark.parametrize("text", ["7", "/dev/video7", "v4l2:///dev/video7"])
def test_a_usb_camera_by_its_number_or_path(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    request = usb_request(text, SourceOptions(size_wh=(640, 480), rate=15))
    assert (request.kind, request.size_wh, request.rate) == ("device", (640, 480), 15)
    assert request.address == stable_device("/dev/video7")
    monkeypatch.setattr("sys.platform", "win32")
    assert usb_request(text, SourceOptions()).address == "7", "elsewhere cameras have numbers alone"


def test_a_usb_camera_by_its_lasting_name() -> None:
    name = "/dev/v4l/by-id/usb-camera0"
    assert usb_request(name, SourceOptions()).address == stable_device(name)
