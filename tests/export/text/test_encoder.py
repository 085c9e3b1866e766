"""MiniLM is exported for real; CLIP's tower and MPNet as small random ones of the same form."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as parts
from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.text import TextPart
from sp_edge.errors import ExportError, PromptError, SettingsError
from sp_edge.matching.decide import unit
from sp_edge.prompts.reading import Reading
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import TextSettings
from sp_edge.text import CLIP, SBERT, MiniLM, TextEncoder, clip, prompt_table, sentence
from sp_edge.text import table as text_table
from sp_edge.text.bert import SentenceBert
from sp_edge.training.checkpoint import Checkpoint
from sp_edge_export.export import ExportOptions, export
from sp_edge_export.text import encoder as module
from sp_edge_export.text.encoder import add_text_encoder, benchmark_names, choose_encoder
from sp_edge_runtime import text as device
from tiny_clip import known_to_open_clip

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>", "a", "photo", "of", "red", "fox", "polar", "bear"]
SENTENCES = ["A photo of red fox", "polar bear", "a one-wheeled pedal vehicle, for one", "赤い 自転車 🚲", "x"]
SOME_NAMES = benchmark_names()[::20]  # all 938 are for export and for benchmarks/text.py
TOWER = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def table_of(encoder: TextEncoder, *names: str) -> PromptTable:
    spec = TextSpec(encoder.name, encoder.revision, "A photo of {name}", 9.0, encoder.dim)
    return PromptTable(spec, names, np.ones((len(names), encoder.dim), np.float32))


def on_device(folder: Path, part: TextPart, encoder: TextEncoder) -> device.TextEncoder:
    return device.TextEncoder(lambda name: (folder / name).read_bytes(), part, table_of(encoder).text)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((unit(a) * unit(b)).sum(axis=1))


@pytest.fixture(autouse=True, scope="session")
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tracing takes seconds: a module is traced once, whatever becomes of its graph."""
    folder, original = tmp_path_factory.mktemp("graphs"), module.trace
    known: dict[Any, Path] = {}
    ours = (module.Sentences, module.ClipText, SentenceBert)  # not what a test puts in their place

    def trace(traceable: module.Traceable, file: Path) -> None:
        if type(traceable.module) not in ours:
            original(traceable, file)
            return
        inner = getattr(traceable.module, "model", traceable.module)
        if inner not in known:
            known[inner] = folder / f"{len(known)}.onnx"
            original(traceable, known[inner])
        shutil.copy(known[inner], file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "trace", trace)
        yield


@pytest.fixture(scope="session", params=["fp32", "int8"])
def exported(request: pytest.FixtureRequest, minilm: MiniLM, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TextPart]:
    """A bundle's folder with MiniLM, and what the manifest says of it; not to be changed."""
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "benchmark_names", lambda: SOME_NAMES)
        part = add_text_encoder(minilm, request.param, table_of(minilm, "red fox", "unicycle"), folder)
    return folder, part


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CLIP]:
    folder = tmp_path_factory.mktemp("clip")
    with known_to_open_clip("tiny-text", TOWER, folder) as patch:
        torch.save(open_clip.create_model("tiny-text").state_dict(), folder / "tiny.pt")
        patch.setattr(clip, "MODEL", "tiny-text")
        patch.setattr(clip, "WEIGHTS", str(folder / "tiny.pt"))
        yield CLIP()


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory: pytest.TempPathFactory) -> SBERT:
    place = tmp_path_factory.mktemp("mpnet")
    MPNetTokenizer({word: number for number, word in enumerate(WORDS)}).save_pretrained(place / "hf")
    torch.manual_seed(0)
    sizes = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    MPNetModel(MPNetConfig(vocab_size=len(WORDS), max_position_embeddings=40, **sizes)).save_pretrained(place / "hf")
    transformer = parts.Transformer(str(place / "hf"), max_seq_length=32)
    SentenceTransformer(modules=[transformer, parts.Pooling(768), parts.Normalize()], device="cpu").save(str(place / "st"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence, "SBERT_REPOSITORY", str(place / "st"))
        return SBERT()


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "benchmark_names", lambda: ("red fox", "polar bear", "a photo"))


# --- MiniLM, for real ---


