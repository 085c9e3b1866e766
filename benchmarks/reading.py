"""How long a picture takes to read, and what its color profile costs.

    python benchmarks/reading.py

Reads one JPEG without a profile, with sRGB's, and with that of Display P3, as phones save it, in turn.
"""

from __future__ import annotations

import argparse
import io
from functools import partial

import numpy as np
from PIL import Image, ImageCms

from sp_edge.colour_profiles import coded_profile
from sp_edge.columns import table
from sp_edge.pictures import load_image
from sp_edge_runtime.bench.timing import medians_ms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILES = {"none": None, "sRGB": SRGB, "Display P3": coded_profile(12, 13)}
SIZES = {"640x480": (640, 480), "12 megapixels": (4000, 3000)}


def jpeg(size: tuple[int, int], profile: bytes | None) -> bytes:
    """A JPEG of soft spots."""
    small = np.random.default_rng(0).integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90, icc_profile=profile)
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11, help="of each picture; the median counts")
    asked = parser.parse_args()
    rows = []
    for name, size in SIZES.items():
        taken = medians_ms({key: partial(load_image, jpeg(size, profile)) for key, profile in PROFILES.items()}, asked.runs)
        rows += [[name, profile, f"{ms:.1f}", f"{ms / taken['none']:.2f}"] for profile, ms in taken.items()]
    print(table(["JPEG", "profile", "ms", "ratio"], rows, text=["profile"]))


if __name__ == "__main__":
    main()
