#!/usr/bin/env bash
# A gray video by PyAV and libx264 comes back with other numbers: 100 as 98, 200 as 214, 235 to 255 all as 255.
#
# Infrared and thermal cameras give gray. With pix_fmt "gray", which libx264 takes, PyAV 18.1.0 stores the numbers 0 to 255 as they
# are, and writes nowhere that the range is full. Readers take H.264 without that mark for limited range, PyAV too, and stretch 16 to
# 235 to 0 to 255: the darkest and brightest parts are lost. FFV1 keeps the same frames exactly; so does yuv420p.
# What helps: pix_fmt "yuv420p"; or `stream.codec_context.color_range` of full range, which the file then says.
# Seen with Python 3.11, av 18.1.0 (libavcodec 62.28.102), numpy 2.3.5; frames of one gray are written, and read as gray:
#   libx264, gray: 5 100 200 240 come as 0 98 214 255
#   libx264, gray, told full range: 5 100 200 240 come as 5 100 200 240
#   libx264, yuv420p: 5 100 200 240 come as 5 100 200 240
#   ffv1, gray: 5 100 200 240 come as 5 100 200 240
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import sys

import av
import numpy as np
from av.video.reformatter import ColorRange

path = f"{sys.argv[1]}/video.mkv"


def back(gray, codec, pix_fmt, full=False):
    """A gray after it was written and read."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=10, options={"crf": "1"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 64, pix_fmt
        if full:
            stream.codec_context.color_range = ColorRange.JPEG
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64), gray, np.uint8), "gray")))
        out.mux(stream.encode(None))
    with av.open(path) as container:
        return next(container.decode(video=0)).to_ndarray(format="gray")[32, 32]


for codec, pix_fmt, full in (("libx264", "gray", False), ("libx264", "gray", True), ("libx264", "yuv420p", False), ("ffv1", "gray", False)):
    found = " ".join(str(back(gray, codec, pix_fmt, full)) for gray in (5, 100, 200, 240))
    print(f"{codec}, {pix_fmt}{', told full range' if full else ''}: 5 100 200 240 come as {found}")
PYTHON
"$place/env/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
libx264, gray: 5 100 200 240 come as 0 98 214 255
libx264, gray, told full range: 5 100 200 240 come as 5 100 200 240
libx264, yuv420p: 5 100 200 240 come as 5 100 200 240
ffv1, gray: 5 100 200 240 come as 5 100 200 240
SEEN
echo "as described"
