from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import toy
from hostile import json_values, paths
from placeholder import placeholder
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import (
    BACKGROUND,
    FAMILIARITY,
    GOLDEN,
    MANIFEST,
    NAMES,
    PROMPTS,
    SCHEMA,
    Manifest,
    file_entries,
    seal,
    write_manifest,
)
from sp_edge.errors import BundleError
from sp_edge.files import read_json
from sp_edge.matching.unknown import Calibration
from sp_edge.pictures import load_image
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.prompts.text_prototype import TextPrototype
from sp_edge.tensors import load_tensors, save_tensors

JSON = json_values("", "..", "/etc/passwd", "fp16", "query.onnx", "nan", "1e400", "5", "\ud800", "a\0b", "x" * 300)


def edit(folder: Path, change: Any) -> None:
    """Rewrites the manifest as `change(its JSON)` leaves it."""
    value = json.loads((folder / MANIFEST).read_text())
    change(value)
    (folder / MANIFEST).write_text(json.dumps({**value, "seal": seal(value)}))


def rebind(folder: Path) -> None:
    """Makes the manifest agree with the files again, as somebody would who forges a bundle."""
    edit(folder, lambda m: m.update(files={n: {"sha256": d, "bytes": s} for n, (d, s) in file_entries(folder).items()}))


# --- what loads ---


