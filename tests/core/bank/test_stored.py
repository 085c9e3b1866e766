from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from banks import D, check, prompt, same, shots, stored, taught
from hostile import damaged
from sp_edge.bank.bank import Bank
from sp_edge.bank.stored import LEAST_STRENGTH, PARTS, SCHEMA
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import BankError
from sp_edge.tensors import save_tensors


def test_what_is_no_bank_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.prompts.save(tmp_path / "prompts")
    (tmp_path / "text").write_text("a text")
    for path in (tmp_path / "prompts", tmp_path / "text", tmp_path / "nothing", tmp_path):
        with pytest.raises(BankError) as raised:
            Bank.load(path, bundle)
        assert str(path) in raised.value.what


@pytest.mark.parametrize("schema", [1, SCHEMA - 1, str(SCHEMA), None])
def test_another_schema_is_refused_with_the_way_to_teach_it_again(bundle: Bundle, tmp_path: Path, schema: object) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", tensors, {**described, "schema": schema})
    with pytest.raises(BankError, match="another schema") as raised:
        Bank.load(tmp_path / "bank", bundle)
    assert (raised.value.expected, raised.value.got) == (str(SCHEMA), repr(schema))
    assert "teach its classes again" in raised.value.next_step


@pytest.mark.parametrize("part", [*PARTS, "crop_ends"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (6,), (3, 4), (6, 6), (6, 64, 64, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_a_tensor_of_another_form_is_a_bank_error(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, part: str, shape: tuple[int, ...], dtype: type
) -> None:
    path = tmp_path_factory.getbasetemp() / "form.safetensors"
    tensors, described = stored(bundle, path)
    sound = tensors[part]
    tensors[part] = np.ones(shape, dtype)
    path.write_bytes(save(tensors, {k: json.dumps(v) for k, v in described.items()}))
    if (sound.shape, sound.dtype) == (shape, np.dtype(dtype)) and part not in ("owners", "crop_ends"):
        check(Bank.load(path, bundle))
        return
    with pytest.raises(BankError):
        Bank.load(path, bundle)


@pytest.mark.parametrize("owners", [[0, 0, 1, 2, 2, 3], [0, 0, 0, 2, 2, 2], [-1, 0, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]])
def test_every_shot_has_a_class_and_every_class_a_shot(bundle: Bundle, tmp_path: Path, owners: list[int]) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {**tensors, "owners": np.array(owners)}, described)
    with pytest.raises(BankError, match="shots and classes"):
        Bank.load(tmp_path / "bank", bundle)


@pytest.mark.parametrize("part", ["prompts", "support", "query"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_are_finite(bundle: Bundle, tmp_path: Path, part: str, value: float) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    tensors[part] = tensors[part].copy()
    tensors[part].flat[-1] = value
    save_tensors(tmp_path / "bank", tensors, described)
    with pytest.raises(BankError, match="not finite"):
        Bank.load(tmp_path / "bank", bundle)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1.01])
def test_a_stored_threshold_is_a_cosine(bundle: Bundle, tmp_path: Path, value: float) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {**tensors, "thresholds": np.full(3, value, np.float32)}, described)
    with pytest.raises(BankError, match="no cosine"):
        Bank.load(tmp_path / "bank", bundle)


@pytest.mark.parametrize("part", [*PARTS, "crop_ends"])
def test_every_tensor_is_there_and_others_are_left_alone(bundle: Bundle, tmp_path: Path, part: str) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {k: v for k, v in tensors.items() if k != part}, described)
    with pytest.raises(BankError, match="not a bank"):
        Bank.load(tmp_path / "bank", bundle)
    save_tensors(tmp_path / "bank", {**tensors, "more": tensors[part]}, {**described, "note": "from a later version"})
    same(Bank.load(tmp_path / "bank", bundle), taught(bundle))


