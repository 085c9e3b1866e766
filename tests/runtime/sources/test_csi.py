from sp_edge_runtime.sources.address import source_kind
from sp_edge_runtime.sources.csi import csi_pipeline, csi_request
from sp_edge_runtime.sources.options import SourceOptions


def test_the_pipeline_of_a_csi_camera() -> None:
    text = csi_pipeline(1, (1280, 720), 29.5, "rotate-90")
    assert "nvarguscamerasrc sensor-id=1 !" in text
    assert "video/x-raw(memory:NVMM),width=1280,height=720,framerate=59/2 !" in text
    assert "flip-method=3 ! video/x-raw,format=BGRx,width=720,height=1280 !" in text
    assert text.endswith("appsink drop=1 max-buffers=1 sync=false")
    assert source_kind(text) == "gstreamer"


def test_what_a_csi_camera_is_asked_for_stands_in_its_pipeline() -> None:
    request = csi_request("csi://1", SourceOptions(size_wh=(640, 480), rate=60, flip="rotate-180", vid_stride=2, timeout=3))
    assert request.address == csi_pipeline(1, (640, 480), 60, "rotate-180")
    assert (request.kind, request.size_wh, request.rate, request.stride, request.timeout) == ("gstreamer", None, None, 2, 3)
    assert csi_request("csi://0", SourceOptions()).address == csi_pipeline(0, (1280, 720), 30.0)