def test_a_bundle_loads_with_all_that_export_wrote(bundle_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    assert bundle.manifest.preprocess.image_size == 32
    assert bundle.manifest.calibration == Calibration(-1.0, 2.0, 1.5, 0.25, 0.5, 0.75, 0.1, 0.2)
    assert bundle.manifest.feature_dim == 6
    assert bundle.manifest.strength == 0.8
    assert bundle.manifest.mirrored is True
    assert bundle.prompts.names == ("red fox", "polar bear", "café")
    assert bundle.graph("query") == bundle_path / "query.onnx"
    assert bundle.graph("support", "fp32") == bundle_path / "support.onnx"
    assert set(bundle.manifest.files) == {
        "query.onnx",
        "support.onnx",
        PROMPTS,
        GOLDEN,
        BACKGROUND,
        "golden/0.png",
        "golden/1.png",
    }


def test_the_manifest_comes_back_as_it_went(bundle: Bundle) -> None:
    recorded = json.loads((bundle.path / MANIFEST).read_text())
    assert recorded.pop("seal") == seal(recorded)
    assert recorded == bundle.manifest.to_json()
    assert Manifest.from_json(recorded) == bundle.manifest
    image, prompt = {"dtype": "uint8", "shape": ["N", 32, 32, 3]}, {"dtype": "float32", "shape": ["N", 4]}
    feature = {"dtype": "float32", "shape": ["N", 6]}
    assert recorded["io"] == {
        "query": {"inputs": {"image": image}, "outputs": {"feature": feature}},
        "support": {"inputs": {"image": image, "prompt": prompt}, "outputs": {"feature": feature, "plain": feature}},
    }


def test_a_manifest_may_say_the_grid_of_scored_places(bundle: Bundle) -> None:
    scored = replace(bundle.manifest, scores=(3, 4))
    recorded = json.loads(json.dumps(scored.to_json()))
    assert recorded["io"]["support"]["outputs"]["scores"] == {"dtype": "float32", "shape": ["N", 3, 4]}
    assert "scores" not in recorded["io"]["query"]["outputs"]
    assert Manifest.from_json(recorded) == scored
    assert (scored.outputs("query"), scored.outputs("support")) == (("feature",), ("feature", "plain", "scores"))
    del recorded["scores"]  # as an earlier version wrote it
    assert Manifest.from_json(recorded) == bundle.manifest
    for wrong in ([3], [3, 0], "33333", 4, [3, "x"]):
        with pytest.raises(BundleError):
            Manifest.from_json({**recorded, "scores": wrong})


def test_a_bundle_may_be_moved_copied_and_linked_to(bundle_path: Path, tmp_path: Path) -> None:
    fingerprint = Bundle.load(bundle_path).fingerprint
    shutil.copytree(bundle_path, tmp_path / "copy")
    (tmp_path / "link").symlink_to("copy")
    assert Bundle.load(tmp_path / "copy").fingerprint == fingerprint
    assert Bundle.load(tmp_path / "link").fingerprint == fingerprint


def test_other_files_beside_are_left_alone(bundle_path: Path) -> None:
    (bundle_path / "query.orin.plan").write_bytes(b"built here")
    (bundle_path / "engines").mkdir()
    assert "query.orin.plan" not in Bundle.load(bundle_path).manifest.files
    assert (bundle_path / "query.orin.plan").read_bytes() == b"built here"


def test_a_later_manifest_may_say_more(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: m.update(note="from a later version"))
    Bundle.load(bundle_path)


# --- what does not ---


def test_a_change_in_the_manifest_itself_is_noticed(bundle_path: Path) -> None:
    manifest = bundle_path / MANIFEST
    sound = manifest.read_text()
    for old, new in (
        ('"unrelated": 0.1', '"unrelated": 0.2'),
        ('"temperature": 0.2', '"temperature": 0.3'),
        ('"seal": "', '"seal": "0'),
    ):
        assert old in sound
        manifest.write_text(sound.replace(old, new))
        with pytest.raises(BundleError, match="manifest has changed"):
            Bundle.load(bundle_path)


def test_graphs_that_take_or_give_something_else_are_refused(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: m["io"]["support"]["outputs"].pop("plain"))
    with pytest.raises(BundleError, match="take or give something else"):
        Bundle.load(bundle_path)


def test_every_byte_of_every_file_counts(bundle_path: Path) -> None:
    names = Bundle.load(bundle_path).manifest.files
    for name in names:
        file = bundle_path / name
        sound = file.read_bytes()
        for changed in (
            sound + b"\0",
            sound[:-1],
            bytes([sound[0] ^ 1]) + sound[1:],
            sound[:-1] + bytes([sound[-1] ^ 128]),
            sound[: len(sound) // 2] + bytes([sound[len(sound) // 2] ^ 16]) + sound[len(sound) // 2 + 1 :],
            b"",
        ):
            file.write_bytes(changed)
            with pytest.raises(BundleError, match="changed") as raised:
                Bundle.load(bundle_path)
            assert name in raised.value.what
            assert raised.value.expected != raised.value.got
            assert "again" in raised.value.next_step
        file.write_bytes(sound)
    Bundle.load(bundle_path)


def test_every_file_must_be_there(bundle_path: Path, tmp_path: Path) -> None:
    for name in [*Bundle.load(bundle_path).manifest.files, MANIFEST]:
        (bundle_path / name).rename(tmp_path / "away")
        with pytest.raises(BundleError) as raised:
            Bundle.load(bundle_path)
        assert name in raised.value.what
        (bundle_path / name).mkdir()
        with pytest.raises(BundleError):
            Bundle.load(bundle_path)
        (bundle_path / name).rmdir()
        (tmp_path / "away").rename(bundle_path / name)
    Bundle.load(bundle_path)


def test_what_is_no_folder_is_no_bundle(bundle_path: Path, tmp_path: Path) -> None:
    for path, got in [(tmp_path / "nothing", "nothing"), (bundle_path / MANIFEST, "a file")]:
        with pytest.raises(BundleError, match="no bundle") as raised:
            Bundle.load(path)
        assert raised.value.got == got
        assert "export" in raised.value.expected
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"kind": NaN}', b"[" * 100_000, b"{}"])
def test_a_manifest_that_is_none_is_a_bundle_error(bundle_path: Path, content: bytes) -> None:
    (bundle_path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.load(bundle_path)


@pytest.mark.parametrize("field", ["feature_dim", "image_size"])
def test_a_number_beyond_all_is_a_bundle_error(bundle_path: Path, field: str) -> None:
    manifest = (bundle_path / MANIFEST).read_text()
    value = {"feature_dim": 6, "image_size": 32}[field]
    assert f'"{field}": {value}' in manifest
    (bundle_path / MANIFEST).write_text(manifest.replace(f'"{field}": {value}', f'"{field}": 1e400'))
    with pytest.raises(BundleError):
        Bundle.load(bundle_path)


@pytest.mark.parametrize("schema", [0, SCHEMA - 1, str(SCHEMA), None, [SCHEMA], 1.5])
def test_another_schema_is_refused_with_the_way_on(bundle_path: Path, schema: object) -> None:
    edit(bundle_path, lambda m: m.update(schema=schema))
    with pytest.raises(BundleError, match="another schema") as raised:
        Bundle.load(bundle_path)
    assert (raised.value.expected, raised.value.got) == (str(SCHEMA), repr(schema))
    assert "export it again" in raised.value.next_step


@pytest.mark.parametrize("kind", ["bank", None, 7, {"deep": ["x"] * 100}])
def test_another_kind_of_file_is_refused(bundle_path: Path, kind: object) -> None:
    edit(bundle_path, lambda m: m.update(kind=kind))
    with pytest.raises(BundleError, match="not the manifest of a bundle") as raised:
        Bundle.load(bundle_path)
    assert len(raised.value.got) <= 80


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "..", "golden/../../x", "out", "", "a\0b", "\ud800", "x" * 300, "x/" * 2000]
)
def test_no_name_leads_out_of_the_bundle(bundle_path: Path, name: str) -> None:
    outside = bundle_path.parent / "x"
    outside.write_bytes(b"outside")
    (bundle_path / "out").symlink_to(outside)
    digest, size = file_entries(outside.parent)["x"]
    edit(bundle_path, lambda m: m["files"].update({name: {"sha256": digest, "bytes": size}}))
    with pytest.raises(BundleError) as raised:
        Bundle.load(bundle_path)
    str(raised.value).encode()
    if name in {"../x", "out", "/etc/passwd"}:
        assert "leads out" in raised.value.what


