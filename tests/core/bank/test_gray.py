from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from banks import prompt, shots
from sp_edge.bank import advice as review_of
from sp_edge.bank.advice import review
from sp_edge.bank.bank import Bank
from sp_edge.bank.crops import encode_crop
from sp_edge.bank.gray import GRAY, chroma, is_gray, is_gray_crop
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.photographs import photograph, photographs
from sp_edge.preprocess import Preprocess
from sp_edge.view import View

IMAGE = photograph("coffee").read()


def without_color(image: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, axis=2)


def test_infrared_frames_have_no_color_and_pictures_have() -> None:
    gray, file = without_color(IMAGE), io.BytesIO()
    Image.fromarray(gray).save(file, "JPEG", quality=30)
    noisy = np.clip(gray + np.random.default_rng(0).normal(0, 2, gray.shape), 0, 255).astype(np.uint8)
    assert chroma(gray) == chroma(np.asarray(Image.open(file).convert("RGB"))) == 0
    assert 0 < chroma(noisy) <= GRAY
    assert is_gray(noisy)
    for shown in photographs():
        found = chroma(shown.read())
        assert found == 0 or found > 2 * GRAY, shown.name


@pytest.mark.parametrize("view", [View(), View(fit="squash"), View(fit="pad")])
def test_a_shot_is_as_gray_as_its_picture(view: View) -> None:
    for image, gray in ((IMAGE, False), (without_color(IMAGE), True)):
        assert is_gray_crop(encode_crop(Preprocess(96)(image, view))) == gray


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 150), st.integers(1, 150), st.just(3))))
@settings(deadline=None, max_examples=40)
def test_any_picture_has_a_chroma_of_its_own_pixels(image: np.ndarray) -> None:
    assert 0 <= chroma(image) <= int((image.max(axis=2) - image.min(axis=2)).max())


@pytest.mark.parametrize("crop", [b"", b"no picture", encode_crop(IMAGE)[:200]])
def test_what_cannot_be_read_is_not_gray(crop: bytes) -> None:
    assert not is_gray_crop(crop)


def test_a_bank_knows_which_of_its_classes_have_gray_pictures(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    day, night = (encode_crop(Preprocess(96)(image)) for image in (IMAGE, without_color(IMAGE)))
    support, query, _ = shots(2, 1)
    bank = Bank.empty(bundle)
    assert not bank.knows_color_alone
    bank = bank.add("mug", prompt(1), support, query, [day, day])
    assert bank.knows_color_alone
    both = bank.add("mug", prompt(1), support, query, [day, night])
    assert both.gray.tolist() == [False, False, False, True]
    assert not both.knows_color_alone
    uneven = both.add("cup", prompt(2), support, query, [day, day])
    assert uneven.knows_color_alone
    by_name = both.add_by_name("spoon", prompt(3), np.ones(support.shape[1], np.float32))
    assert not by_name.knows_color_alone, "it has no picture in any color"

    def advice(one: Bank) -> str:
        return "\n".join(review(one, Head.of(one, bundle.background(), bundle.manifest.calibration)).advice)

    assert "add gray pictures of 'cup'" in advice(uneven)
    assert "gray" not in advice(both)
    assert "gray" not in advice(bank)
    assert "gray" not in advice(bank.add_reject("mug", query, [night, night])), "what is no class has them"
    told = "add gray pictures of 'cup': other classes have some, as of the night, and color would tell them apart"
    assert told in advice(uneven.add_reject("mug", query, [day, day])).splitlines()
    monkeypatch.setattr(review_of, "BLOCK", 6)
    assert told in advice(uneven).splitlines()
    monkeypatch.setattr(review_of, "BLOCK", 5)
    assert "gray" not in advice(uneven), "looking at many pictures takes long"
