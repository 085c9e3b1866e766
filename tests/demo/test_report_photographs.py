from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from photograph_story import FIGURES, photograph_story
from sp_edge.bank.heat import FULL
from sp_edge.demo import report_photographs as part
from sp_edge.demo.plots import place_map
from sp_edge.demo.strip import place_strip
from sp_edge_runtime.looking import Look


def test_the_lead_says_what_the_figures_say() -> None:
    said = part.lead(photograph_story())
    assert "Each of 5 objects was taught by its name and one photograph." in said
    assert "As a camera moves over these, 96.8 % of 250 frames are named rightly." in said

    assert "the network is toynet" in said
    assert "Of 100 frames with objects that were never taught, 93.0 % are called unknown." in said
    alone = dataclasses.replace(photograph_story(), figures={**FIGURES, "unknown_shown": 0, "unknown_right": 0})
    assert "never taught" not in part.lead(alone)


def test_two_names_of_one_photograph_are_told_with_what_its_parts_were_taken_for() -> None:
    said = part.pair(photograph_story())
    assert "1 of these 2 parts of the photograph are recognized rightly" in said
    assert (said.count("✓"), said.count("✗")) == (1, 1)
    assert "cat 70.0 %, coffee cup 20.0 %" in said
    assert said.count("<img") == 3 + 2  # the photograph and two places, two parts


def test_every_class_has_its_photograph_and_its_place() -> None:
    said = part.taught(photograph_story())
    assert said.count("<img") == 5 * 2 + 1  # the scale
    assert "“temple”: 1.5" in said


def test_authors_and_licenses_are_named_without_a_link() -> None:
    said = part.sources(photograph_story())
    assert "danielbuechele, CC-BY-2.0, www.flickr.com/photos/danielbuechele/" in said
    assert "://" not in said


def test_a_place_glows_where_it_looks_like_the_name_and_nothing_glows_where_nothing_does() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    scores = np.full((4, 4), -3, np.float32)
    dark = place_map(Look(image, scores, 0.0))
    assert np.ptp(dark, axis=(0, 1)).max() == 0
    scores[0, 0] = FULL / 2
    weak = place_map(Look(image, scores, 0.0))
    scores[0, 0] = FULL
    strong = place_map(Look(image, scores, 0.0))
    assert dark[10, 10, 0] < weak[10, 10, 0] < strong[10, 10, 0]
    assert np.array_equal(place_map(Look(image, scores.clip(0) * 4, 0.0)), strong)


def test_a_strip_has_a_column_for_each_of_four_photographs() -> None:
    strip = place_strip(photograph_story())
    assert strip.dtype == np.uint8
    assert strip.shape == (522, 950, 3)


def test_the_place_of_a_name_is_where_it_scores_highest() -> None:
    scores = np.zeros((5, 10), np.float32)
    scores[0, 7] = 1
    assert part.NamedPlace("cat", Look(np.zeros((8, 8, 3), np.uint8), scores, 1.0)).place == (0.75, 0.1)
