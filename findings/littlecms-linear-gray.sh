#!/usr/bin/env bash
# Little CMS 2.19, as Pillow 13.0.0 calls it, converts dark grays of a linear profile to up to 10 of 255 too dark ones.
#
# For 8 bits it makes a table of 33 grays and puts the others between them, whatever the curve is. A linear profile, as cameras and
# renderers write, is steep in the dark. RGB with the same curve is right: Little CMS keeps curves and matrix there.
# What helps: `ImageCms.Flags.NOOPTIMIZE`. It is slow, so apply it to the 256 grays once, and look the picture's up in that.
# Seen with Python 3.11:
#   by default above 8: True; with NOOPTIMIZE below 1: True; RGB below 1: True
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0" "numpy==2.3.5"
cat > "$place/show.py" <<'PYTHON'
import io
import struct

import numpy as np
from PIL import Image, ImageCms

D50 = struct.pack(">3i", 63190, 65536, 54061)
LINEAR = b"curv" + bytes(8)


def profile(space: bytes, tags: dict[bytes, bytes]) -> ImageCms.ImageCmsProfile:
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\1" + bytes(80), b"cprt": b"text" + bytes(8), b"wtpt": b"XYZ \0\0\0\0" + D50, **tags}
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s12x4s", at + len(body), b"", 0x02100000, b"mntr", space, b"XYZ ", b"acsp")
    return ImageCms.ImageCmsProfile(io.BytesIO(head.ljust(68, b"\0") + D50.ljust(60, b"\0") + table + body))


def away(found: ImageCms.ImageCmsProfile, picture: Image.Image, flags: int) -> float:
    """The largest difference from sRGB's curve, of 255."""
    transform = ImageCms.buildTransform(found, ImageCms.createProfile("sRGB"), picture.mode, "RGB", 1, flags)
    light = np.arange(256) / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return float(np.abs(np.asarray(ImageCms.applyTransform(picture, transform))[0, :, 1] - expected).max())


gray = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
sRGB = ((28578, 14581, 912), (25241, 46981, 6362), (9376, 3973, 46779))  # columns of sRGB's matrix, for D50
columns = {b"%cXYZ" % name: b"XYZ \0\0\0\0" + struct.pack(">3i", *sRGB[at]) for at, name in enumerate(b"rgb")}
of_gray = profile(b"GRAY", {b"kTRC": LINEAR})
of_rgb = profile(b"RGB ", {**columns, **{b"%cTRC" % name: LINEAR for name in b"rgb"}})
default, exact, rgb = away(of_gray, gray, 0), away(of_gray, gray, 0x100), away(of_rgb, gray.convert("RGB"), 0)
print(f"by default above 8: {default > 8}; with NOOPTIMIZE below 1: {exact < 1}; RGB below 1: {rgb < 1}")
print(f"exactly: {default:.1f}, {exact:.1f}, {rgb:.1f}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff <(head -1 "$place/seen") - <<'SEEN'
by default above 8: True; with NOOPTIMIZE below 1: True; RGB below 1: True
SEEN
echo "as described"
