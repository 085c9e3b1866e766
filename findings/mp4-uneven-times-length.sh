#!/usr/bin/env bash
# An MP4 of frames at uneven times tells a length that is far too short, unless B-frames are turned off.
#
# A camera's frames do not come evenly, and a program that writes them at their own times relies on the container. With
# libx264's default B-frames, FFmpeg's MP4 muxer takes the last packet's duration and order for the end: frames at 0, 0.04, 0.1,
# 1 and 3 s tell 0.24 s. All frames are in the file, at their times; players show a bar of a quarter of a second. Matroska
# tells 3.04 s for the same packets.
# What helps: the option bf=0 for libx264 where times are uneven.
# Seen with Python 3.11, av 18.1.0 (libavformat 62.12.102), numpy 2.3.5:
#   mp4: 0.24 s, frames at 0.0 0.04 0.1 1.0 3.0
#   mkv: 3.04 s, frames at 0.0 0.04 0.1 1.0 3.0
#   mp4, bf=0: 3.04 s, frames at 0.0 0.04 0.1 1.0 3.0
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import sys
from fractions import Fraction
import av
import numpy as np

def show(name, ending, options):
    path = f"{sys.argv[1]}/video.{ending}"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, milliseconds in enumerate((0, 40, 100, 1000, 3000)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(path) as container:
        times = [str(round(frame.time, 3)) for frame in container.decode(video=0)]
        print(f"{name}: {container.duration / 1e6:.2f} s, frames at {' '.join(times)}")

show("mp4", "mp4", {})
show("mkv", "mkv", {})
show("mp4, bf=0", "mp4", {"bf": "0"})
PYTHON
"$place/venv/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
mp4: 0.24 s, frames at 0.0 0.04 0.1 1.0 3.0
mkv: 3.04 s, frames at 0.0 0.04 0.1 1.0 3.0
mp4, bf=0: 3.04 s, frames at 0.0 0.04 0.1 1.0 3.0
SEEN
echo "as described"
