#!/usr/bin/env bash
# Pillow 13.0.0's `ImageOps.exif_transpose` fails on a turned picture for an EXIF entry that it does not need.
#
# It writes EXIF anew without the orientation, and so packs every entry, also those of another type than the standard's. A resolution
# that is stored as text ends it with "bad operand type for abs(): 'str'". Viewers turn the picture and show it.
# What helps: `image.getexif().get(0x0112)`, which reads the orientation alone, and `image.transpose`.
# Seen with Python 3.11:
#   orientation 6; exif_transpose: TypeError
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0"
cat > "$place/show.py" <<'PYTHON'
import io
import struct

from PIL import Image, ImageOps

entries = ((0x112, 3, 1, struct.pack("<HH", 6, 0)), (0x11A, 2, 4, b"72\0\0"))  # orientation 6; resolution '72', as text
exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in entries) + bytes(4)
stream = io.BytesIO()
Image.new("RGB", (32, 16)).save(stream, "JPEG", exif=exif)
opened = Image.open(stream)
orientation = opened.getexif().get(0x112)
try:
    became = str(ImageOps.exif_transpose(opened).size)
except Exception as error:
    became = type(error).__name__
print(f"orientation {orientation}; exif_transpose: {became}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
orientation 6; exif_transpose: TypeError
SEEN
echo "as described"