def test_a_graph_is_never_a_link_out_of_the_bundle(bundle_path: Path) -> None:
    outside = bundle_path.parent / "query.onnx"
    (bundle_path / "query.onnx").rename(outside)
    (bundle_path / "query.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="leads out"):
        Bundle.load(bundle_path)


def test_a_pipe_in_the_place_of_a_file_does_not_hang(bundle_path: Path) -> None:
    (bundle_path / "query.onnx").unlink()
    os.mkfifo(bundle_path / "query.onnx")

    def hangs(signal_number: int, frame: object) -> None:
        raise AssertionError("waits for somebody to write into the pipe")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(20)
    try:
        with pytest.raises(BundleError, match=r"query\.onnx"):
            Bundle.load(bundle_path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_graph_must_be_a_listed_file(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: m["graphs"]["fp32"].update(query="other.onnx"))
    (bundle_path / "other.onnx").write_bytes(b"unchecked")
    with pytest.raises(BundleError, match="fp32 graphs"):
        Bundle.load(bundle_path)


@pytest.mark.parametrize("part", [PROMPTS, GOLDEN])
def test_every_part_must_be_listed(bundle_path: Path, part: str) -> None:
    edit(bundle_path, lambda m: m["files"].pop(part))
    with pytest.raises(BundleError, match="every part") as raised:
        Bundle.load(bundle_path)
    assert part in raised.value.expected


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["graphs"].pop("fp32"),
        lambda m: m["graphs"]["fp32"].pop("support"),
        lambda m: m["graphs"]["fp32"].update(third="query.onnx"),
        lambda m: m["graphs"].update(fp8=m["graphs"]["fp32"]),
        lambda m: m.update(precision="fp16"),
        lambda m: m.update(graphs={}),
        lambda m: m["matching"]["calibration"].update(temperature=0),
        lambda m: m["matching"]["calibration"].update(temperature=-0.2),
        lambda m: m["matching"]["calibration"].update(temperature=math.inf),
        lambda m: m["matching"]["calibration"].update(temperature="1e999"),
        lambda m: m["matching"]["calibration"].update(temperature="nan"),
        lambda m: m["matching"]["calibration"].update(distance=0),
        lambda m: m["matching"]["calibration"].update(unrelated=1),
        lambda m: m["matching"]["calibration"].update(bias="nan"),
        lambda m: m["matching"]["calibration"].update(left_out=None),
        lambda m: m["matching"]["calibration"].pop("evidence"),
        lambda m: m["matching"].pop("calibration"),
        lambda m: m["files"].pop(BACKGROUND),
        lambda m: m["matching"].update(strength=1.01),
        lambda m: m["matching"].update(strength=-0.01),
        lambda m: m["matching"].update(strength="nan"),
        lambda m: m["matching"].pop("strength"),
        lambda m: m.update(feature_dim=0),
        lambda m: m.update(mirrored=1),
        lambda m: m.update(mirrored="false"),
        lambda m: m.pop("mirrored"),
        lambda m: m["preprocess"].update(image_size=0),
        lambda m: m["preprocess"].update(resize_ratio=5),
        lambda m: m["preprocess"].update(resize_ratio=10**400),
        lambda m: m["matching"]["calibration"].update(bias=10**400),
        lambda m: m["files"]["query.onnx"].update(bytes=5),
        lambda m: m["files"]["query.onnx"].update(sha256=""),
        lambda m: m["files"].update(more={"sha256": "0", "bytes": 1}),
    ],
)
def test_what_cannot_be_is_refused(bundle_path: Path, change: Any) -> None:
    edit(bundle_path, change)
    with pytest.raises(BundleError):
        Bundle.load(bundle_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["matching"].pop("strength"),
        lambda m: m["graphs"].pop("fp32"),
        lambda m: m.update(feature_dim="many"),
        lambda m: m["files"].pop(GOLDEN),
    ],
)
def test_a_manifest_that_lacks_something_tells_to_export_again(bundle_path: Path, change: Any) -> None:
    edit(bundle_path, change)
    with pytest.raises(BundleError) as raised:
        Bundle.load(bundle_path)
    assert raised.value.next_step == "export it again with this version of sp-edge"


