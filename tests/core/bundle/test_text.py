from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import Manifest
from sp_edge.bundle.text import TextPart
from sp_edge.errors import BundleError
from sp_edge.files import read_json

PART = TextPart("int8", "text/encoder.onnx", "text/tokenizer.json", "text/golden.safetensors", 256, 938, 0.9994, 0.9988)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def test_it_comes_back_as_it_went() -> None:
    assert TextPart.from_json(PART.to_json()) == PART
    assert TextPart.from_json({**PART.to_json(), "note": "from a later version"}) == PART
    assert PART.files == ("text/encoder.onnx", "text/tokenizer.json", "text/golden.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp16"}, {"precision": None}, {"graph": 3}, {"tokenizer": ["a"]}, {"golden": None}, {"max_tokens": 0},
        {"max_tokens": True}, {"max_tokens": 2.0}, {"names": -1}, {"cosine_min": float("nan")}, {"cosine_mean": "1"},
        {"cosine_min": float("inf")},
    ],
)  # fmt: skip
def test_a_field_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="text encoder is incomplete"):
        TextPart.from_json({**PART.to_json(), **change})


@pytest.mark.parametrize("missing", list(PART.to_json()))
def test_a_field_that_is_missing(missing: str) -> None:
    value = PART.to_json()
    del value[missing]
    with pytest.raises(BundleError, match="text encoder is incomplete"):
        TextPart.from_json(value)


@given(st.sampled_from(list(PART.to_json())), ANYTHING)
def test_anything_is_read_or_refused(key: str, value: Any) -> None:
    try:
        part = TextPart.from_json({**PART.to_json(), key: value})
    except BundleError:
        return
    assert TextPart.from_json(part.to_json()) == part


@given(ANYTHING)
def test_the_manifest_reads_or_refuses_it(naming_bundle: Path, value: Any) -> None:
    content = {**read_json(naming_bundle / "manifest.json", BundleError), "text_encoder": value}
    try:
        assert Manifest.from_json(content).text_encoder is None
    except BundleError:
        assert value is not None


def test_its_files_are_files_of_the_bundle(naming_bundle: Path) -> None:
    content = read_json(naming_bundle / "manifest.json", BundleError)
    part = Bundle.load(naming_bundle).manifest.text_encoder
    assert part is not None
    assert Manifest.from_json(content).to_json()["text_encoder"] == part.to_json()
    for key in ("graph", "tokenizer", "golden"):
        for name in ("../encoder.onnx", "text/other", "", "/etc/passwd"):
            changed = {**content, "text_encoder": {**content["text_encoder"], key: name}}
            with pytest.raises(BundleError, match="does not list every part"):
                Manifest.from_json(changed)
