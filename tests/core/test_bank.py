from __future__ import annotations

import json
import random
import struct
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from safetensors.numpy import save

from sp_edge.bank import THUMBNAIL, Bank, thumbnail
from sp_edge.bundle import Bundle
from sp_edge.errors import BankError, PromptError
from sp_edge.files import load_tensors, save_tensors
from sp_edge.prompts import clean_name

T, D = 4, 6
PARTS = ("prompts", "thresholds", "features", "owners", "thumbnails")


def shots(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and thumbnails of `count` shots."""
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(count, D)) * 3).astype(np.float32)
    return features, rng.integers(0, 256, (count, THUMBNAIL, THUMBNAIL, 3), dtype=np.uint8)


def prompt(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=T).astype(np.float32)


def taught(bundle: Bundle) -> Bank:
    """Three classes with 2, 1 and 3 shots."""
    bank = Bank.empty(bundle)
    for seed, (name, count) in enumerate([("red fox", 2), ("polar bear", 1), ("café", 3)]):
        bank = bank.add(name, prompt(seed), *shots(count, seed), threshold=0.1 * seed)
    return bank


def check(bank: Bank) -> None:
    """What holds of every bank."""
    assert len(set(bank.names)) == len(bank.names) == len(bank.prompts) == len(bank.thresholds)
    assert len(bank.features) == len(bank.owners) == len(bank.thumbnails)
    assert all(clean_name(name) == name for name in bank.names)
    assert sum(bank.shots(name) for name in bank.names) == len(bank.features)
    assert all(bank.shots(name) >= 1 for name in bank.names)
    assert bank.prototypes.shape == (len(bank.names), bank.features.shape[1])
    assert bank.prototypes.dtype == bank.features.dtype == np.float32
    for index in range(len(bank.names)):
        mean = bank.features[bank.owners == index].astype(np.float64).mean(axis=0)
        expected = mean / max(float(np.linalg.norm(mean)), 1e-12)
        np.testing.assert_allclose(bank.prototypes[index], expected, atol=2e-5)


def same(one: Bank, other: Bank) -> None:
    assert (one.fingerprint, one.names, one.version) == (other.fingerprint, other.names, other.version)
    for part in PARTS:
        assert getattr(one, part).dtype == getattr(other, part).dtype
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


# --- teaching and forgetting ---


def test_an_empty_bank_knows_nothing(bundle: Bundle) -> None:
    bank = Bank.empty(bundle)
    check(bank)
    assert (bank.names, bank.version, bank.fingerprint) == ((), 0, bundle.fingerprint)
    assert bank.prototypes.shape == (0, D)
    with pytest.raises(BankError, match="no class 'red fox'"):
        bank.shots("red fox")


def test_a_prototype_is_the_mean_of_raw_shots_then_normalised(bundle: Bundle) -> None:
    features = np.zeros((2, D), np.float32)
    features[0, 0], features[1, 1] = 30, 40
    bank = Bank.empty(bundle).add("a", prompt(0), features, shots(2)[1], threshold=0.5)
    np.testing.assert_allclose(bank.prototypes, [[0.6, 0.8, 0, 0, 0, 0]], atol=1e-6)


def test_classes_are_taught_in_order_and_shots_join_their_class(bundle: Bundle) -> None:
    bank = taught(bundle)
    check(bank)
    assert bank.names == ("red fox", "polar bear", "café")
    assert bank.owners.tolist() == [0, 0, 1, 2, 2, 2]
    assert bank.thresholds.tolist() == pytest.approx([0, 0.1, 0.2])
    more = bank.add("red_fox", prompt(0), *shots(1, 9), threshold=0.9)
    check(more)
    assert more.names == bank.names
    assert more.shots("red fox") == 3
    assert more.owners.tolist() == [0, 0, 1, 2, 2, 2, 0]
    assert more.thresholds.tolist() == bank.thresholds.tolist(), "a known class keeps its own"
    np.testing.assert_array_equal(more.features[-1:], shots(1, 9)[0])


def test_each_change_is_a_new_bank_with_the_next_version(bundle: Bundle) -> None:
    bank = taught(bundle)
    before = {part: getattr(bank, part).copy() for part in PARTS}
    prototypes = bank.prototypes.copy()
    changed = [bank.add("new", prompt(7), *shots(1), threshold=0.5), bank.remove("café"), bank.remove("café", 1)]
    assert [c.version for c in changed] == [bank.version + 1] * 3 == [4] * 3
    assert all(c.fingerprint == bank.fingerprint for c in changed)
    for part in PARTS:
        np.testing.assert_array_equal(getattr(bank, part), before[part])
    np.testing.assert_array_equal(bank.prototypes, prototypes)
    assert changed[2].prototypes.shape == prototypes.shape
    assert (changed[2].prototypes[2] != prototypes[2]).any(), "prototypes are not carried over"
    with pytest.raises(FrozenInstanceError):
        bank.version = 9  # type: ignore[misc]


def test_a_class_is_forgotten_with_all_that_was_its(bundle: Bundle) -> None:
    bank = taught(bundle)
    left = bank.remove("polar_bear")
    check(left)
    assert left.names == ("red fox", "café")
    assert left.owners.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(left.features, bank.features[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(left.thumbnails, bank.thumbnails[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(left.prompts, bank.prompts[[0, 2]])
    np.testing.assert_array_equal(left.thresholds, bank.thresholds[[0, 2]])


def test_a_shot_is_forgotten_by_its_number_within_the_class(bundle: Bundle) -> None:
    bank = taught(bundle).add("red fox", prompt(0), *shots(1, 9), threshold=0)
    left = bank.remove("red fox", 2)
    same(Bank(**{**vars_of(left), "version": 3}), taught(bundle))
    middle = bank.remove("café", 1)
    check(middle)
    np.testing.assert_array_equal(middle.features, bank.features[[0, 1, 2, 3, 5, 6]])
    assert middle.names == bank.names


def vars_of(bank: Bank) -> dict[str, Any]:
    return {f: getattr(bank, f) for f in ("fingerprint", "names", *PARTS, "version")}


def test_with_its_last_shot_a_class_goes_too(bundle: Bundle) -> None:
    left = taught(bundle).remove("polar bear", 0)
    check(left)
    assert left.names == ("red fox", "café")
    for name in ("red fox", "café"):
        left = left.remove(name)
    assert (left.names, len(left.features), left.version) == ((), 0, 6)


@pytest.mark.parametrize("shot", [-1, 2, 99])
def test_a_shot_that_is_not_there_is_refused(bundle: Bundle, shot: int) -> None:
    with pytest.raises(BankError, match="no such shot") as raised:
        taught(bundle).remove("red fox", shot)
    assert (raised.value.expected, raised.value.got) == ("0 to 1", str(shot))


def test_a_class_that_is_not_there_is_refused_with_those_that_are(bundle: Bundle) -> None:
    for act in (Bank.remove, Bank.shots):
        with pytest.raises(BankError, match="no class 'wolf'") as raised:
            act(taught(bundle), "wolf")
        assert raised.value.expected == "red fox, polar bear, café"


def test_another_prompt_for_a_known_class_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="another prompt") as raised:
        taught(bundle).add("red fox", prompt(1), *shots(1), threshold=0.5)
    assert "teach it again" in raised.value.next_step
    nearly = prompt(0) + np.float32(1e-6)
    assert taught(bundle).add("red fox", nearly, *shots(1), threshold=0.5).shots("red fox") == 3


@pytest.mark.parametrize("name", ["", "a\x00", "x" * 513])
def test_what_is_no_name_is_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(PromptError):
        Bank.empty(bundle).add(name, prompt(0), *shots(1), threshold=0.5)


def test_no_class_is_called_what_means_no_class(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="cannot be called 'unknown'"):
        Bank.empty(bundle).add(" unknown_", prompt(0), *shots(1), threshold=0.5)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"prompt": np.zeros(T + 1, np.float32)},
        {"prompt": np.zeros((1, T), np.float32)},
        {"prompt": np.zeros((), np.float32)},
        {"features": np.zeros((1, D + 1), np.float32)},
        {"features": np.zeros(D, np.float32)},
        {"features": np.zeros((), np.float32)},
        {"features": np.zeros((0, D), np.float32), "thumbnails": np.zeros((0, THUMBNAIL, THUMBNAIL, 3), np.uint8)},
        {"features": np.zeros((1, D), np.float64)},
        {"features": np.full((1, D), np.nan, np.float32)},
        {"thumbnails": np.zeros((2, THUMBNAIL, THUMBNAIL, 3), np.uint8)},
        {"thumbnails": np.zeros((1, 32, 32, 3), np.uint8)},
        {"thumbnails": np.zeros((1, THUMBNAIL, THUMBNAIL, 3), np.float32)},
        {"thumbnails": np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8)},
    ],
)
def test_shots_that_do_not_fit_are_a_bank_error(bundle: Bundle, change: dict[str, np.ndarray], known: bool) -> None:
    features, thumbnails = shots(1)
    given_: dict[str, Any] = {"prompt": prompt(0), "features": features, "thumbnails": thumbnails, **change}
    with pytest.raises(BankError):
        taught(bundle).add("red fox" if known else "new", threshold=0.5, **given_)


def test_a_threshold_is_a_number(bundle: Bundle) -> None:
    with pytest.raises(BankError, match="not finite"):
        Bank.empty(bundle).add("a", prompt(0), *shots(1), threshold=float("nan"))


@pytest.mark.parametrize("size", [(1, 1), (480, 640), (64, 64), (2, 3000)])
def test_a_thumbnail_has_one_size(size: tuple[int, int]) -> None:
    small = thumbnail(np.full((*size, 3), (200, 100, 50), np.uint8))
    assert (small.shape, small.dtype) == ((THUMBNAIL, THUMBNAIL, 3), np.uint8)
    assert (small == (200, 100, 50)).all()


# --- a bank as a person uses it ---


class Teaching(RuleBasedStateMachine):
    """Any order of teaching, forgetting and saving, beside a plain dictionary that does the same."""

    bundle: Bundle
    path: Path

    @initialize()
    def start(self) -> None:
        self.bank = Bank.empty(self.bundle)
        self.model: dict[str, list[int]] = {}
        self.changes = self.seed = 0

    @rule(name=st.sampled_from(["a", "b", "c_1", "d"]), count=st.integers(1, 3))
    def add(self, name: str, count: int) -> None:
        seeds = [self.seed + i for i in range(count)]
        self.seed += count
        features = np.concatenate([shots(1, s)[0] for s in seeds])
        thumbnails = np.concatenate([shots(1, s)[1] for s in seeds])
        self.bank = self.bank.add(name, prompt(ord(name[0])), features, thumbnails, threshold=ord(name[0]) / 200)
        self.model.setdefault(clean_name(name), []).extend(seeds)
        self.changes += 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        shot = data.draw(st.none() | st.integers(0, len(self.model[name]) - 1))
        self.bank = self.bank.remove(name, shot)
        if shot is not None:
            self.model[name].pop(shot)
        if shot is None or not self.model[name]:
            del self.model[name]
        self.changes += 1

    @rule()
    def save_and_load(self) -> None:
        self.bank.save(self.path)
        loaded = Bank.load(self.path, self.bundle)
        same(loaded, self.bank)
        self.bank = loaded

    @invariant()
    def agrees(self) -> None:
        check(self.bank)
        assert self.bank.version == self.changes
        assert self.bank.names == tuple(self.model)
        for index, (name, seeds) in enumerate(self.model.items()):
            own = self.bank.owners == index
            assert self.bank.shots(name) == len(seeds)
            np.testing.assert_array_equal(self.bank.features[own], np.concatenate([shots(1, s)[0] for s in seeds]))
            np.testing.assert_array_equal(self.bank.thumbnails[own], np.concatenate([shots(1, s)[1] for s in seeds]))
            np.testing.assert_array_equal(self.bank.prompts[index], prompt(ord(name[0])))
            assert self.bank.thresholds[index] == np.float32(ord(name[0]) / 200)


def test_teaching_and_forgetting_in_any_order(bundle: Bundle, tmp_path: Path) -> None:
    Teaching.bundle, Teaching.path = bundle, tmp_path / "bank.safetensors"
    run_state_machine_as_test(Teaching, settings=settings(deadline=None, max_examples=25, stateful_step_count=15))


# --- the file ---


@pytest.mark.parametrize("empty", [True, False])
def test_a_bank_comes_back_as_it_went(bundle: Bundle, tmp_path: Path, empty: bool) -> None:
    bank = Bank.empty(bundle) if empty else taught(bundle)
    bank.save(tmp_path / "deep" / "bank.safetensors")
    loaded = Bank.load(tmp_path / "deep" / "bank.safetensors", bundle)
    same(loaded, bank)
    check(loaded)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["bank.safetensors"]


def test_a_bank_of_another_bundle_is_refused_with_the_way_to_enrol_again(bundle: Bundle, build: Any, tmp_path: Path) -> None:
    taught(bundle).save(tmp_path / "bank")
    other = Bundle.load(build(tmp_path / "other", graph=b"another network"))
    with pytest.raises(BankError, match="another bundle") as raised:
        Bank.load(tmp_path / "bank", other)
    assert bundle.fingerprint[:12] in raised.value.got
    assert other.fingerprint[:12] in raised.value.expected
    assert "enrol its classes again" in raised.value.next_step


def test_a_bank_of_the_same_network_in_another_precision_is_welcome(bundle: Bundle, build: Any, tmp_path: Path) -> None:
    taught(bundle).save(tmp_path / "bank")
    other = Bundle.load(build(tmp_path / "other", precisions=("fp32", "int8"), precision="int8"))
    same(Bank.load(tmp_path / "bank", other), taught(bundle))


def test_what_is_no_bank_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.prompts.save(tmp_path / "prompts")
    (tmp_path / "text").write_text("a text")
    for path in (tmp_path / "prompts", tmp_path / "text", tmp_path / "nothing", tmp_path):
        with pytest.raises(BankError) as raised:
            Bank.load(path, bundle)
        assert str(path) in raised.value.what


def stored(bundle: Bundle, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    taught(bundle).save(path)
    return load_tensors(path, BankError)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (6,), (3, 4), (6, 6), (6, 64, 64, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_a_tensor_of_another_form_is_a_bank_error(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, part: str, shape: tuple[int, ...], dtype: type
) -> None:
    path = tmp_path_factory.getbasetemp() / "form.safetensors"
    tensors, described = stored(bundle, path)
    sound = tensors[part]
    tensors[part] = np.zeros(shape, dtype)
    path.write_bytes(save(tensors, {k: json.dumps(v) for k, v in described.items()}))
    if (sound.shape, sound.dtype) == (shape, np.dtype(dtype)) and part != "owners":
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


@pytest.mark.parametrize("part", ["prompts", "thresholds", "features"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_are_finite(bundle: Bundle, tmp_path: Path, part: str, value: float) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    tensors[part] = tensors[part].copy()
    tensors[part].flat[-1] = value
    save_tensors(tmp_path / "bank", tensors, described)
    with pytest.raises(BankError, match="not finite"):
        Bank.load(tmp_path / "bank", bundle)


@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_is_there_and_no_other(bundle: Bundle, tmp_path: Path, part: str) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {k: v for k, v in tensors.items() if k != part}, described)
    with pytest.raises(BankError, match="not a bank"):
        Bank.load(tmp_path / "bank", bundle)
    save_tensors(tmp_path / "bank", {**tensors, "more": tensors[part]}, described)
    with pytest.raises(BankError, match="not a bank"):
        Bank.load(tmp_path / "bank", bundle)


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


@pytest.mark.parametrize("dim", ["features", "prompts"])
def test_features_and_prompts_are_as_long_as_the_bundles(bundle: Bundle, tmp_path: Path, dim: str) -> None:
    tensors, described = stored(bundle, tmp_path / "bank")
    save_tensors(tmp_path / "bank", {**tensors, dim: tensors[dim][:, :3]}, described)
    with pytest.raises(BankError, match="does not fit the bundle"):
        Bank.load(tmp_path / "bank", bundle)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("key", ["kind", "schema", "fingerprint", "names", "version"])
@given(value=JSON, drop=st.booleans())
@settings(deadline=None, max_examples=25)
def test_metadata_of_the_wrong_kind_is_a_bank_error(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, key: str, value: object, drop: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "metadata.safetensors"
    tensors, described = stored(bundle, path)
    metadata = {k: json.dumps(v) for k, v in {**described, key: value}.items() if not (drop and k == key)}
    path.write_bytes(save(tensors, metadata))
    if not drop and ((key == "version" and isinstance(value, int)) or (key == "schema" and value == 1)):
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
    path, chance = tmp_path_factory.getbasetemp() / "damaged.safetensors", random.Random(seed)  # noqa: S311
    Bank.empty(bundle).add("red fox", prompt(0), *shots(1), threshold=0.5).save(path)
    data = bytearray(path.read_bytes())
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for _ in range(chance.choice([1, 1, 3])):
        # Mostly in the header and the numbers; the thumbnail's bytes may be anything.
        at = chance.randrange(min(header + 200, len(data)))
        if chance.random() < 0.8:
            data[at] = chance.choice([data[at] ^ 1 << chance.randrange(8), 0, 34, 44, 57, 91, 125, 255])
        elif chance.random() < 0.5 and at:
            del data[at:]
        else:
            data[at:at] = chance.randbytes(2)
        if not data:
            break
    path.write_bytes(data)
    try:
        bank = Bank.load(path, bundle)
    except BankError as error:
        str(error).encode()
        return
    assert bank.prototypes.shape == (len(bank.names), D)
    assert sum(bank.shots(name) for name in bank.names) == len(bank.features)


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
