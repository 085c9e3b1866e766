#!/usr/bin/env bash
# Pillow 13.0.0 reads an AVIF in Display P3 as if it were sRGB, where the file says so in numbers (nclx) and not by a profile.
#
# AVIF and HEIC may give primaries and transfer as numbers of ITU-T H.273, as phones do. Pillow applies neither, and `image.info` has no
# trace of them: it is the same for sRGB and Display P3. So whoever converts by `info["icc_profile"]` converts nothing.
# What helps: read the box 'colr' of the file, and convert where its primaries are not 1.
# Seen with Python 3.11 (libavif 1.4.2):
#   the same pixels: True; in info: []
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0"
cat > "$place/show.py" <<'PYTHON'
import io

from PIL import Image

stream = io.BytesIO()
Image.new("RGB", (64, 64), (60, 180, 80)).save(stream, "AVIF", quality=100)
srgb = stream.getvalue()
at = srgb.index(b"colrnclx") + 8
assert srgb[at : at + 4] == bytes([0, 1, 0, 13]), "BT.709's primaries, sRGB's transfer"
p3 = srgb[: at + 1] + bytes([12]) + srgb[at + 2 :]
first, second = (Image.open(io.BytesIO(data)) for data in (srgb, p3))
same = first.convert("RGB").tobytes() == second.convert("RGB").tobytes()
print(f"the same pixels: {same}; in info: {sorted(set(second.info) - {'timestamp', 'duration'})}")
PYTHON
"$place/env/bin/python" "$place/show.py" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
the same pixels: True; in info: []
SEEN
echo "as described"
