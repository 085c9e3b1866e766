from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BackendError, BundleError, PromptError
from sp_edge.tensors import load_tensors, save_tensors
from sp_edge_runtime import text as module
from sp_edge_runtime.text import TextEncoder

GRAPH, TOKENIZER, GOLDEN = "text/encoder.onnx", "text/tokenizer.json", "text/golden.safetensors"


def opened(folder: Path) -> TextEncoder:
    encoder = TextEncoder.of(Bundle.load(folder))
    assert encoder is not None
    return encoder


@pytest.fixture(scope="module")
def encoder(naming_bundle: Path) -> TextEncoder:
    return opened(naming_bundle)


@pytest.fixture
def own(naming_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle for a test that changes it."""
    return Path(shutil.copytree(naming_bundle, tmp_path / "own"))


# --- what it computes ---


def test_sentences_become_the_encoders_vectors(encoder: TextEncoder) -> None:
    sentences = ["A photo of red fox", "x", "赤い 自転車 🚲", "a b" * 21]
    np.testing.assert_allclose(encoder.encode(sentences), toy.encode(sentences), atol=1e-6)
    assert encoder.encode([]).shape == (0, 8)
    assert encoder.description == "toy fp32"


@settings(max_examples=200, deadline=None)
@given(text=st.text(min_size=1, max_size=64))
def test_any_text(encoder: TextEncoder, text: str) -> None:
    try:
        vector = encoder.encode([text])[0]
    except PromptError as error:
        assert len(text.lower()) > 64 or "reads nothing" in error.what  # noqa: PT017 - İ is two letters in lower case
        return
    assert vector.shape == (8,)
    assert np.isfinite(vector).all()


def test_a_table_is_made_in_the_bundles_way(encoder: TextEncoder) -> None:
    table = encoder.table([" unicycle ", "red_fox", "red fox"], {"red fox": ["small  and red", "has a tail"]})
    assert (table.text, table.names) == (toy.TEXT, ("unicycle", "red fox"))
    assert table.descriptions == {"red fox": ("small and red", "has a tail")}
    np.testing.assert_allclose(table.vectors[0], toy.prompt("A photo of unicycle"), atol=1e-5)
    np.testing.assert_allclose(table.vectors[1], toy.prompt("small and red", "has a tail"), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 9, rtol=1e-6)
    assert encoder.table([]).vectors.shape == (0, 8)


def test_a_sentence_whose_end_would_not_be_read_is_refused(encoder: TextEncoder) -> None:
    assert encoder.encode(["a" * 64]).shape == (1, 8)
    with pytest.raises(PromptError, match="would not read the end") as raised:
        encoder.encode(["a" * 65])
    assert (raised.value.expected, raised.value.got) == ("at most 64 tokens", "65")


@pytest.mark.parametrize("name", ["", " \u200d ", "a\0b", "\ud800", "x" * 513])
def test_names_that_cannot_be(encoder: TextEncoder, name: str) -> None:
    with pytest.raises(PromptError):
        encoder.table([name])


@pytest.mark.parametrize("sentence", ["", "  ", "a\0b", "x" * 2001])
def test_descriptions_that_cannot_be(encoder: TextEncoder, sentence: str) -> None:
    with pytest.raises(PromptError):
        encoder.table(["red fox"], {"red fox": ["fine", sentence]})


def test_it_opens_once_whoever_asks(naming_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens: list[str] = []
    original = module.open_graph
    monkeypatch.setattr(module, "open_graph", lambda content, name, dim: (opens.append(name), original(content, name, dim))[1])
    encoder = opened(naming_bundle)
    assert not opens, "a bundle whose names suffice never pays for it"
    threads = [threading.Thread(target=encoder.encode, args=(["red"],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opens) == 1
    encoder.close()
    encoder.close()
    assert encoder.encode(["red"]).shape == (1, 8)
    assert len(opens) == 2


def test_a_bundle_without(toy_bundle: Path) -> None:
    assert TextEncoder.of(Bundle.load(toy_bundle)) is None


# --- golden names ---


def test_golden_names_agree(encoder: TextEncoder) -> None:
    assert encoder.check() == pytest.approx(1, abs=1e-6)


def test_golden_names_that_do_not_agree(own: Path) -> None:
    tensors, metadata = load_tensors(own / GOLDEN, BundleError)
    tensors["prompts"][1] = tensors["prompts"][0]
    save_tensors(own / GOLDEN, tensors, metadata)
    toy.reseal(own)
    with pytest.raises(BackendError, match="other prompts here"):
        opened(own).check()


@pytest.mark.parametrize("what", ["shape", "names", "no names", "spelling", "missing", "dtype"])
def test_golden_names_that_cannot_be(own: Path, what: str) -> None:
    tensors, metadata = load_tensors(own / GOLDEN, BundleError)
    if what == "shape":
        tensors["prompts"] = tensors["prompts"][:, :-1]
    elif what == "names":
        metadata["names"] = [1, 2, 3]
    elif what == "no names":
        metadata["names"], tensors["prompts"] = [], tensors["prompts"][:0]
    elif what == "spelling":
        metadata["names"] = ["red_fox", "a", "b"]
    elif what == "missing":
        tensors = {"vectors": tensors["prompts"]}
    else:
        tensors["prompts"] = tensors["prompts"].astype(np.float64)
    save_tensors(own / GOLDEN, tensors, metadata)
    toy.reseal(own)
    with pytest.raises(BundleError, match="golden names do not fit together"):
        opened(own).check()


# --- files that somebody else wrote ---


def external(file: Path, location: str) -> None:
    model = onnx.load(file)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    file.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../prompts.safetensors", "/etc/passwd"])
def test_a_graph_that_reads_other_files(own: Path, location: str) -> None:
    np.zeros(1000, np.float32).tofile(own / "text" / "weights.bin")
    external(own / GRAPH, location)
    toy.reseal(own)
    with pytest.raises(BackendError, match="reads other files"):
        opened(own).encode(["red"])


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "cannot load"), (b"\0" * 100, "cannot load"), (b"not a graph", "cannot load")]
)
def test_what_is_no_graph(own: Path, content: bytes, words: str) -> None:
    (own / GRAPH).write_bytes(content)
    toy.reseal(own)
    with pytest.raises(BackendError, match=words):
        opened(own).encode(["red"])


@pytest.mark.parametrize("what", ["query graph", "another dim", "fixed batch", "other names", "float ids"])
def test_a_graph_of_something_else(own: Path, what: str) -> None:
    model = toy.text_graph()
    if what == "query graph":
        model = toy.graph("query")
    elif what == "another dim":
        model = toy.text_graph(dim=7)
    elif what == "fixed batch":
        for value in model.graph.input:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    elif what == "other names":
        model.graph.output[0].name = "embedding"
        model.graph.node[-1].output[0] = "embedding"
    else:
        model.graph.input[1].type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, own / GRAPH)
    toy.reseal(own)
    with pytest.raises(BundleError, match="is not what the manifest says") as raised:
        opened(own).encode(["red"])
    assert raised.value.expected.startswith("ids int64 (N, L), mask")


def test_a_vector_that_is_not_finite(own: Path) -> None:
    model = toy.text_graph()
    table = next(c for c in model.graph.initializer if c.name == "letters")
    table.CopyFrom(onnx.numpy_helper.from_array(np.full((28, 8), np.nan, np.float32), "letters"))
    onnx.save(model, own / GRAPH)
    toy.reseal(own)
    with pytest.raises(BackendError, match="a vector that cannot be used"):
        opened(own).encode(["red"])


def test_a_tokenizer_with_more_words_than_the_graph(own: Path) -> None:
    content = json.loads((own / TOKENIZER).read_text("utf-8"))
    content["model"]["vocab"]["r"] = 9_999_999
    (own / TOKENIZER).write_text(json.dumps(content), "utf-8")
    toy.reseal(own)
    with pytest.raises(BackendError, match=r"cannot run text/encoder\.onnx"):
        opened(own).encode(["red"])


def test_a_tokenizer_that_truncates_or_pads_is_not_heeded(own: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(own / TOKENIZER))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=100)
    tokenizer.save(str(own / TOKENIZER))
    toy.reseal(own)
    np.testing.assert_allclose(opened(own).encode(["red fox"]), toy.encode(["red fox"]), atol=1e-6)
    with pytest.raises(PromptError, match="would not read the end"):
        opened(own).encode(["a" * 65])


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer(own: Path, content: bytes) -> None:
    (own / TOKENIZER).write_bytes(content)
    toy.reseal(own)
    with pytest.raises(BundleError, match=r"cannot read text/tokenizer\.json"):
        opened(own).encode(["red"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_tokenizer_with_a_field_changed(own: Path, data: st.DataObject) -> None:
    content = json.loads(toy.tokenizer().to_str())
    places = [content, content["model"], content["normalizer"], content["pre_tokenizer"], content["pre_tokenizer"]["pattern"]]
    place = data.draw(st.sampled_from(places))
    key = data.draw(st.sampled_from(sorted(place)))
    odd = st.sampled_from([[], {}, {"Regex": "("}, "BPE"])
    place[key] = data.draw(st.none() | st.booleans() | st.integers(-1, 2**40) | st.text(max_size=5) | odd)
    (own / TOKENIZER).write_text(json.dumps(content))
    toy.reseal(own)
    try:
        vector = opened(own).encode(["red fox"])
    except (BundleError, PromptError, BackendError):
        return
    assert vector.shape == (1, 8)


@pytest.mark.parametrize("name", ["MAX_GRAPH", "MAX_TOKENIZER"])
def test_a_giant_file_is_not_used(naming_bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(module, name, 100)
    with pytest.raises(BundleError, match="is too large"):
        opened(naming_bundle).encode(["red"])


def test_a_file_that_vanished(own: Path) -> None:
    encoder = opened(own)
    (own / GRAPH).unlink()
    with pytest.raises(BundleError, match=r"missing or unreadable: text/encoder\.onnx"):
        encoder.encode(["red"])


@pytest.mark.parametrize("name", [GRAPH, TOKENIZER, GOLDEN])
def test_a_file_that_was_put_in_its_place(own: Path, name: str) -> None:
    encoder = opened(own)
    (own / name).write_bytes((own / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"has changed: {name}"):
        encoder.check()


def test_a_part_that_leads_out_of_the_bundle(own: Path) -> None:
    bundle = Bundle.load(own)
    part = bundle.manifest.text_encoder
    assert part is not None
    for name in ("../encoder.onnx", "/etc/passwd"):
        with pytest.raises(BundleError, match="does not list this file"):
            TextEncoder(bundle.read, dataclasses.replace(part, graph=name), toy.TEXT).encode(["red"])
