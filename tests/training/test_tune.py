from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sp_edge.model.normalization import Normalization
from sp_edge.training.tune import EpisodeLoss, with_noise


class Known(nn.Module):
    """Features from a list: a picture's red says which; a prompt is added."""

    def __init__(self, features: list[tuple[float, float]], *, prompted: bool = True) -> None:
        super().__init__()
        self.normalise = Normalization((0, 0, 0), (1, 1, 1))
        self.prompt = nn.Identity() if prompted else None
        self.features = torch.tensor(features)

    def begin(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, 0].round().long()

    def finish(self, tokens: Tensor, prompt: Tensor | None = None) -> Tensor:
        return self.features[tokens] + (0 if prompt is None else prompt)


def loss_of(features: list[tuple[float, float]], prompts: Tensor, **options: Any) -> tuple[float, float]:
    known = Known(features, prompted=options.pop("prompted", True))
    images = torch.arange(len(features), dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    prompted = torch.tensor([options.pop("each", [True] * len(prompts))])
    loss, accuracy = EpisodeLoss(known, **options)(images, prompts[None], prompted)  # type: ignore[arg-type]
    return float(loss), float(accuracy)


# Two ways of two shots. With the prompts (1, 1) and (-2, 0): (1, 2), (5, -2) with mean (3, 0); (0, 1), (0, 3) with mean (0, 2).
SUPPORT = [(0.0, 1.0), (4.0, -3.0), (2.0, 1.0), (2.0, 3.0)]
PROMPTS = torch.tensor([[1.0, 1.0], [-2.0, 0.0]])
# A query each, of cosines (.6, .8) and (5/13, 12/13) with the prototypes: the first is taken for the second class.
QUERIES = [(3.0, 4.0), (5.0, 12.0)]


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_the_loss_is_cross_entropy_over_cosines(temperature: float) -> None:
    loss, accuracy = loss_of(SUPPORT + QUERIES, PROMPTS, n_query=1, temperature=temperature)
    first = math.log(1 + math.exp((0.8 - 0.6) / temperature))
    second = math.log(1 + math.exp((5 - 12) / 13 / temperature))
    assert loss == pytest.approx((first + second) / 2, rel=1e-5)
    assert accuracy == 0.5


def test_queries_come_by_way_and_see_no_prompt() -> None:
    far = PROMPTS.clone()
    support = [(a - p[0], b - p[1]) for (a, b), p in zip([(1, 0), (0, 1)], far.tolist(), strict=True)]
    queries = [(2.0, 0.0), (1.0, 0.0), (3.0, 0.0), (0.0, 1.0), (0.0, 2.0), (1.0, 0.0)]
    loss, accuracy = loss_of(support + queries, far, n_query=3, temperature=1.0)
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    assert loss == pytest.approx((5 * right + wrong) / 6, rel=1e-5)
    assert accuracy == pytest.approx(5 / 6)


def test_a_network_without_prompts_gets_none() -> None:
    support = [(1.0, 0.0), (0.0, 1.0)]
    loss, accuracy = loss_of([*support, *support], torch.full((2, 2), 1e6), n_query=1, temperature=1.0, prompted=False)
    assert loss == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)
    assert accuracy == 1


def test_several_episodes_give_the_mean_of_what_each_gives_alone() -> None:
    """The second episode's ways are the first's in turn; its queries lie elsewhere."""
    second = [*SUPPORT[2:], *SUPPORT[:2]], [(1.0, 0.0), (12.0, 5.0)], PROMPTS.flip(0)
    options = {"n_query": 1, "temperature": 0.5}
    alone = [loss_of(SUPPORT + QUERIES, PROMPTS, **options), loss_of(second[0] + second[1], second[2], **options)]
    known = Known([*SUPPORT, *second[0], *QUERIES, *second[1]])
    images = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    both = EpisodeLoss(known, **options)(images, torch.stack([PROMPTS, second[2]]), torch.ones(2, 2).bool())  # type: ignore[arg-type]
    np.testing.assert_allclose([float(value) for value in both], np.mean(alone, axis=0), rtol=1e-5)
    assert abs(alone[0][0] - alone[1][0]) > 0.1


def test_a_class_whose_prompt_is_dropped_is_encoded_without() -> None:
    """The second class's prototype is then (2, 2), whose cosines with the queries are 7/sqrt(50) and 17/sqrt(338)."""
    loss, _ = loss_of(SUPPORT + QUERIES, PROMPTS, n_query=1, temperature=1.0, drops_prompts=True, each=[True, False])
    first = math.log(1 + math.exp(7 / math.sqrt(50) - 0.6))
    second = math.log(1 + math.exp(5 / 13 - 17 / math.sqrt(338)))
    assert loss == pytest.approx((first + second) / 2, rel=1e-5)


def test_noise_on_text_is_a_share_of_its_length() -> None:
    text = torch.tensor([[3.0, 4.0], [0.0, 10.0]]).repeat_interleave(20_000, dim=0)
    noise = with_noise(text, 0.3, np.random.default_rng(0)) - text
    for rows, length in ((noise[:20_000], 5.0), (noise[20_000:], 10.0)):
        assert float(rows.square().sum(dim=1).mean().sqrt()) == pytest.approx(0.3 * length, rel=0.02)
        np.testing.assert_allclose(rows.mean(dim=0), 0, atol=0.05)
    assert with_noise(text, 0.0, np.random.default_rng(0)) is text
