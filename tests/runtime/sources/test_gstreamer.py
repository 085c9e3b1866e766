"""GStreamer pipelines of the user's own."""

import numpy as np
import pytest

from sp_edge.errors import SourceError
from sp_edge_runtime.sources.camera import open_source
from sp_edge_runtime.sources.options import SourceOptions


@pytest.mark.usefixtures("pygobject")
@pytest.mark.parametrize("layout", ["RGB", "BGRx"])
def test_a_gstreamer_pipeline(layout: str) -> None:
    # 66 pixels: rows of RGB are padded to whole words.
    text = f"videotestsrc num-buffers=5 pattern=red ! video/x-raw,format={layout},width=66,height=48 ! appsink"
    with open_source(text) as source:
        frames = list(source)
    assert 1 <= len(frames) <= 5
    assert frames[-1].image_rgb.shape == (48, 66, 3)
    np.testing.assert_allclose(frames[-1].image_rgb.mean(axis=(0, 1)), [255, 0, 0], atol=4)


@pytest.mark.usefixtures("pygobject")
def test_pipelines_that_are_none() -> None:
    for text, words in (
        ("nosuchelement ! appsink", "no GStreamer pipeline"),
        ("videotestsrc ! appsink videotestsrc ! appsink", "one appsink"),
        ("filesrc location=/nowhere/secret.h264 ! decodebin ! appsink", "pipeline"),
    ):
        with pytest.raises(Exception, match=words):
            open_source(text, SourceOptions(timeout=3.0))
    with pytest.raises(SourceError, match="could not link identity") as caught:
        open_source("audiotestsrc ! appsink", SourceOptions(timeout=3.0))
    assert "raw video" in caught.value.next_step