def test_the_prompts_must_be_of_the_manifests_encoder(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: m["text"].update(encoder="other"))
    with pytest.raises(BundleError, match="another text encoder") as raised:
        Bundle.load(bundle_path)
    assert "other" in raised.value.expected


def test_a_damaged_prompt_table_is_a_bundle_error_even_when_its_hash_fits(bundle_path: Path) -> None:
    (bundle_path / PROMPTS).write_bytes(b"not a table")
    rebind(bundle_path)
    with pytest.raises(BundleError, match="prompt table"):
        Bundle.load(bundle_path)


MANIFEST_JSON: dict[str, Any] = {}


@pytest.fixture(scope="module")
def fuzzed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "bundle"
    shutil.copytree(bundle.path, folder)
    MANIFEST_JSON.update(json.loads((bundle.path / MANIFEST).read_text()))
    return folder


@given(data=st.data())
@settings(deadline=None, max_examples=250)
def test_whatever_stands_in_the_manifest_it_is_valid_or_a_bundle_error(fuzzed: Path, data: st.DataObject) -> None:
    value = copy.deepcopy(MANIFEST_JSON)
    *way, last = data.draw(st.sampled_from(paths(value)))
    inner = value
    for key in way:
        inner = inner[key]
    action = data.draw(st.sampled_from(["drop", "replace", "replace", "rename"]))
    if action == "drop":
        del inner[last]
    elif action == "rename" and isinstance(inner, dict):
        inner[data.draw(st.text(max_size=4))] = inner.pop(last)
    else:
        inner[last] = data.draw(JSON)
    (fuzzed / MANIFEST).write_text(json.dumps(value))
    try:
        bundle = Bundle.load(fuzzed)
    except BundleError as error:
        str(error).encode()
        return
    manifest = bundle.manifest
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert manifest.calibration.temperature > 0
    assert manifest.feature_dim > 0
    assert bundle.graph("query").is_file()
    assert bundle.graph("support").is_file()


