#!/usr/bin/env bash
# Pillow 13.0.0 reads a gray TIFF of 16 bits whose white is 0 as its negative. One of 8 bits it reads as it is meant.
#
# PhotometricInterpretation 0 (WhiteIsZero) says that 0 is white. Pillow inverts 1 to 8 bits (raw modes such as 'L;I'), but has no
# such mode for 16 bits: the numbers come as they are stored, and nothing tells it but the tag.
# What helps: look at `image.tag_v2[262]`, and take 65535 - values where it is 0.
# Seen with Python 3.11:
#   8 bits: 255; 16 bits: 0
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0"
cat > "$place/show.py" <<'PYTHON'
import io
import struct

from PIL import Image


def white(bits: int) -> bytes:
    """A TIFF of one white pixel, which is stored as 0."""
    tags = {256: 1, 257: 1, 258: bits, 259: 1, 262: 0, 273: 8, 277: 1, 278: 1, 279: bits // 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 10) + bytes(2) + struct.pack("<H", len(tags)) + entries + bytes(4)


eight, sixteen = (Image.open(io.BytesIO(white(bits))).getpixel((0, 0)) for bits in (8, 16))
print(f"8 bits: {eight}; 16 bits: {sixteen}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
8 bits: 255; 16 bits: 0
SEEN
echo "as described"
