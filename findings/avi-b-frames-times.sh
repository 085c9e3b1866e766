#!/usr/bin/env bash
# Frames of an AVI with H.264 B-frames come with times that run back.
#
# AVI stores no presentation times. FFmpeg's demuxer numbers the packets in the order of decoding, and the decoder hands each
# packet's number to the frame that it belongs to. The frames come in the right order of showing, with wrong times: 0.083,
# 0.333, 0.25 s. A program that measures time, or picks frames, by `frame.time` goes back and forth.
# What helps: in AVI, take the sorted times of the packets for the frames in the order in which they come.
# Seen with Python 3.11, av 18.1.0 (libavformat 62.12.102), numpy 2.3.5:
#   shown in order: True
#   times: 0.083 0.333 0.25 0.417 0.167 0.667 0.583 0.75 0.5 0.917 1.0 0.833
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import sys
import av
import numpy as np

path = f"{sys.argv[1]}/video.avi"
with av.open(path, "w") as out:
    stream = out.add_stream("libx264", rate=12)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    for number in range(12):
        grey = np.full((64, 64, 3), 20 * number, np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
    out.mux(stream.encode(None))
with av.open(path) as container:
    frames = [(frame.to_ndarray(format="gray").mean(), frame.time) for frame in container.decode(video=0)]
print("shown in order:", [level for level, _ in frames] == sorted(level for level, _ in frames))
print("times:", *(round(time, 3) for _, time in frames))
PYTHON
"$place/venv/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
shown in order: True
times: 0.083 0.333 0.25 0.417 0.167 0.667 0.583 0.75 0.5 0.917 1.0 0.833
SEEN
echo "as described"
