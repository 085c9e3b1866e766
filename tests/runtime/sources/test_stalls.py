"""A camera's web server that stalls and goes on."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.frames import State
from sp_edge_runtime.sources.options import SourceOptions


class Mjpeg:
    """A camera's web server. While `stalled` is set it keeps its connections and sends nothing."""

    def __init__(self) -> None:
        self.stalled, self.over = threading.Event(), threading.Event()
        self.colour = 200
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while not camera.over.wait(0.02):
                        if camera.stalled.is_set():
                            continue
                        encoded = io.BytesIO()
                        Image.new("RGB", (64, 48), (camera.colour, 40, 40)).save(encoded, "JPEG")
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {encoded.tell()}\r\n\r\n"
                        self.wfile.write(head.encode() + encoded.getvalue() + b"\r\n")
                except OSError:
                    pass  # the one who watched has gone

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01])
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_an_mjpeg_camera_that_stalls_and_comes_back() -> None:
    camera = Mjpeg()
    try:
        with open_source(f"http://127.0.0.1:{camera.server.server_port}/?token=secret", SourceOptions(timeout=2.0)) as source:
            frames = iter(source)
            mean = next(frames).image_rgb.mean(axis=(0, 1))
            np.testing.assert_allclose(mean, [200, 40, 40], atol=12)  # JPEG's loss
            camera.stalled.set()
            pause = threading.Event()
            while source.state is State.RUNNING:
                pause.wait(0.02)
            assert source.take() is None  # what was seen before is not shown while nothing comes
            camera.colour = 90
            camera.stalled.clear()
            np.testing.assert_allclose(next(frames).image_rgb.mean(axis=(0, 1)), [90, 40, 40], atol=12)
            changes = source.changes()
        assert State.RESTARTING in [change.state for change in changes]
        assert not any("secret" in change.source + change.reason for change in changes)
    finally:
        camera.close()
