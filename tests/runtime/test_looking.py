from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.errors import BundleError
from sp_edge_runtime.recognizer import Recognizer


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose support graph tells where it finds a name."""
    return toy.make_bundle(tmp_path_factory.mktemp("scores") / "model.spedge", scored=True, text_prototype=toy.looks_of_names())


def half_red() -> np.ndarray:
    """Red on the left, blue on the right."""
    return np.concatenate([toy.picture("red", side=64)[:, :32], toy.picture("blue", side=64)[:, 32:]], axis=1)


def test_where_a_name_is_in_a_picture(scoring: Path) -> None:
    with Recognizer.load(scoring, device="cpu") as recognizer:
        look = recognizer.look(half_red(), "red")
        crop = recognizer.bundle.manifest.preprocess(half_red())
        np.testing.assert_array_equal(look.image_rgb, crop)
        expected = toy.scores(crop[None], toy.prompts().vector("red")[None])[0]
        np.testing.assert_allclose(look.heat, expected, atol=1e-4)
        assert look.evidence == pytest.approx(np.sort(expected, axis=None)[-5:].mean(), abs=1e-4)
        assert look.heat[:, 0].min() > 1 > look.heat[:, -1].max()
        shown = look.picture()
        assert shown.shape == crop.shape
        assert np.abs(shown[:, :4].astype(int) - crop[:, :4]).mean() < np.abs(shown[:, -4:].astype(int) - crop[:, -4:]).mean()
        assert recognizer.bank.names == ()
        given = recognizer.look(half_red(), "anything", prompt=toy.prompts().vector("red"))
        np.testing.assert_array_equal(given.heat, look.heat)


def test_teaching_says_what_the_pictures_bear_out(scoring: Path) -> None:
    with Recognizer.load(scoring, device="cpu") as recognizer:
        pictures = [toy.picture("red"), half_red(), toy.picture("blue")]
        taught = recognizer.enroll("red", pictures, views=2)
        assert (taught.name, taught.familiarity, len(taught.evidence)) == ("red", 1, 3)
        expected = [recognizer.look(picture, "red").evidence for picture in pictures]
        assert taught.evidence == pytest.approx(expected)
        assert taught.unlike == (2,)
        assert replace(taught, familiarity=0.4).unlike == (), "a name that it cannot read is in no picture"
        both = recognizer.enroll_many({"green": [toy.picture("green")], "blue": [toy.picture("blue", seed=1)]})
        assert [one.name for one in both] == ["green", "blue"]
        assert recognizer.enroll_by_name("naïve café").evidence == ()
        recognizer.enroll_not("red", [toy.picture("green", seed=3)])
        heats = recognizer.heats()
        assert [heat is None for heat in heats] == [False] * 5 + [True] * 2
        np.testing.assert_allclose(heats[1], recognizer.look(half_red(), "red").heat, atol=0.3)  # JPEG


def test_a_bundle_that_tells_no_places(taught: Recognizer) -> None:
    with pytest.raises(BundleError, match="does not tell where"):
        taught.look(toy.picture("red"), "red")
    with pytest.raises(BundleError, match="does not tell where"):
        taught.heats()
    assert taught.enroll("red", [toy.picture("red", seed=7)]).evidence == ()