@pytest.mark.parametrize(
    "names",
    [
        ["red fox", "red fox", "café"],
        ["red_fox", "polar bear", "café"],
        ["red fox", "polar bear", "cafe\u0301"],
        ["red fox", "polar bear", ""],
        ["red fox", "polar bear", "\x1b[31m"],
        ["red fox", "polar bear", "\ud800"],
        ["red fox", "polar bear", "x" * 513],
        ["red fox", "polar bear", "unknown"],
        ["red fox", "polar bear", 3],
        ["red fox", "polar bear"],
        ["red fox", "polar bear", "café", "wolf"],
        "abc",
        {"a": 1, "b": 2, "c": 3},
        None,
    ],
)
def test_names_are_clean_and_distinct_and_fit(bundle: Bundle, tmp_path: Path, names: object) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    metadata = {k: json.dumps(v) for k, v in {**described, "names": names}.items()}
    (tmp_path / "bank").write_bytes(save(tensors, metadata))
    with pytest.raises(BankError) as raised:
        Bank.load(tmp_path / "bank", bundle)
    str(raised.value).encode()
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("dims", [("support", "query"), ("prompts",)])
def test_features_and_prompts_are_as_long_as_the_bundles(bundle: Bundle, tmp_path: Path, dims: tuple[str, ...]) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {**tensors, **{part: tensors[part][:, :3] for part in dims}}, described)
    with pytest.raises(BankError, match="does not fit the bundle"):
        Bank.load(tmp_path / "bank", bundle)


def test_the_error_of_a_damaged_bank_names_the_file_and_what_to_do(bundle: Bundle, tmp_path: Path) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {**tensors, "query": np.full_like(tensors["query"], np.nan)}, described)
    with pytest.raises(BankError, match="not finite") as raised:
        Bank.load(tmp_path / "bank", bundle)
    assert str(tmp_path / "bank") in raised.value.what
    assert "teach its classes again" in raised.value.next_step


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "key", ["kind", "schema", "fingerprint", "names", "version", "descriptions", "bundle_strength", "text", "rejects"]
)
@given(value=JSON, drop=st.booleans())
@settings(deadline=None, max_examples=25)
def test_metadata_of_the_wrong_kind_is_a_bank_error(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, key: str, value: object, drop: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "metadata.safetensors"
    tensors, described = stored(bundle, path)
    metadata = {k: json.dumps(v) for k, v in {**described, key: value}.items() if not (drop and k == key)}
    path.write_bytes(save(tensors, metadata))
    sound = (key == "version" and isinstance(value, int)) or (key == "schema" and value == SCHEMA)
    sound |= key == "bundle_strength" and isinstance(value, int | float) and LEAST_STRENGTH <= value <= 1
    if (key == "rejects" and drop) or (not drop and (sound or (key in ("descriptions", "rejects") and value == {}))):
        check(Bank.load(path, bundle))
        return
    with pytest.raises(BankError):
        Bank.load(path, bundle)


@given(data=st.binary(max_size=300))
@settings(deadline=None, max_examples=60)
def test_random_bytes_are_a_bank_error(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(data)
    with pytest.raises(BankError):
        Bank.load(path, bundle)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=200)
def test_a_damaged_bank_is_a_bank_or_a_bank_error(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    Bank.empty(bundle).add("red fox", prompt(0), *shots(1), threshold=0.5).save(path)
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    # In the header and the numbers; the crop's bytes may be anything.
    path.write_bytes(damaged(content, seed, most=header + 200))
    try:
        bank = Bank.load(path, bundle)
    except BankError as error:
        str(error).encode()
        return
    assert bank.prototypes.shape == (len(bank.names), D)
    assert sum(bank.shots(name) for name in bank.names) == len(bank.owners)


def test_a_bank_that_could_not_be_written_leaves_the_old_one(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = taught(bundle)
    bank.save(tmp_path / "bank")

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        bank.remove("café").save(tmp_path / "bank")
    same(Bank.load(tmp_path / "bank", bundle), bank)