def test_minilm_gives_the_encoders_vectors(exported: tuple[Path, TextPart], minilm: MiniLM) -> None:
    folder, part = exported
    found = on_device(folder, part, minilm).encode([*SENTENCES, "word " * 250])
    expected = minilm.encode([*SENTENCES, "word " * 250])
    assert (cosines(found, expected) >= {"fp32": 0.999999, "int8": 0.998}[part.precision]).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (part.names, part.max_tokens) == (len({*SOME_NAMES, "red fox", "unicycle"}), 256)
    assert part.cosine_min <= part.cosine_mean <= 1
    size = sum((folder / file).stat().st_size for file in part.files) / 1e6
    assert size < {"fp32": 95, "int8": 25}[part.precision]


def test_the_prompt_is_as_it_enters_the_projectors(exported: tuple[Path, TextPart], minilm: MiniLM) -> None:
    folder, part = exported
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_table, "MiniLM", lambda: minilm)
        described = {"unicycle": ["A vehicle with one wheel.", "Pedals, a saddle, no handlebar."]}
        expected = prompt_table(["red fox", "unicycle"], TextSettings(), descriptions=described)
    found = device.TextEncoder(lambda name: (folder / name).read_bytes(), part, expected.text).table(
        ["red fox", "unicycle"], described
    )
    assert (found.text, found.names, dict(found.descriptions)) == (expected.text, expected.names, dict(expected.descriptions))
    tolerance = {"fp32": 1e-4, "int8": 0.1}[part.precision]
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 9, rtol=1e-6)


def test_golden_names_are_the_encoders_own(exported: tuple[Path, TextPart], minilm: MiniLM) -> None:
    folder, part = exported
    assert on_device(folder, part, minilm).check() >= {"fp32": 0.9999, "int8": 0.998}[part.precision]


def test_the_graph_says_nothing_of_where_it_was_made(exported: tuple[Path, TextPart]) -> None:
    folder, part = exported
    content = (folder / part.graph).read_bytes()
    for word in (b"stack_trace", b"metadata_props", b"torch/fx", str(Path(module.__file__).parent).encode()):
        assert word not in content
    assert {entry.version for entry in onnx.load(folder / part.graph).opset_import} == {19}


# --- the other encoders ---


