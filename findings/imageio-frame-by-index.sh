#!/usr/bin/env bash
# imageio's `imread(video, index=n)` gives other frames than the n-th where times are uneven, or do not begin at 0.
#
# imageio 2.38.1 with its plugin pyav takes n / rate for the time of a frame, and jumps to it. For MP4 and Matroska it holds the rate for
# constant, as their demuxers do not say otherwise. Frames of a camera come unevenly: a labeled frame 3 is frame 5 when it is read
# again. A recording that begins at 1 s, as cut ones and those of streams do, gives its first frame for nearly all numbers.
# `imiter` goes through all frames rightly, so pictures chosen by it and read by number do not belong together.
# What helps: constant_framerate=False, which decodes up to the frame; or `imiter`.
# Seen with Python 3.11, imageio 2.38.1, av 18.1.0, numpy 2.3.5; frames 0 to 11, read by number:
#   uneven MP4, imiter: 0 1 2 3 4 5 6 7 8 9 10 11
#   uneven MP4, imread by number: 0 1 2 5 6 7 9 10 11
#   uneven MP4, imread {'constant_framerate': False}: 0 1 2 3 4 5 6 7 8
#   Matroska from 1 s on, imiter: 0 1 2 3 4 5 6 7 8 9 10 11
#   Matroska from 1 s on, imread by number: 0 1 0 0 0 0 0 0 0 0 0 0
#   Matroska from 1 s on, imread {'constant_framerate': False}: 0 1 2 3 4 5 6 7 8 9 10 11
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check imageio==2.38.1 av==18.1.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import sys
from fractions import Fraction

import av
import imageio.v3 as iio
import numpy as np


def write(path, milliseconds):
    """A video whose frame n has the gray 20 * n."""
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"bf": "0", "g": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def numbers(pictures):
    return " ".join(str(round(picture.mean() / 20)) for picture in pictures)


def show(name, path, milliseconds, count):
    write(path, milliseconds)
    print(f"{name}, imiter: {numbers(iio.imiter(path, plugin='pyav'))}")
    for said in ({}, {"constant_framerate": False}):
        pictures = (iio.imread(path, index=number, plugin="pyav", **said) for number in range(count))
        print(f"{name}, imread {said or 'by number'}: {numbers(pictures)}")


place = sys.argv[1]
show("uneven MP4", f"{place}/uneven.mp4", (0, 40, 100, 150, 400, 900, 1000, 1040, 1080, 2000, 2100, 2140), 9)
show("Matroska from 1 s on", f"{place}/later.mkv", (1000 + 40 * number for number in range(12)), 12)
PYTHON
"$place/env/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
uneven MP4, imiter: 0 1 2 3 4 5 6 7 8 9 10 11
uneven MP4, imread by number: 0 1 2 5 6 7 9 10 11
uneven MP4, imread {'constant_framerate': False}: 0 1 2 3 4 5 6 7 8
Matroska from 1 s on, imiter: 0 1 2 3 4 5 6 7 8 9 10 11
Matroska from 1 s on, imread by number: 0 1 0 0 0 0 0 0 0 0 0 0
Matroska from 1 s on, imread {'constant_framerate': False}: 0 1 2 3 4 5 6 7 8 9 10 11
SEEN
echo "as described"
