#!/usr/bin/env bash
# A lost H.264 packet leaves wrong pictures until the next key frame, and FFmpeg's decoder marks none of them; with HEVC it does.
#
# A network drops packets, so that a whole picture may never arrive. The next ones are built on it. FFmpeg's H.264 decoder puts
# an earlier picture in its place: no error, no AV_FRAME_FLAG_CORRUPT (`frame.is_corrupt`), no log, also with err_detect=explode.
# What had changed in the lost one is not there. FFmpeg's HEVC decoder refuses such pictures. The stream tells the loss: in H.264 the
# number of a picture (frame_num) leaves one out.
# What helps: read frame_num in each packet's first slice (ITU-T H.264, 7.4.3), and leave pictures out up to the next key frame
# where it leaves one out and the sequence does not allow gaps.
# Seen with Python 3.11, av 18.1.0 (libavcodec 62.28.102), numpy 2.3.5:
#   libx264, options {}: 12 of 13 pictures came, wrong: 6 7 8 9 10 11, marked: none
#   libx264, options {'err_detect': 'explode'}: 12 of 13 pictures came, wrong: 6 7 8 9 10 11, marked: none
#   libx265, options {}: 6 of 13 pictures came, wrong: none, marked: none
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5
cat > "$place/show.py" <<'PYTHON'
import sys
import av
import numpy as np

LOST = 5
ground = np.random.default_rng(0).integers(0, 100, (96, 128), np.uint8)


def drawn(number):
    """A lamp that is lit in the lost picture, and stays lit."""
    image = ground.copy()
    image[32:64, 40:72] = 220 if number >= LOST else 20
    return image


def show(codec, options):
    path = f"{sys.argv[1]}/{codec}.mkv"
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=25, options={"g": "12", "bf": "0", "crf": "10", "preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(13):
            frame = av.VideoFrame.from_ndarray(np.repeat(drawn(number)[:, :, None], 3, axis=2), "rgb24")
            out.mux([packet for packet in stream.encode(frame) if number != LOST])
        out.mux(stream.encode(None))
    came, wrong, marked = 0, [], []
    with av.open(path) as container:
        video = container.streams.video[0]
        video.codec_context.options = options
        for packet in container.demux(video):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                number = round(frame.time * 25)
                seen = frame.to_ndarray(format="rgb24")[:, :, 1].astype(int)
                came += 1
                wrong += [number] if (np.abs(seen - drawn(number)) > 50).sum() > 100 else []
                marked += [number] if frame.is_corrupt else []
    said = [" ".join(map(str, numbers)) or "none" for numbers in (wrong, marked)]
    print(f"{codec}, options {options}: {came} of 13 pictures came, wrong: {said[0]}, marked: {said[1]}")


show("libx264", {})
show("libx264", {"err_detect": "explode"})
show("libx265", {})
PYTHON
"$place/venv/bin/python" "$place/show.py" "$place" 2> "$place/noise" | tee "$place/seen"
diff "$place/seen" - <<'SEEN'
libx264, options {}: 12 of 13 pictures came, wrong: 6 7 8 9 10 11, marked: none
libx264, options {'err_detect': 'explode'}: 12 of 13 pictures came, wrong: 6 7 8 9 10 11, marked: none
libx265, options {}: 6 of 13 pictures came, wrong: none, marked: none
SEEN
echo "as described"
