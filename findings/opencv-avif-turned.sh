#!/usr/bin/env bash
# OpenCV reads a turned AVIF as it is stored, on its side; JPEG, PNG and WebP with the same EXIF orientation it reads upright.
#
# `imread` and `imdecode` turn pictures by EXIF, so a data set of JPEGs needs no care. AVIF keeps the turn in its boxes 'irot' and
# 'imir', which Pillow writes from EXIF and OpenCV 5.0.0 does not look at. Nothing is logged. So a folder that was converted to AVIF
# to save space teaches classes lying on their side, and Pillow's readers see other pictures than OpenCV's.
# What helps: read AVIF by Pillow and `ImageOps.exif_transpose`; or turn the pixels before they are saved.
# Seen with Python 3.11, opencv-python-headless 5.0.0.93, pillow 13.0.0, numpy 2.3.5; stored as 32x16, the left half
# white, with orientation 6:
#   JPEG: OpenCV 16x32, white above; Pillow 16x32, white above
#   PNG: OpenCV 16x32, white above; Pillow 16x32, white above
#   WEBP: OpenCV 16x32, white above; Pillow 16x32, white above
#   AVIF: OpenCV 32x16, white left; Pillow 16x32, white above
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import io

import cv2
import numpy as np
from PIL import Image, ImageOps

stored = np.zeros((16, 32, 3), np.uint8)
stored[:, :16] = 255  # becomes the upper half by orientation 6
exif = Image.Exif()
exif[0x112] = 6


def half(picture):
    """Size, and which half is white."""
    height, width = picture.shape[:2]
    upright = height > width
    white = picture[: height // 2].mean() > 200 if upright else picture[:, : width // 2].mean() > 200
    return f"{width}x{height}, white {('above' if white else 'below') if upright else ('left' if white else 'right')}"


for kind in ("JPEG", "PNG", "WEBP", "AVIF"):
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, kind, exif=exif)
    by_opencv = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    by_pillow = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    print(f"{kind}: OpenCV {half(by_opencv)}; Pillow {half(by_pillow)}")
PYTHON
"$place/env/bin/python" "$place/show.py" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
JPEG: OpenCV 16x32, white above; Pillow 16x32, white above
PNG: OpenCV 16x32, white above; Pillow 16x32, white above
WEBP: OpenCV 16x32, white above; Pillow 16x32, white above
AVIF: OpenCV 32x16, white left; Pillow 16x32, white above
SEEN
echo "as described"