@given(seed_bytes=st.binary(max_size=120))
@settings(deadline=None, max_examples=60)
def test_random_bytes_are_no_manifest(fuzzed: Path, seed_bytes: bytes) -> None:
    (fuzzed / MANIFEST).write_bytes(seed_bytes)
    with pytest.raises(BundleError):
        Bundle.load(fuzzed)


# --- precision ---


def test_a_precision_is_chosen_by_name_or_by_the_manifest(build: Any, tmp_path: Path) -> None:
    bundle = Bundle.load(build(tmp_path / "b", precisions=("fp32", "int8"), precision="int8"))
    assert bundle.graph("query").name == "query.int8.onnx"
    assert bundle.graph("query", "fp32").name == "query.onnx"


def test_a_precision_that_was_not_exported_is_refused_with_the_way_on(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no fp16 graphs") as raised:
        bundle.graph("query", "fp16")
    assert raised.value.expected == "fp32"
    assert raised.value.next_step == "sp-edge export --precision fp16"


# --- fingerprint ---


def test_the_fingerprint_is_of_the_fp32_graphs_alone(build: Any, tmp_path: Path) -> None:
    one = Bundle.load(build(tmp_path / "one"))
    same = Bundle.load(build(tmp_path / "same", precisions=("fp32", "fp16"), precision="fp16", golden=3))
    other = Bundle.load(build(tmp_path / "other", graph=b"another network"))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert len(one.fingerprint) == 64


@pytest.mark.parametrize("graph", ["query.onnx", "support.onnx"])
def test_the_fingerprint_is_of_both_graphs(bundle_path: Path, graph: str) -> None:
    before = Bundle.load(bundle_path).fingerprint
    (bundle_path / graph).write_bytes(placeholder(b"retrained"))
    rebind(bundle_path)
    assert Bundle.load(bundle_path).fingerprint != before


def test_the_fingerprint_is_not_of_names_and_notes(bundle_path: Path) -> None:
    before = Bundle.load(bundle_path).fingerprint
    model = onnx.load(bundle_path / "query.onnx")
    model.producer_name, model.graph.name, model.graph.node[0].name = "another exporter", "main", "node_Add_7"
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "val_7"
    onnx.save(model, bundle_path / "query.onnx")
    rebind(bundle_path)
    assert Bundle.load(bundle_path).fingerprint == before


def test_what_prepares_pictures_and_encodes_texts_counts(build: Any, bundle: Bundle, tmp_path: Path) -> None:
    other_text = Bundle.load(build(tmp_path / "text", text=replace(bundle.manifest.text, template="{name}")))
    pictures = Bundle.load(build(tmp_path / "pictures"))
    write_manifest(pictures.path, replace(pictures.manifest, preprocess=replace(pictures.manifest.preprocess, resize_ratio=1)))
    assert len({each.fingerprint for each in (bundle, other_text, Bundle.load(pictures.path))}) == 3


def test_a_graph_that_is_none_has_no_identity(bundle_path: Path) -> None:
    (bundle_path / "query.onnx").write_bytes(b"no graph")
    rebind(bundle_path)
    with pytest.raises(BundleError, match=r"cannot read query\.onnx"):
        _ = Bundle.load(bundle_path).fingerprint


# --- bytes as they were checked ---


def test_bytes_are_read_as_the_manifest_has_them_or_not_at_all(bundle_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    for name in bundle.manifest.files:
        assert bundle.read(name) == (bundle_path / name).read_bytes()
    assert bundle.read_graph("support") == (bundle_path / "support.onnx").read_bytes()
    for content in (placeholder(b"of another export"), b"", (bundle_path / "query.onnx").read_bytes() + b"\0"):
        (bundle_path / "query.onnx").write_bytes(content)
        for read in (lambda: bundle.read_graph("query"), lambda: bundle.fingerprint):
            with pytest.raises(BundleError, match=r"has changed: query\.onnx"):
                read()
    (bundle_path / "query.onnx").unlink()
    with pytest.raises(BundleError, match=r"missing or unreadable: query\.onnx"):
        bundle.read_graph("query")
    for name in ("manifest.json", "../x", "golden"):
        with pytest.raises(BundleError, match="does not list"):
            bundle.read(name)


def test_no_part_is_taken_from_a_bundle_that_was_put_in_its_place(build: Any, tmp_path: Path) -> None:
    bundle = Bundle.load(build(tmp_path / "bundle"))
    for file in [*(tmp_path / "bundle").rglob("*.safetensors"), *(tmp_path / "bundle").rglob("*.png")]:
        file.write_bytes(file.read_bytes() + b" ")
    for part in (bundle.golden, bundle.background):
        with pytest.raises(BundleError, match="has changed"):
            part()


# --- golden pictures ---


def test_golden_pictures_come_with_their_features(bundle: Bundle) -> None:
    golden = bundle.golden()
    assert (golden.images.shape, golden.images.dtype) == ((2, 32, 32, 3), np.uint8)
    assert (golden.prompts.shape, golden.query.shape, golden.support.shape) == ((2, 4), (2, 6), (2, 6))
    np.testing.assert_array_equal(golden.images[1], load_image(bundle.path / "golden/1.png"))
    tensors, _ = load_tensors(bundle.path / GOLDEN, BundleError)
    for part in ("prompts", "query", "support"):
        np.testing.assert_array_equal(getattr(golden, part), tensors[part])


def forged(folder: Path, tensors: dict[str, np.ndarray], described: dict[str, object]) -> Bundle:
    save_tensors(folder / GOLDEN, tensors, described)
    rebind(folder)
    return Bundle.load(folder)


GOOD = {"prompts": np.zeros((2, 4), np.float32), "query": np.zeros((2, 6), np.float32), "support": np.zeros((2, 6), np.float32)}
IMAGES = {"images": ["golden/0.png", "golden/1.png"]}


@pytest.mark.parametrize(
    ("tensors", "described"),
    [
        ({k: v for k, v in GOOD.items() if k != "query"}, IMAGES),
        (GOOD, {}),
        (GOOD, {"images": []}),
        (GOOD, {"images": None}),
        (GOOD, {"images": [3]}),
        (GOOD, {"images": "golden"}),
        (GOOD, {"images": ["golden/0.png"]}),
        (GOOD, {"images": ["golden/0.png", "golden/9.png"]}),
        (GOOD, {"images": ["golden/0.png", "../x.png"]}),
        (GOOD, {"images": ["golden/0.png", PROMPTS]}),
        (GOOD, {"images": ["golden/0.png", "golden/large.png"]}),
        (GOOD, {"images": ["golden/large.png", "golden/large.png"]}),
        ({**GOOD, "query": np.zeros((2, 5), np.float32)}, IMAGES),
        ({**GOOD, "support": np.zeros((1, 6), np.float32)}, IMAGES),
        ({**GOOD, "prompts": np.zeros((2, 6), np.float32)}, IMAGES),
    ],
)
def test_golden_pictures_that_do_not_fit_are_a_bundle_error(
    bundle_path: Path, tensors: dict[str, np.ndarray], described: dict[str, object]
) -> None:
    Image.new("RGB", (40, 40)).save(bundle_path / "golden" / "large.png")
    Image.new("RGB", (32, 32)).save(bundle_path.parent / "x.png")
    bundle = forged(bundle_path, tensors, described)
    with pytest.raises(BundleError):
        bundle.golden()
    assert forged(bundle_path, GOOD, IMAGES).golden().query.shape == (2, 6)


# --- writing ---


def test_every_file_but_the_manifest_is_listed(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    for name in ["a.onnx", MANIFEST, f"tokenizer/{MANIFEST}", ".hidden"]:
        (tmp_path / name).write_bytes(name.encode())
    entries = file_entries(tmp_path)
    assert list(entries) == [".hidden", "a.onnx", f"tokenizer/{MANIFEST}"]
    assert entries["a.onnx"] == (hashlib.sha256(b"a.onnx").hexdigest(), 6)


def test_a_manifest_of_another_table_cannot_slip_in(bundle_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    text = TextSpec("toy", "0" * 64, "{name}", 9.0, 4)
    PromptTable(text, ("red fox",), np.zeros((1, 4), np.float32)).save(bundle_path / PROMPTS)
    write_manifest(bundle_path, replace(bundle.manifest, files=file_entries(bundle_path)))
    with pytest.raises(BundleError, match="another text encoder"):
        Bundle.load(bundle_path)
    write_manifest(bundle_path, replace(bundle.manifest, files=file_entries(bundle_path), text=text))
    assert Bundle.load(bundle_path).manifest.text == text


@pytest.mark.parametrize("within", [np.zeros((6, 6)), np.ones((6, 6)), np.diag([9, 1, 0, 0, 0, -1e-6])])
def test_a_covariance_may_lack_variances(bundle_path: Path, within: np.ndarray) -> None:
    save_tensors(bundle_path / BACKGROUND, {"mean": np.zeros(6, np.float32), "within": within.astype(np.float32)}, {})
    manifest = Manifest.from_json(read_json(bundle_path / MANIFEST, BundleError))
    write_manifest(bundle_path, replace(manifest, files=file_entries(bundle_path)))
    np.testing.assert_array_equal(Bundle.load(bundle_path).background().within, within.astype(np.float32))


@pytest.mark.parametrize(
    ("within", "problem"),
    [
        (None, "does not fit"),
        (np.eye(5, dtype=np.float32), "does not fit"),
        (np.eye(6), "does not fit"),
        (np.triu(np.ones((6, 6), np.float32)), "no covariance"),
        (-np.eye(6, dtype=np.float32), "no covariance"),
        (np.ones((6, 6), np.float32) - np.eye(6, dtype=np.float32), "no covariance"),
        (np.full((6, 6), np.nan, np.float32), "no covariance"),
        (np.full((6, 6), -0.99, np.float32) + 1.99 * np.eye(6, dtype=np.float32), "no covariance"),  # a variance of -3
    ],
)
def test_a_background_is_a_covariance(bundle_path: Path, within: Any, problem: str) -> None:
    background = Bundle.load(bundle_path).background()
    assert (background.mean.shape, background.within.shape) == ((6,), (6, 6))
    mean = np.zeros(6, np.float32)
    save_tensors(bundle_path / BACKGROUND, {"mean": mean} if within is None else {"mean": mean, "within": within}, {})
    manifest = Manifest.from_json(read_json(bundle_path / MANIFEST, BundleError))
    write_manifest(bundle_path, replace(manifest, files=file_entries(bundle_path)))
    with pytest.raises(BundleError, match=problem):
        Bundle.load(bundle_path).background()


@pytest.mark.parametrize(
    "mean", [None, np.zeros(5, np.float32), np.zeros(6), np.full(6, np.nan, np.float32), np.ones(6, np.float32)]
)
def test_a_background_has_a_mean_of_features_of_length_one(bundle_path: Path, mean: Any) -> None:
    within = {"within": np.eye(6, dtype=np.float32)}
    save_tensors(bundle_path / BACKGROUND, within if mean is None else {"mean": mean, **within}, {})
    manifest = Manifest.from_json(read_json(bundle_path / MANIFEST, BundleError))
    write_manifest(bundle_path, replace(manifest, files=file_entries(bundle_path)))
    with pytest.raises(BundleError, match="background"):
        Bundle.load(bundle_path).background()


def with_part(
    path: Path, name: str, written: Familiarity | TextPrototype, content: bytes | None, read: Callable[[Bundle], object]
) -> Bundle:
    """The bundle with an optional part that it did not have, or with `content` in that part's file."""
    before = Bundle.load(path)
    assert read(before) is None, "as of a network without a text prototype"
    written.save(path / name)
    if content is not None:
        (path / name).write_bytes(content)
    assert read(Bundle.load(path)) is None, "what the manifest does not list is never read"
    write_manifest(path, replace(before.manifest, files=file_entries(path)))
    bundle = Bundle.load(path)
    assert bundle.fingerprint == before.fingerprint, "features are the same"
    return bundle


@pytest.mark.parametrize(
    ("dim", "content", "problem"),
    [(4, None, ""), (5, None, "does not fit"), (4, b"no tensors", "cannot be used"), (4, b"", "cannot be used")],
)
def test_a_familiarity_is_of_the_bundles_text(bundle_path: Path, dim: int, content: bytes | None, problem: str) -> None:
    written = Familiarity.of(np.eye(dim, dtype=np.float32))
    bundle = with_part(bundle_path, FAMILIARITY, written, content, Bundle.familiarity)
    if problem:
        with pytest.raises(BundleError, match=problem):
            bundle.familiarity()
        return
    found = bundle.familiarity()
    assert found is not None
    np.testing.assert_array_equal(found.factor, written.factor)
    (bundle_path / FAMILIARITY).unlink()
    with pytest.raises(BundleError, match="missing"):
        Bundle.load(bundle_path)


@pytest.mark.parametrize(
    ("shape", "content", "problem"),
    [((6, 4), None, ""), ((6, 5), None, "does not fit"), ((5, 4), None, "does not fit"), ((6, 4), b"", "cannot be used")],
)
def test_a_text_prototype_is_of_the_bundles_text_and_features(
    bundle_path: Path, shape: tuple[int, int], content: bytes | None, problem: str
) -> None:
    written = TextPrototype(np.ones(shape, np.float32), np.ones(shape[0], np.float32))
    bundle = with_part(bundle_path, NAMES, written, content, Bundle.text_prototype)
    if problem:
        with pytest.raises(BundleError, match=problem):
            bundle.text_prototype()
        return
    found = bundle.text_prototype()
    assert found is not None
    np.testing.assert_array_equal(found.weight, written.weight)


def test_a_precision_may_have_another_form_for_cpus(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "eight", precisions=("fp32", "int8"), for_cpu=True))
    assert bundle.graph("query", for_cpu=True).name == "query.int8-cpu.onnx"
    assert bundle.graph("query").name == "query.int8.onnx"
    assert bundle.graph("query", "fp32", for_cpu=True).name == "query.onnx", "one form for all"
    assert bundle.read_graph("query", for_cpu=True) == (bundle.path / "query.int8-cpu.onnx").read_bytes()
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest
    (bundle.path / "query.int8-cpu.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"has changed: query\.int8-cpu\.onnx"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize(
    "cpu_graphs",
    [
        {"int8": {"query": "query.onnx"}},
        {"int8": {"query": "query.onnx", "support": "elsewhere.onnx"}},
        {"fp16": {"query": "query.onnx", "support": "support.onnx"}},
        ["int8"],
    ],
)
def test_a_form_for_cpus_must_be_whole_and_of_a_precision_that_is_there(tmp_path: Path, cpu_graphs: Any) -> None:
    path = toy.make_bundle(tmp_path / "eight", precisions=("fp32", "int8"), for_cpu=True)
    edit(path, lambda manifest: manifest.update(cpu_graphs=cpu_graphs))
    with pytest.raises(BundleError, match=r"graphs do not fit|precisions do not fit|cannot be one"):
        Bundle.load(path)
