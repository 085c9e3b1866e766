#!/usr/bin/env bash
# PyAV writes the color matrix and range that a stream is told into the file, and converts the pictures by other ones.
#
# `stream.codec_context.colorspace` and `color_range` are what a careful program sets for HD. When `encode` gets an RGB frame,
# PyAV 18.1.0 converts it by BT.601 and limited range in any case. So the file says BT.709 of pictures that are not, or full range
# of limited ones: every reader that honors the tags, also PyAV itself, shows red as orange and white as gray. Untagged it is right.
# What helps: `frame.reformat(format=..., dst_colorspace=..., src_color_range=..., dst_color_range=...)` before `encode`.
# Seen with Python 3.11, av 18.1.0 (libavcodec 62.28.102), numpy 2.3.5; red and white are written, and read:
#   not tagged: red 253 0 0, white 255 255 255
#   tagged BT.709: red 255 23 0, white 255 255 255
#   tagged full range: red 238 14 13, white 235 235 235
#   tagged BT.709 and converted before: red 254 0 0, white 255 255 255
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import sys

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

path = f"{sys.argv[1]}/video.mp4"
BT709 = 1  # as in ITU-T H.273


def back(color, convert, **tags):
    """A color after it was written by a stream with the tags, and read."""
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), color, np.uint8), "rgb24")
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        out.mux(stream.encode(convert(frame)))
        out.mux(stream.encode(None))
    with av.open(path) as container:
        return " ".join(map(str, next(container.decode(video=0)).to_ndarray(format="rgb24")[32, 32]))


def before(frame):
    return frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG
    )


for name, convert, tags in (
    ("not tagged", lambda frame: frame, {}),
    ("tagged BT.709", lambda frame: frame, {"colorspace": BT709}),
    ("tagged full range", lambda frame: frame, {"color_range": ColorRange.JPEG}),
    ("tagged BT.709 and converted before", before, {"colorspace": BT709, "color_range": ColorRange.MPEG}),
):
    print(f"{name}: red {back((255, 0, 0), convert, **tags)}, white {back((255, 255, 255), convert, **tags)}")
PYTHON
"$place/env/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
not tagged: red 253 0 0, white 255 255 255
tagged BT.709: red 255 23 0, white 255 255 255
tagged full range: red 238 14 13, white 235 235 235
tagged BT.709 and converted before: red 254 0 0, white 255 255 255
SEEN
echo "as described"
