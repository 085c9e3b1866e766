from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sp_edge.model.places import RANK, NamedPlaces, evidence, low_rank

T, D = 3, 80


def named(dim: int = D, **options: float) -> NamedPlaces:
    torch.manual_seed(0)
    return NamedPlaces(T, dim, **options)


def patches(count: int = 4000, dim: int = D) -> np.ndarray:
    """Correlated, of a mean that is not zero."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, dim)) @ rng.standard_normal((dim, dim)) / 3 + rng.standard_normal(dim)


def random_map(rows: int = 2, dim: int = D) -> Tensor:
    return torch.randn(rows, dim, 4, 5, generator=torch.Generator().manual_seed(1))


def test_a_score_is_a_number_of_deviations_from_what_patches_usually_score() -> None:
    """More dimensions than the covariance's rank: the largest variances are exact, the others even."""
    net, seen = named(), patches()
    net.set_patches(seen.mean(axis=0), np.cov(seen.T))
    places, prompt = random_map(), torch.randn(2, T)
    scores = net.scores(places, prompt)
    assert scores.shape == (2, 4, 5)
    for row in range(2):
        direction = net.direction(prompt[row]).detach().numpy()
        usual = seen @ direction
        expected = (np.einsum("dhw,d->hw", places[row].numpy(), direction) - usual.mean()) / usual.std()
        np.testing.assert_allclose(scores[row].detach().numpy(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dim", [5, RANK, D])
def test_the_patches_variance_is_kept_in_whole_and_exactly_where_it_is_large(dim: int) -> None:
    net, covariance = named(dim), np.cov(patches(dim=dim).T)
    assert not net.fitted
    net.set_patches(np.zeros(dim), covariance)
    assert net.fitted
    found = net.patch_factor.T @ net.patch_factor + net.patch_rest * torch.eye(dim)
    assert float(found.trace()) == pytest.approx(np.trace(covariance), rel=1e-5)
    largest = np.linalg.eigh(covariance)[1][:, -1]
    assert largest @ found.numpy() @ largest == pytest.approx(largest @ covariance @ largest, rel=1e-4)


def test_statistics_are_saved_with_the_weights() -> None:
    net, other = named(), named()
    net.set_patches(np.ones(D), np.eye(D) + 1)
    other.load_state_dict(net.state_dict())
    assert other.fitted
    torch.testing.assert_close(other.scores(random_map(), torch.ones(2, T)), net.scores(random_map(), torch.ones(2, T)))


def test_weights_are_sigmoids_of_scores_and_a_floor() -> None:
    net = named(2, threshold=0.5, softness=2.0, floor=0.1)
    places = torch.tensor([[[[1.0, 2.0, 3.0]], [[0.0, 4.0, 0.0]]]])
    scores = torch.tensor([[[0.5, 2.5, -1.5]]])
    weights = np.array([0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]) + 0.1
    expected = places[0, :, 0].numpy() @ (weights / weights.sum()) - places[0, :, 0].numpy().mean(axis=1)
    np.testing.assert_allclose(net(places, scores)[0].detach().numpy(), expected, rtol=1e-5)


def test_even_scores_change_nothing() -> None:
    shift = named()(random_map(), torch.full((2, 4, 5), 7.0))
    torch.testing.assert_close(shift, torch.zeros(2, D), rtol=0, atol=1e-6)


def test_the_length_of_a_direction_does_not_count_and_none_gives_no_nan() -> None:
    net, prompt = named(), torch.randn(2, T)
    before = net.scores(random_map(), prompt)
    with torch.no_grad():
        net.direction.weight *= 1e-3
        net.direction.bias *= 1e-3
        torch.testing.assert_close(net.scores(random_map(), prompt), before)
        net.direction.weight.zero_()
        net.direction.bias.zero_()
    assert torch.isfinite(net.scores(random_map(), prompt)).all()


def test_evidence_is_the_mean_of_the_five_highest_scores_or_of_all() -> None:
    scores = torch.arange(20.0).reshape(1, 4, 5).flip(1)
    assert evidence(scores).tolist() == [[17.0]]
    assert evidence(scores[:, :1, :2]).tolist() == [[15.5]]


def test_a_covariance_keeps_its_largest_variances_and_its_trace() -> None:
    factor, rest = low_rank(np.diag([1.0, 9.0, 3.0, 4.0]), 2)
    assert (factor.shape, rest) == ((2, 4), 2.0)
    np.testing.assert_allclose(factor.T @ factor + rest * np.eye(4), np.diag([2.0, 9.0, 2.0, 4.0]), atol=1e-9)
    assert low_rank(np.eye(2), 64)[0].shape == (2, 2)
