"""Bundles and banks survive upgrades: `schema5` was written once, by `tests/write_schema5.py`, and is read for ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile import paths
from sp_edge.bank.advice import left_out
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import decode_crop
from sp_edge.bank.file import BankFile
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import MANIFEST, seal
from sp_edge.bundle.session import Session
from sp_edge.errors import BackendError, BankError, BundleError
from sp_edge.tensors import load_tensors, save_tensors

FOLDER = Path(__file__).parent / "schema5"
IDENTITY = "a6bc40b2bcd3028b8414e9c77ff1da480add4da0f68031e44a4520edb0f05dc4"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(FOLDER / "model.spedge")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of both, for a test that changes it."""
    return Path(shutil.copytree(FOLDER, tmp_path / "own"))


def test_the_bundle_is_read_and_has_its_identity(bundle: Bundle) -> None:
    assert bundle.fingerprint == IDENTITY, "the definition of identity has changed: every bank would be of another bundle"
    assert (bundle.manifest.feature_dim, bundle.manifest.strength, bundle.manifest.mirrored) == (48, 0.5, False)
    assert bundle.manifest.text_encoder is not None
    assert bundle.prompts.names[:3] == ("red", "green", "blue")
    assert bundle.familiarity() is not None
    bundle.background()


def test_its_graphs_give_its_golden_features(bundle: Bundle) -> None:
    golden = bundle.golden()
    session = Session(bundle.read_graph("support"), "support.onnx", BackendError)
    feature, plain = session.run({"image": golden.images, "prompt": golden.prompts}, ["feature", "plain"])
    np.testing.assert_allclose(feature, golden.support, atol=1e-5)
    np.testing.assert_allclose(plain, golden.query, atol=1e-5)


def test_the_bank_is_read_with_all_that_was_taught(bundle: Bundle) -> None:
    bank = Bank.load(FOLDER / "classes.spbank", bundle)
    assert (bank.names, bank.version, bank.owners.tolist()) == (("red", "green", "blue", "unicycle"), 6, [0, 0, 1, 2, 3])
    assert bank.descriptions == {"unicycle": ("a one-wheeled vehicle",)}
    np.testing.assert_array_equal(bank.thresholds, np.float32([np.nan, 0.25, np.nan, np.nan]))
    np.testing.assert_allclose(bank.strengths, [0.5, 0.5, 0.125, 0.5], atol=0.01)
    assert bank.text == bundle.manifest.text
    assert left_out(bank) is not None
    head = Head.of(bank, bundle.background(), bundle.manifest.calibration)
    assert [found.name for found in head.matches(bank.query)] == ["red", "red", "green", "blue", "unicycle"]
    session = Session(bundle.read_graph("query"), "query.onnx", BackendError)
    (seen,) = session.run({"image": np.stack([decode_crop(crop) for crop in bank.crops])}, ["feature"])
    np.testing.assert_allclose(seen, bank.query, atol=0.02)


def test_a_manifest_of_a_later_version_may_say_more_anywhere(own: Path) -> None:
    file = own / "model.spedge" / MANIFEST
    content: dict[str, Any] = json.loads(file.read_text())
    # How pictures are prepared is the exception: a key that this version does not know would mean something there.
    places = [content, *(_at(content, way) for way in paths(content) if way[0] != "preprocess")]
    for place in places:
        if isinstance(place, dict) and place is not content["graphs"] and place is not content["files"]:
            place["note"] = {"of": "a later version"} if place is not content["versions"] else "later"
    graphs = [content["graphs"]["fp32"], content["files"]]
    for place in graphs:
        place.pop("note", None)
    file.write_text(json.dumps({**content, "seal": seal(content)}))
    bundle = Bundle.load(own / "model.spedge")
    assert bundle.fingerprint == IDENTITY
    assert Bank.load(own / "classes.spbank", bundle).names[3] == "unicycle"


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def test_a_bank_of_a_later_version_may_hold_more(own: Path, bundle: Bundle) -> None:
    file = own / "classes.spbank"
    tensors, described = load_tensors(file, BankError)
    save_tensors(file, {**tensors, "heat": np.zeros(3)}, {**described, "note": "of a later version"})
    bank = BankFile(file, bundle).change(lambda bank: bank.remove("unicycle"))
    assert Bank.load(file, bundle).names == bank.names == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("schema", "words"), [(4, ("export it again", "teach its classes again")), (6, ("update sp-edge",) * 2)]
)
def test_other_schemas_are_refused_with_what_to_do(own: Path, bundle: Bundle, schema: int, words: tuple[str, str]) -> None:
    content = json.loads((own / "model.spedge" / MANIFEST).read_text()) | {"schema": schema}
    (own / "model.spedge" / MANIFEST).write_text(json.dumps({**content, "seal": seal(content)}))
    with pytest.raises(BundleError, match="another schema") as raised:
        Bundle.load(own / "model.spedge")
    assert words[0] in raised.value.next_step
    tensors, described = load_tensors(own / "classes.spbank", BankError)
    save_tensors(own / "classes.spbank", tensors, {**described, "schema": schema})
    with pytest.raises(BankError, match="another schema") as refused:
        Bank.load(own / "classes.spbank", bundle)
    assert words[1] in refused.value.next_step