@pytest.mark.usefixtures("few_names")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", ["tower", "mpnet"])
def test_clip_and_mpnet(kind: str, precision: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    encoder: Any = request.getfixturevalue(kind)
    limit = {"tower": 77, "mpnet": 32}[kind]
    part = add_text_encoder(encoder, precision, table_of(encoder, "polar bear"), tmp_path)
    assert part.max_tokens == limit
    exact = on_device(tmp_path, part, encoder)
    sentences = [*SENTENCES, "fox " * (limit - 2), "fox"]
    assert (cosines(exact.encode(sentences), encoder.encode(sentences)) >= {"fp32": 0.9999, "int8": 0.99}[precision]).all()
    if kind == "tower":
        lengths = np.linalg.norm(exact.encode(sentences), axis=1)
        assert np.ptp(lengths) > 1e-3, "as the tower gives them"
    with pytest.raises(PromptError, match="would not read the end"):
        exact.encode(["fox " * (limit - 1)])
    assert exact.check() >= 0.99


# --- the gate ---


class Other:
    """Gives another sentence's vector."""

    def __init__(self, encoder: MiniLM) -> None:
        self.encoder, self.name, self.revision, self.dim = encoder, encoder.name, encoder.revision, encoder.dim

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        return self.encoder.encode([f"not {sentence}" for sentence in sentences])

    def reading(self, text: str) -> Reading:
        return self.encoder.reading(text)


def test_what_gives_other_vectors_does_not_pass(exported: tuple[Path, TextPart], minilm: MiniLM) -> None:
    folder, part = exported
    spec = table_of(minilm).text
    measured = module.measure(minilm, spec, part, folder, ["red fox", "violin"])
    assert measured.names == 2
    with pytest.raises(ExportError, match=f"the {part.precision} text encoder gives other vectors than minilm") as raised:
        module.measure(Other(minilm), spec, part, folder, ["red fox", "violin"])
    assert "for 'red fox'" in raised.value.got or "for 'violin'" in raised.value.got
    assert raised.value.next_step


@pytest.mark.usefixtures("few_names")
def test_a_graph_that_heeds_no_mask_does_not_pass(mpnet: SBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(module.Sentences):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return super().forward(ids, torch.ones_like(ids) + 0 * mask)

    monkeypatch.setattr(module, "Sentences", Careless)
    with pytest.raises(ExportError, match="does not heed its mask"):
        add_text_encoder(mpnet, "fp32", table_of(mpnet, "polar bear"), tmp_path)


def test_a_module_that_fixes_the_length_does_not_pass(tmp_path: Path) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (ids * mask).reshape(2, 5).float()

    with pytest.raises(ExportError):
        module.trace(module.Traceable(Fixed(), None, 5), tmp_path / "g.onnx")  # type: ignore[arg-type]


# --- what goes into the bundle ---


def test_what_is_asked_for(minilm: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_table, "MiniLM", lambda: minilm)
    good = table_of(minilm).text
    for choice in ("auto", "fp32", "int8"):
        assert choose_encoder(good, choice) is minilm
    assert choose_encoder(good, "none") is None
    with pytest.raises(SettingsError, match="no such choice"):
        choose_encoder(good, "fp16")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"encoder": "glove"}, SettingsError, "is a file of vectors"),
        ({"encoder": "file"}, SettingsError, "is a file of vectors"),
        ({"encoder": "toy"}, PromptError, "is no network"),
        ({"revision": "other"}, PromptError, "is not the one that made the prompts"),
        ({"dim": 7}, PromptError, "is not the one that made the prompts"),
    ],
)
def test_what_cannot_be_exported_is_an_error_or_said(
    minilm: MiniLM,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
    change: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr(text_table, "MiniLM", lambda: minilm)
    spec = dataclasses.replace(table_of(minilm).text, **change)
    with pytest.raises(error, match=words):
        choose_encoder(spec, "int8")
    assert choose_encoder(spec, "auto") is None
    assert len(log.messages) == 1
    assert log.messages[0].startswith("the bundle carries no text encoder: ")
    assert words in log.messages[0]


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("traced", "few_names")
def test_a_bundle_carries_it_or_is_not_written(
    checkpoint: Checkpoint, mpnet: SBERT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    # The checkpoint's prompts have 16 numbers: an encoder of as many stands for the one that made them.
    class Short(SBERT):
        def __init__(self) -> None:
            self.model, self.revision, self.dim = mpnet.model, checkpoint.prompts.text.revision, 16

        def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
            return mpnet.encode(sentences)[:, :16]

    class ShortGraph(module.Sentences):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return super().forward(ids, mask)[:, :16]

    monkeypatch.setattr(module, "open_encoder", lambda _name: Short())
    monkeypatch.setattr(module, "Sentences", ShortGraph)
    bundle = export(checkpoint, tmp_path / "b", ExportOptions())
    part = bundle.manifest.text_encoder
    assert part is not None
    assert (part.precision, part.max_tokens) == ("int8", 32)
    assert set(part.files) <= set(bundle.manifest.files)
    assert any(line.startswith("text encoder sbert int8, ") for line in log.messages)
    assert "int8 ONNX: any class can be named" in (bundle.path / "README.md").read_text("utf-8")
    encoder = device.TextEncoder.of(Bundle.load(bundle.path))
    assert encoder is not None
    assert encoder.check() >= 0.99
    without = export(checkpoint, tmp_path / "c", ExportOptions(text="none"))
    assert without.manifest.text_encoder is None
    assert "not included" in (without.path / "README.md").read_text("utf-8")
    assert without.fingerprint == bundle.fingerprint, "banks go with either"
    monkeypatch.setattr(module, "Sentences", lambda model: Wrong(ShortGraph(model)))
    with pytest.raises(ExportError, match="gives other vectors"):
        export(checkpoint, tmp_path / "d", ExportOptions(text="fp32"))
    assert entries(tmp_path) == ["b", "c"]


class Wrong(torch.nn.Module):
    """Negates every other number."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        vectors = self.module(ids, mask)
        return vectors * torch.tensor([1.0, -1.0]).repeat(vectors.shape[1] // 2)
