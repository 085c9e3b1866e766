"""CLIP's weights cannot be had in a test: a tower of the same form with small random ones goes through the real loading."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from sp_edge.errors import MissingExtraError, PromptError
from sp_edge.settings.settings import TextSettings
from sp_edge.text import CLIP, clip, prompt_table
from tiny_clip import known_to_open_clip

CONFIG = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Makes 'tiny-clip' known to open_clip; gives the file of its weights."""
    folder = tmp_path_factory.mktemp("clip")
    with known_to_open_clip("tiny-clip", CONFIG, folder) as patch:
        model = open_clip.create_model("tiny-clip")
        save_file(model.state_dict(), folder / "tiny.safetensors")
        patch.setattr(clip, "MODEL", "tiny-clip")
        patch.setattr(clip, "WEIGHTS", str(folder / "tiny.safetensors"))
        yield folder / "tiny.safetensors"


def test_sentences_become_the_towers_vectors(weights: Path) -> None:
    encoder = CLIP()
    sentences = ["A photo of red fox", "", "赤い 自転車 🚲", "A photo of bicycle"]
    vectors = encoder.encode(sentences)
    assert (encoder.name, encoder.dim, vectors.shape, vectors.dtype) == ("clip", 512, (4, 512), np.float32)
    model = open_clip.create_model("tiny-clip", pretrained=str(weights), force_quick_gelu=True).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("tiny-clip")(sentences)).numpy()
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(np.linalg.norm(vectors, axis=1)) > 1e-3, "not normalised"
    np.testing.assert_array_equal(CLIP().encode(sentences[3:]), vectors[3:], "whatever stands beside it")
    assert encoder.encode([]).shape == (0, 512)


def test_quick_gelu_is_what_the_original_was_trained_with(weights: Path) -> None:
    other = open_clip.create_model("tiny-clip", pretrained=str(weights)).eval()
    with torch.no_grad():
        plain = other.encode_text(open_clip.get_tokenizer("tiny-clip")(["red fox"])).numpy()
    assert np.abs(CLIP().encode(["red fox"]) - plain).max() > 1e-4


def test_the_revision_is_that_of_the_text_towers_weights(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = CLIP().revision
    assert len(first) == 12
    assert CLIP().revision == first
    other = {n: v.clone() for n, v in open_clip.create_model("tiny-clip", pretrained=str(weights)).state_dict().items()}
    other["visual.proj"] += 1
    other["logit_scale"] += 1
    for change, same in ((None, True), ("token_embedding.weight", False)):
        if change:
            other[change][7, 7] += 1e-3
        file = weights.with_name(f"{change}.safetensors")
        save_file(other, file)
        monkeypatch.setattr(clip, "WEIGHTS", str(file))
        assert (CLIP().revision == first) is same


def test_a_sentence_of_more_than_77_tokens_is_refused(weights: Path) -> None:
    assert weights.exists()
    encoder = CLIP()
    assert encoder.encode(["fox " * 75]).shape == (1, 512)
    with pytest.raises(PromptError, match="would not read the end of 'fox fox") as raised:
        encoder.encode(["fox " * 76])
    assert (raised.value.expected, raised.value.got) == ("at most 77 tokens", "78")


def test_norm_0_takes_the_mean_length_of_the_training_classes(weights: Path) -> None:
    assert weights.exists()
    settings = TextSettings("clip", norm=0)
    table = prompt_table(["red fox", "bicycle", "violin"], settings, base=["bicycle", "red_fox"])
    lengths = np.linalg.norm(CLIP().encode([f"A photo of {n}" for n in table.names]), axis=1)
    assert table.text.norm == pytest.approx(lengths[:2].mean(), rel=1e-5)
    assert abs(lengths[2] - table.text.norm) > 1e-4 * table.text.norm
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), table.text.norm, rtol=1e-6)


def test_without_weights_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("Failed to download weights for tag 'openai':\n no connection")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", offline)
    monkeypatch.setattr(clip, "MODEL", "ViT-B-32")
    with pytest.raises(PromptError, match="cannot load the text encoder clip") as raised:
        CLIP()
    assert raised.value.got == "Failed to download weights for tag 'openai': no connection"
    assert "download open_clip's ViT-B-32" in raised.value.expected
    assert "text.encoder=file" in raised.value.next_step


def test_without_open_clip_it_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError) as raised:
        CLIP()
    assert (raised.value.package, raised.value.extra) == ("open_clip_torch", "train")
