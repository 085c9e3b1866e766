from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from sp_edge.errors import BankError, InputError, PromptError
from sp_edge.files import read_json, write_json
from sp_edge.tensors import load_tensors, save_tensors


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, bool])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 4), (1, 0, 2)])
def test_tensors_come_back_as_they_went(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    described = {"names": ["a", "ü"], "version": 3, "nothing": None, "nested": {"x": [1.5]}}
    save_tensors(tmp_path / "t.safetensors", {"a": value, "turned": value.T}, described)
    tensors, metadata = load_tensors(tmp_path / "t.safetensors", BankError)
    assert metadata == described
    assert tensors["a"].dtype == dtype
    np.testing.assert_array_equal(tensors["a"], value)
    np.testing.assert_array_equal(tensors["turned"], value.T)


def safetensors(header: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "I4", "nonsense", "", None, 7])
def test_a_type_that_numpy_lacks_is_the_callers_error(tmp_path: Path, dtype: object) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(safetensors({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}, b"0"))
    with pytest.raises(BankError, match="cannot read"):
        load_tensors(path, BankError)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        b"not a tensor file at all",
        safetensors({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}),
        safetensors({"a": {"dtype": "F32", "shape": [0] * 80, "data_offsets": [0, 0]}}),
        safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"__metadata__": {"names": "not json"}}),
        safetensors({"__metadata__": {"names": "NaN"}}),
        safetensors({"__metadata__": {"names": "[" * 200_000}}),
        safetensors({"__metadata__": {"names": ["a list, which safetensors does not know"]}}),
    ],
)
def test_a_damaged_tensor_file_is_the_callers_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot read .*t\.safetensors") as raised:
        load_tensors(path, PromptError)
    assert type(raised.value) is PromptError


def test_a_missing_tensor_file_is_the_callers_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BankError, match="cannot read"):
            load_tensors(path, BankError)


def test_metadata_without_json_is_refused_on_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_tensors(tmp_path / "t", {"a": np.zeros(1)}, {"loss": float("nan")})
    assert not any(tmp_path.iterdir())


def test_a_file_name_that_is_no_text_can_be_recorded(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "a.json", {"picture": name})
    assert read_json(tmp_path / "a.json", InputError) == {"picture": name}
    save_tensors(tmp_path / "t", {"a": np.zeros(1)}, {"picture": name})
    assert load_tensors(tmp_path / "t", InputError)[1] == {"picture": name}


def test_the_same_tensors_and_metadata_give_the_same_bytes(tmp_path: Path) -> None:
    metadata = {"names": ["café", "red fox"], "kind": "prompts", "text": {"norm": 9.0}, "note": 'a "b" \x7f'}
    for number in range(8):  # the library's own order differs from one write to the next
        save_tensors(tmp_path / f"{number}", {"b": np.zeros(3, np.float32), "a": np.arange(5)}, metadata)
    assert len({(tmp_path / f"{number}").read_bytes() for number in range(8)}) == 1
    tensors, read = load_tensors(tmp_path / "0", InputError)
    assert read == metadata
    assert tensors["a"].tolist() == [0, 1, 2, 3, 4]
