"""open_clip's models with weights of a file, and without a hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from sp_edge.errors import CheckpointError, SettingsError
from sp_edge.model import build_backbone
from sp_edge.model.ready.registry import find_weights
from sp_edge.model.ready.towers import load_tower
from tiny_clip import known_to_open_clip

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MODEL = "open_clip/tiny-both/mine"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with known_to_open_clip("tiny-both", TINY, tmp_path_factory.mktemp("tiny")):
        yield open_clip.create_model("tiny-both", load_weights=False).eval()


@pytest.fixture(scope="module")
def file(whole: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "open_clip_model.safetensors"
    save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, path)
    return path


@torch.no_grad()
def test_the_tower_gives_the_models_image_features(whole: Any, file: Path) -> None:
    ready = load_tower(MODEL, file)
    assert (ready.backbone, ready.image_size, ready.crop, ready.interpolation) == ("open_clip:tiny-both", 32, 1.0, "bicubic")
    assert ready.mean == pytest.approx((122.77, 116.75, 104.09), abs=0.01)
    backbone = build_backbone(ready.backbone, ready.image_size)
    backbone.load_state_dict(dict(ready.weights))
    net: Any = backbone.eval()
    pixels = torch.randn(2, 3, 32, 32)
    found = net.forward_head(net.forward_features(pixels))
    assert torch.allclose(found, whole.encode_image(pixels), atol=1e-5)


def test_weights_of_another_model_are_listed(whole: Any, tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in whole.state_dict().items() if name != "visual.proj"}
    save_file({**weights, "visual.more": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_tower(MODEL, tmp_path / "other.safetensors")
    assert "1 missing: visual.proj" in caught.value.got
    assert "1 unknown: visual.more" in caught.value.got


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("open_clip/ViT-B-33/openai", "ViT-B-32"),
        ("open_clip/ViT-B-32/nope", "open_clip/ViT-B-32/laion2b_s34b_b79k"),
        ("open_clip/ViT-B-32/openai", "open_clip/ViT-B-32-quickgelu/openai"),
        ("open_clip/ViT-B-32", "open_clip/NAME/TAG"),
    ],
)
def test_an_unknown_model_is_told_with_what_there_is(model: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        find_weights(model)
    assert expected in caught.value.expected


def test_without_a_network_it_says_what_to_copy_where(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*_args: object, **_options: object) -> object:
        assert "under which license" in caplog.text, "before the download"
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(CheckpointError) as caught:
        load_tower("open_clip/ViT-B-32/laion2b_s34b_b79k")
    assert "no route to host" in caught.value.got
    assert "huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K elsewhere" in caught.value.next_step
