#!/usr/bin/env bash
# FFmpeg hands on a picture of MJPEG over HTTP when the next one comes, if the camera sends no Content-Length, and times that are made up.
#
# A JPEG tells its own end, but FFmpeg's demuxer mpjpeg looks for the boundary of the next part, in steps of 2048 bytes. So every
# picture is recognized one interval too late: two seconds at a picture in two seconds. fflags=nobuffer, a small probesize and one
# thread change nothing; of tiny pictures several are late. Many small cameras send no length. With a length each one is there before
# the next is sent. Either way the frames' times count 25 a second, whatever comes.
# What helps: read the answer oneself, and hand on what ends in FF D9 as soon as it is there; and take the clock's time.
# Seen with Python 3.11, av 18.1.0 (libavformat 62.12.102), numpy 2.3.5, pillow 13.0.0; the camera sends a picture when the last
# one was handed on, or after half a second:
#   with Content-Length: pictures late by [0, 0, 0, 0], 0.04 s apart
#   with Content-Length, nobuffer: pictures late by [0, 0, 0, 0], 0.04 s apart
#   without: pictures late by [1, 1, 1, 1], 0.04 s apart
#   without, nobuffer: pictures late by [1, 1, 1, 1], 0.04 s apart
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5 pillow==13.0.0
cat > "$place/show.py" <<'PYTHON'
import io
import socket
import threading

import av
import numpy as np
from PIL import Image

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
rng = np.random.default_rng(0)
LOW_LATENCY = {"fflags": "nobuffer", "probesize": "32", "analyzeduration": "0"}


class Camera:
    """Sends pictures of the grays 0, 20, 40, ... over HTTP; `sent` counts them."""

    def __init__(self, with_length):
        self._server, self._with_length = socket.create_server(("127.0.0.1", 0)), with_length
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/"
        self.sent, self.arrived = 0, threading.Semaphore(0)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        peer, _ = self._server.accept()
        peer.recv(4096)
        peer.sendall(HEAD)
        while self.sent < 11:
            picture = io.BytesIO()
            pixels = 20 * (self.sent + 1) + rng.integers(-15, 16, (240, 320))
            Image.fromarray(pixels.astype(np.uint8)).save(picture, "JPEG", quality=95)
            length = f"Content-Length: {picture.tell()}\r\n" if self._with_length else ""
            self.sent += 1
            peer.sendall(f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode() + picture.getvalue() + b"\r\n")
            self.arrived.acquire(timeout=0.5)


for with_length in (True, False):
    for options in ({}, LOW_LATENCY):
        camera, late, times = Camera(with_length), [], []
        with av.open(camera.url, format="mpjpeg", options=options) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(video=0):
                number = round(frame.to_ndarray(format="gray").mean() / 20) - 1
                late.append(camera.sent - 1 - number)
                times.append(frame.time)
                camera.arrived.release()
                if number == 7:
                    break
        said = "with Content-Length" if with_length else "without"
        said += ", nobuffer" if options else ""
        print(f"{said}: pictures late by {late[-4:]}, {times[-1] - times[-2]:.2f} s apart")
PYTHON
timeout 120 "$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
with Content-Length: pictures late by [0, 0, 0, 0], 0.04 s apart
with Content-Length, nobuffer: pictures late by [0, 0, 0, 0], 0.04 s apart
without: pictures late by [1, 1, 1, 1], 0.04 s apart
without, nobuffer: pictures late by [1, 1, 1, 1], 0.04 s apart
SEEN
echo "as described"
