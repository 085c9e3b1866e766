"""Puts a text encoder into a bundle: as ONNX with its tokenizer, compared with the encoder itself on real names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from sp_edge.bundle.text import COSINES, FOLDER, TextPart
from sp_edge.data import benchmarks
from sp_edge.errors import ExportError, InputError, PromptError, SettingsError
from sp_edge.matching.decide import row_cosines
from sp_edge.prompts.table import PromptTable, TextSpec, class_vectors, clean_name, rescaled
from sp_edge.settings.encoders import FILES, NETWORKS
from sp_edge.tensors import save_tensors
from sp_edge.text import CLIP, SBERT, MiniLM, TextEncoder, open_encoder
from sp_edge_calibration.weights import quantize_weights
from sp_edge_export.text.clip_tokenizer import clip_tokenizer
from sp_edge_export.tracing import drop_notes, exporter_errors, run_exporter
from sp_edge_runtime import text as device

CHOICES = ("auto", "none", "fp32", "int8")
OPSET = 19
MEASURED = 200  # names of a large table on which the exported encoder is compared
GOLDEN_NAMES = ("red fox", "Zürcher Kaffeetasse", "赤い 自転車", "bird's-eye view, No. 7")
_PADDED = ("red fox", "a one-wheeled pedal vehicle with a saddle")  # of different lengths: the shorter is padded
_GOLDEN_OF_TABLE = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Traceable:
    """What is needed of an encoder to export it.

    Attributes:
        module: ids and mask int64 (N, L) -> vectors float32 (N, T).
        tokenizer: text to ids, marks of beginning and end included.
        max_tokens: that the module reads.
    """

    module: nn.Module
    tokenizer: Tokenizer
    max_tokens: int


class Sentences(nn.Module):
    """A sentence-transformers model: transformer, pooling over the mask, unit length."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 (N, L) twice -> float32 (N, T)."""
        vectors = self.model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
        return functional.normalize(vectors, dim=1)


class ClipText(nn.Module):
    """CLIP's text tower for texts of any length up to its 77 tokens: what follows the end cannot be seen from it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 (N, L) twice -> float32 (N, T)."""
        model: Any = self.model
        length = ids.shape[1]
        hidden = model.token_embedding(ids) + model.positional_embedding[:length]
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
        end = (ids * mask).argmax(dim=1, keepdim=True)  # the mark of the end has the largest number
        return hidden.gather(1, end[:, :, None].expand(-1, -1, hidden.shape[2]))[:, 0] @ model.text_projection


def choose_encoder(text: TextSpec, choice: str) -> TextEncoder | None:
    """The encoder that made a bundle's prompts, if the bundle is to carry it.

    Args:
        text: how the prompts were made.
        choice: fp32 or int8; none; auto takes it if it is here, and says if not.

    Raises:
        SettingsError: no such choice, or an encoder that cannot be exported was asked for.
        PromptError, MissingExtraError: the encoder was asked for and is not here.
    """
    if choice not in CHOICES:
        raise SettingsError("no such choice of a text encoder", expected=" | ".join(CHOICES), got=choice)
    if choice == "none":
        return None
    try:
        return _open(text)
    except InputError as error:
        if choice != "auto":
            raise
        _log.warning(f"the bundle carries no text encoder: {error.what}")
        return None


def _open(text: TextSpec) -> TextEncoder:
    if text.encoder in FILES:
        raise SettingsError(
            f"the text encoder {text.encoder} is a file of vectors and no network",
            expected=" or ".join(NETWORKS),
            got=text.encoder,
            next_step="sp-edge prompts NAME --vectors FILE --out names.safetensors, then --prompts names.safetensors",
        )
    encoder = open_encoder(text.encoder)
    if (encoder.revision, encoder.dim) != (text.revision, text.dim):
        raise PromptError(
            f"the text encoder {text.encoder} here is not the one that made the prompts",
            expected=f"revision {text.revision}, {text.dim} numbers",
            got=f"revision {encoder.revision}, {encoder.dim} numbers",
        )
    return encoder


def add_text_encoder(encoder: TextEncoder, precision: str, prompts: PromptTable, folder: Path) -> TextPart:
    """Writes the encoder below a bundle's folder, and measures it as a device will run it.

    Args:
        encoder: that made the prompts.
        precision: fp32 or int8.
        prompts: of the bundle.
        folder: of the bundle.

    Raises:
        ExportError: the encoder cannot be exported, or what was exported gives other vectors.
    """
    traceable = traced_form(encoder)
    place = folder / FOLDER
    place.mkdir()
    graph, tokenizer, golden = place / "encoder.onnx", place / "tokenizer.json", place / "golden.safetensors"
    trace(traceable, graph)
    if precision == "int8":
        quantize_weights(graph, graph)
    tokenizer.write_text(traceable.tokenizer.to_str(), encoding="utf-8")
    _write_golden(encoder, prompts, golden)
    graph_name, tokenizer_name, golden_name = (file.relative_to(folder).as_posix() for file in (graph, tokenizer, golden))
    unmeasured = TextPart(precision, graph_name, tokenizer_name, golden_name, traceable.max_tokens, 1, 1.0, 1.0)
    part = measure(encoder, prompts.text, unmeasured, folder, _measured_names(prompts.names))
    _check_padded(traceable, graph, precision, prompts.text.dim)
    megabytes = sum((folder / file).stat().st_size for file in part.files) / 1e6
    _log.info(
        f"text encoder {encoder.name} {precision}, {megabytes:.1f} MB: cosine {part.cosine_mean:.6f} mean, "
        f"{part.cosine_min:.6f} least, on {part.names} names"
    )
    return part


