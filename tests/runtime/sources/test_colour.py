"""Colours come out as they were filmed: by the video's own tags, by what players assume without them, out of HDR."""

from pathlib import Path

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources import colour
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.options import SourceOptions
from videos import RATE, make, number_in, run_ffmpeg

av = pytest.importorskip("av")


@pytest.mark.parametrize(
    ("size_wh", "matrix"), [((96, 64), "bt601"), ((1024, 576), "bt601"), ((1280, 720), "bt709"), ((720, 1280), "bt709")]
)
def test_without_a_tag_the_matrix_is_that_of_players(size_wh: tuple[int, int], matrix: str, tmp_path: Path) -> None:
    path = make(
        tmp_path / "clip.mkv",
        *("-c:v", "libx264", "-qp", "10", "-vf", f"scale=out_color_matrix={matrix}:out_range=tv", "-pix_fmt", "yuv420p"),
        count=2,
        size_wh=size_wh,
    )
    with open_source(str(path)) as source:
        # By the other matrix the red would be off by up to 20.
        assert [number_in(frame.image_rgb, tolerance=4) for frame in source] == [0, 1]


def test_a_tag_counts_more_than_the_size() -> None:
    frame = av.VideoFrame(1920, 1080, "yuv420p")
    assert colour.matrix_of(frame) == colour.BT709
    frame.colorspace = 6
    assert colour.matrix_of(frame) == colour.SMPTE170M


PALETTE = [(0, 0, 0), (64, 64, 64), (128, 128, 128), (192, 192, 192), (200, 40, 40), (40, 60, 200), (120, 80, 50), (20, 20, 60)]
FROM_BT709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def in_hdr(rgb: np.ndarray, transfer: str) -> np.ndarray:
    """Standard colours in HDR by ITU-R BT.2408: white at 203 nits; code values 0 to 1."""
    value = rgb / 255
    nits = 203 * np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ FROM_BT709.T
    if transfer == "smpte2084":
        power = (nits / 10000) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    luma = np.maximum(nits / 1000 @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = nits / 1000 * luma ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def film(path: Path, transfer: str) -> Path:
    """A video in HDR of the palette's colours, side by side, 32 pixels each."""
    picture = np.repeat(np.repeat(np.array([PALETTE], float), 32, axis=0), 32, axis=1)
    height, width = picture.shape[:2]
    run_ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", f"{width}x{height}", "-r", f"{RATE:g}", "-i", "-"),
        *("-vf", "scale=out_color_matrix=bt2020:out_range=tv", "-pix_fmt", "yuv420p10le", "-c:v", "libx265"),
        *("-x265-params", f"log-level=error:qp=4:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"),
        str(path),
        given=(in_hdr(picture, transfer) * 65535).round().astype("<u2").tobytes() * 2,
    )
    return path


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_what_a_phone_films_in_hdr_has_the_colours_of_a_standard_picture(transfer: str, tmp_path: Path) -> None:
    with open_source(str(film(tmp_path / "phone.mp4", transfer))) as source:
        image_rgb = next(iter(source)).image_rgb
    seen = [image_rgb[8:-8, 32 * n + 8 : 32 * n + 24].mean(axis=(0, 1)) for n in range(len(PALETTE))]
    np.testing.assert_allclose(seen, PALETTE, atol=3)  # as code values, they are off by 60


@pytest.mark.usefixtures("pygobject")
@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_a_pipeline_does_not_convert_hdr_and_says_so(transfer: str, tmp_path: Path) -> None:
    path = film(tmp_path / "phone.mp4", transfer)
    with pytest.raises(SourceError, match="high dynamic range") as caught:
        open_source(f"filesrc location={path} ! decodebin ! appsink", SourceOptions(timeout=20))
    assert "without a pipeline" in caught.value.next_step


@pytest.mark.parametrize("transfer", [colour.PQ, colour.HLG])
def test_highlights_are_brighter_than_white_and_keep_their_order(transfer: int) -> None:
    steps = range(colour.POINTS)
    greys = colour.hdr_table(transfer)[steps, steps, steps, 0]
    assert np.all(np.diff(greys) > -1e-9)
    np.testing.assert_allclose(greys[[0, -1]], [0, 1], atol=1e-3)


def test_the_table_of_a_cube_file_has_red_running_fastest() -> None:
    table = np.zeros((2, 2, 2, 3))
    table[1, 0, 0] = (1, 0, 0)
    assert colour.cube(table).splitlines()[:3] == ["LUT_3D_SIZE 2", "0.00000 0.00000 0.00000", "1.00000 0.00000 0.00000"]
