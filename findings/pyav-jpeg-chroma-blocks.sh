#!/usr/bin/env bash
# The same JPEG has other colors from PyAV than from Pillow or OpenCV, by more than 20 levels at edges: PyAV repeats its color samples.
#
# JPEG and video keep one color sample for 4 pixels. libjpeg lays the ones between out smoothly; FFmpeg's conversion to RGB, as
# `to_ndarray(format="rgb24")`, `to_image` and `reformat` of PyAV 18.1.0 call it, gives each sample to all 4. The argument
# `interpolation` changes nothing by itself. So a class taught by photographs meets other colors in the frames of a camera that
# sends the very same JPEGs. Gray levels agree, and so do JPEGs without subsampling; half the size, as before a network, hides most.
# What helps: interpolation=BILINEAR | FULL_CHR_H_INT | ACCURATE_RND, which gives libjpeg's colors and takes longer.
# Seen with Python 3.11, av 18.1.0 (libavcodec 62.28.102), pillow 13.0.0, opencv-python-headless 5.0.0.93, numpy 2.3.5; largest
# difference from Pillow's:
#   4:2:0: OpenCV up to 5; PyAV above 20; PyAV, BICUBIC above 20; PyAV, full chroma up to 5
#   4:4:4: OpenCV up to 5; PyAV up to 5; PyAV, BICUBIC up to 5; PyAV, full chroma up to 5
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    av==18.1.0 pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import io

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation
from PIL import Image

patches = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
picture = Image.fromarray(patches).resize((256, 192), Image.Resampling.BICUBIC)
FULL = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
for name, subsampling in (("4:2:0", 2), ("4:4:4", 0)):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95, subsampling=subsampling)
    by_pillow = np.asarray(Image.open(stream)).astype(int)
    with av.open(io.BytesIO(stream.getvalue()), format="mjpeg") as container:
        frame = next(container.decode(video=0))
    found = {
        "OpenCV": cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1],
        "PyAV": frame.to_ndarray(format="rgb24"),
        "PyAV, BICUBIC": frame.reformat(format="rgb24", interpolation=Interpolation.BICUBIC).to_ndarray(),
        "PyAV, full chroma": frame.reformat(format="rgb24", interpolation=FULL).to_ndarray(),
    }
    apart = {each: np.abs(pixels - by_pillow).max() for each, pixels in found.items()}
    print(f"{name}:", "; ".join(f"{each} {'above 20' if most > 20 else 'up to 5' if most <= 5 else most}" for each, most in apart.items()))
PYTHON
"$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
4:2:0: OpenCV up to 5; PyAV above 20; PyAV, BICUBIC above 20; PyAV, full chroma up to 5
4:4:4: OpenCV up to 5; PyAV up to 5; PyAV, BICUBIC up to 5; PyAV, full chroma up to 5
SEEN
echo "as described"
