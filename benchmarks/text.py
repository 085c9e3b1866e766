"""A bundle's text encoder against the one of training: agreement on the benchmarks' class names, size, milliseconds a name.

    python benchmarks/text.py            # minilm, which needs no download
    python benchmarks/text.py --random   # CLIP's tower and all-mpnet-base-v2 with random weights, for size and time alone

Every name is run by each encoder in turn, so that what else the machine does meanwhile falls on all of them alike.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from sp_edge.bundle.text import TextPart
from sp_edge.columns import table
from sp_edge.files import write_json
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.text import CLIP, SBERT, MiniLM, TextEncoder
from sp_edge_export.text import encoder as exporter
from sp_edge_runtime.text import TextEncoder as OnDevice

TIMED = 200


def measure(encoder: TextEncoder) -> list[dict[str, Any]]:
    """A row for torch and one for each precision."""
    spec = TextSpec(encoder.name, encoder.revision, "A photo of {name}", 9.0, encoder.dim)
    prompts = PromptTable(spec, (), np.empty((0, encoder.dim), np.float32))
    ways: dict[str, Callable[[list[str]], Any]] = {"torch": encoder.encode}
    rows: list[dict[str, Any]] = [{"encoder": encoder.name, "through": "torch"}]
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8"):
            place = Path(folder) / precision
            place.mkdir()
            part = exporter.add_text_encoder(encoder, precision, prompts, place, lambda _: None)
            ways[precision] = OnDevice(place, part, spec).encode
            rows.append({"encoder": encoder.name, "through": f"ONNX {precision}", **_described(place, part)})
        every = exporter.benchmark_names()
        times: dict[str, list[float]] = {way: [] for way in ways}
        for name in every[:: max(1, len(every) // TIMED)]:
            for way, encode in ways.items():
                began = time.perf_counter()
                encode([f"A photo of {name}"])
                times[way].append((time.perf_counter() - began) * 1000)
    for row, taken in zip(rows, times.values(), strict=True):
        row["ms"] = float(np.median(taken))
    return rows


def _described(folder: Path, part: TextPart) -> dict[str, Any]:
    megabytes = sum((folder / file).stat().st_size for file in part.files) / 1e6
    return {"MB": megabytes, "names": part.names, "cosine_mean": part.cosine_mean, "cosine_min": part.cosine_min}


@contextmanager
def _random_encoders() -> Iterator[list[TextEncoder]]:
    """The two encoders whose weights have to be downloaded, in their real shapes; the words of MPNet are MiniLM's."""
    import open_clip
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as parts
    from transformers import MPNetConfig, MPNetModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    clip = CLIP.__new__(CLIP)
    clip.model = open_clip.create_model("ViT-B-32", force_quick_gelu=True).eval()
    clip.tokenize, clip.revision = open_clip.get_tokenizer("ViT-B-32"), "random"
    with tempfile.TemporaryDirectory() as folder:
        MPNetModel(MPNetConfig(vocab_size=30527, max_position_embeddings=514)).save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(MiniLM().tokenizer.to_str(), encoding="utf-8")
        PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"), pad_token="[PAD]").save_pretrained(folder)  # noqa: S106
        modules = [parts.Transformer(folder, max_seq_length=384), parts.Pooling(768), parts.Normalize()]
        mpnet = SBERT.__new__(SBERT)
        mpnet.model, mpnet.name, mpnet.revision, mpnet.dim = (
            SentenceTransformer(modules=modules, device="cpu"),
            "sbert",
            "random",
            768,
        )
        yield [clip, mpnet]


@click.command()
@click.option("--random", is_flag=True, help="clip and sbert with random weights, in the place of minilm.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows to a file, too.")
def main(random: bool, json_file: Path | None) -> None:
    """Print the table."""
    if random:
        with _random_encoders() as encoders:
            rows = [row for encoder in encoders for row in measure(encoder)]
    else:
        rows = measure(MiniLM())
    header = ["encoder", "through", "MB", "cosine, mean", "least", "ms a name", "of torch's"]
    cells = []
    base = 1.0
    for row in rows:
        base = row["ms"] if row["through"] == "torch" else base
        figures = [f"{row['MB']:.1f}", f"{row['cosine_mean']:.5f}", f"{row['cosine_min']:.5f}"] if "MB" in row else ["", "", ""]
        cells.append([row["encoder"], row["through"], *figures, f"{row['ms']:.2f}", f"{row['ms'] / base:.2f}"])
    click.echo(
        f"{rows[1]['names']} names; medians of one name at a time, {torch.get_num_threads()} threads in torch, one in ONNX"
    )
    click.echo(table(header, cells))
    if json_file:
        write_json(json_file, rows)


if __name__ == "__main__":
    main()