def traced_form(encoder: TextEncoder) -> Traceable:
    """An encoder as its module, tokenizer and limit.

    Raises:
        ExportError: of a kind that this cannot take apart.
    """
    if isinstance(encoder, CLIP):
        return Traceable(ClipText(encoder.model).eval(), clip_tokenizer(encoder.tokenize), int(encoder.model.context_length))
    if isinstance(encoder, MiniLM):
        return Traceable(encoder.module, encoder.tokenizer, encoder.max_tokens)
    if isinstance(encoder, SBERT):
        try:
            tokenizer = Tokenizer.from_str(encoder.model.tokenizer.backend_tokenizer.to_str())
        except AttributeError as cause:
            raise ExportError(f"cannot export the tokenizer of {encoder.name}", got=str(cause)) from cause
        limit = encoder.model.max_seq_length
        if not limit:
            raise ExportError(f"{encoder.name} does not say how many tokens it reads", expected="max_seq_length")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return Traceable(Sentences(encoder.model).eval(), tokenizer, limit)
    raise ExportError("cannot export this text encoder", expected=" or ".join(NETWORKS), got=type(encoder).__name__)


def trace(traceable: Traceable, file: Path) -> None:
    """Writes the float32 graph: `ids` and `mask` int64 (N, L) -> `vector` float32 (N, T), for any N and L.

    Raises:
        ExportError: the exporter failed, or fixed a dimension.
    """
    ids = torch.ones(2, 5, dtype=torch.int64)
    batch, length = torch.export.Dim("N", min=1), torch.export.Dim("L", min=2)
    with exporter_errors("the text encoder"):
        free = {0: batch, 1: length}
        program = run_exporter(traceable.module, {"ids": ids, "mask": torch.ones_like(ids)}, ["vector"], free, OPSET)
        model = program.model_proto
    drop_notes(model)
    del model.graph.value_info[:]
    onnx.save(model, file)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)}
    fixed = [name for name, dims in shapes.items() if not all(d.dim_param for d in dims[: 1 if name == "vector" else 2])]
    if fixed or list(shapes) != ["ids", "mask", "vector"]:
        raise ExportError(
            "the text encoder's graph is not what was asked for",
            expected="ids and mask (N, L) -> vector (N, T), N and L dynamic",
            got=f"{', '.join(shapes)}; fixed in {fixed}",
        )


def _measured_names(own: Sequence[str]) -> list[str]:
    """The names of a table and of the benchmarks; of a large table, some of its own are enough."""
    if len(own) >= MEASURED:
        return sorted(own)[:: len(own) // MEASURED]
    return sorted({*benchmark_names(), *own})


def benchmark_names() -> tuple[str, ...]:
    """Every class name of the few-shot benchmarks: real names of animals, plants and things."""
    splits = (split for name in benchmarks.NAMES for split in benchmarks.load(name).classes.values())
    return tuple(dict.fromkeys(clean_name(name) for split in splits for name in split.values()))


def measure(encoder: TextEncoder, text: TextSpec, part: TextPart, folder: Path, names: Sequence[str]) -> TextPart:
    """Compares the exported encoder, as the runtime runs it, with the encoder itself on names.

    Returns:
        `part` with the figures.

    Raises:
        ExportError: a vector is too far from the encoder's.
    """
    sentences = [text.template.replace("{name}", name) for name in names]
    found = device.TextEncoder(lambda name: (folder / name).read_bytes(), part, text).encode(sentences)
    cosines = row_cosines(found, encoder.encode(sentences))
    least = COSINES[part.precision]
    worst = int(np.nan_to_num(cosines, nan=-1).argmin())
    if not cosines.min() >= least:  # so that NaN does not pass
        raise ExportError(
            f"the {part.precision} text encoder gives other vectors than {encoder.name}",
            expected=f"cosine at least {least}",
            got=f"{cosines[worst]:.6f} for '{names[worst]}'",
            next_step="--with-text fp32, or none",
        )
    mean, minimum = (min(1.0, float(value)) for value in (cosines.mean(), cosines.min()))
    return replace(part, names=len(names), cosine_mean=mean, cosine_min=minimum)


def _check_padded(traceable: Traceable, graph: Path, precision: str, dim: int) -> None:
    """A row's vector must not depend on the padding behind it."""
    rows = [traceable.tokenizer.encode(sentence).ids for sentence in _PADDED]
    width = max(map(len, rows))
    ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
    session = device.open_graph(graph.read_bytes(), graph.name, dim)
    with torch.no_grad():
        alone = np.concatenate([traceable.module(torch.tensor([r]), torch.ones(1, len(r), dtype=torch.int64)) for r in rows])
    least = float(row_cosines(session.run({"ids": ids, "mask": mask}, ["vector"])[0], alone).min())
    if not least >= COSINES[precision]:
        raise ExportError(
            "the text encoder's graph does not heed its mask", expected=f"cosine {COSINES[precision]}", got=f"{least:.6f}"
        )


def _write_golden(encoder: TextEncoder, prompts: PromptTable, file: Path) -> None:
    """Names with the prompts that the encoder itself gives for them, in several scripts and from the table."""
    some = prompts.names[:: max(1, len(prompts.names) // _GOLDEN_OF_TABLE)][:_GOLDEN_OF_TABLE]
    names = tuple(dict.fromkeys((*GOLDEN_NAMES, *some)))
    vectors = rescaled(class_vectors(encoder.encode, names, {}, prompts.text.template), names, prompts.text.norm)
    save_tensors(file, {"prompts": vectors}, {"names": names})
