#!/usr/bin/env bash
# OpenCV up to 4.12 reads a video that says BT.709 by BT.601; from 4.13 on it honors the tag. The same file gives other colors.
#
# Nearly every HD camera and encoder writes BT.709. Up to 4.12, VideoCapture passes over the tag: pure red comes as 232 0 1, and pure
# green as 19 255 8. So features of frames change where OpenCV changes, though network, file and code stay: classes that were
# taught on a desktop with 4.13 are looked at with other colors on a device with 4.12. A file without a tag is read by BT.601 in both.
# What helps: the same OpenCV everywhere; or PyAV, which follows the tag.
# Seen with Python 3.11, av 18.1.0, numpy 2.2.6:
#   OpenCV 4.12.0, tagged BT.709: red 232 0 1, green 19 255 8, blue 2 0 243
#   OpenCV 4.12.0, BT.601, no tag: red 253 0 0, green 0 254 0, blue 0 0 254
#   OpenCV 4.13.0, tagged BT.709: red 254 0 0, green 0 254 0, blue 0 0 254
#   OpenCV 4.13.0, BT.601, no tag: red 253 0 0, green 0 254 0, blue 0 0 254
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
cat > "$place/show.py" <<'PYTHON'
import sys

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

path = f"{sys.argv[1]}/video.mp4"


def back(color, tagged):
    """A color that was converted by BT.709, or BT.601 without a tag, and what OpenCV makes of it."""
    matrix = Colorspace.ITU709 if tagged else Colorspace.ITU601
    frame = av.VideoFrame.from_ndarray(np.full((720, 1280, 3), color, np.uint8), "rgb24").reformat(
        format="yuv420p", dst_colorspace=matrix, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG
    )
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        if tagged:
            stream.codec_context.colorspace, stream.codec_context.color_range = 1, ColorRange.MPEG  # BT.709, as in ITU-T H.273
        else:
            frame.colorspace = 2  # unspecified
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    capture = cv2.VideoCapture(path)
    read, picture = capture.read()
    assert read
    return " ".join(map(str, picture[360, 640, ::-1]))


colors = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
for tagged in (True, False):
    found = ", ".join(f"{name} {back(color, tagged)}" for name, color in colors.items())
    print(f"OpenCV {cv2.__version__}, {'tagged BT.709' if tagged else 'BT.601, no tag'}: {found}")
PYTHON
for version in 4.12.0.88 4.13.0.92; do
    "$place/env/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==$version" av==18.1.0 numpy==2.2.6
    "$place/env/bin/python" "$place/show.py" "$place" 2> "$place/noise"
done | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
OpenCV 4.12.0, tagged BT.709: red 232 0 1, green 19 255 8, blue 2 0 243
OpenCV 4.12.0, BT.601, no tag: red 253 0 0, green 0 254 0, blue 0 0 254
OpenCV 4.13.0, tagged BT.709: red 254 0 0, green 0 254 0, blue 0 0 254
OpenCV 4.13.0, BT.601, no tag: red 253 0 0, green 0 254 0, blue 0 0 254
SEEN
echo "as described"
