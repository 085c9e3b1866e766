from __future__ import annotations

import numpy as np
import pytest
import torch

from sp_edge.settings.settings import PretrainSettings
from sp_edge.training.mixing import mix, targets


def batch(count: int = 6, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture i is of one grey, 40 i, and of class i."""
    images = (40 * torch.arange(count, dtype=torch.uint8))[:, None, None, None].expand(-1, side, side, 3).clone()
    return images, targets(torch.arange(count), count, 0.0)


def run(images: torch.Tensor, wanted: torch.Tensor, seed: int = 0, **settings: float) -> tuple[torch.Tensor, torch.Tensor]:
    before = images.clone(), wanted.clone()
    result = mix(images, wanted, PretrainSettings(**settings), np.random.default_rng(seed))  # type: ignore[arg-type]
    assert torch.equal(images, before[0])
    assert torch.equal(wanted, before[1])
    assert (result[0].shape, result[0].dtype, result[1].shape) == (images.shape, torch.uint8, wanted.shape)
    torch.testing.assert_close(result[1].sum(dim=1), torch.ones(len(images)))
    return result


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    expected = [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]
    torch.testing.assert_close(targets(torch.tensor([2, 0]), 4, 0.1), torch.tensor(expected))


def test_nothing_set_mixes_nothing() -> None:
    images, wanted = batch()
    result = run(images, wanted)
    assert torch.equal(result[0], images)
    assert torch.equal(result[1], wanted)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_weighs_neighbours_and_their_labels_alike(seed: int) -> None:
    images, wanted = run(*batch(), seed, mixup=0.4)
    weight = float(wanted[0, 0])
    for i, j in ((0, 1), (1, 0), (2, 3), (5, 4)):
        assert float(wanted[i, i]) == pytest.approx(weight, abs=1e-6)
        assert float(wanted[i, j]) == pytest.approx(1 - weight, abs=1e-6)
        assert (images[i] - round(weight * 40 * i + (1 - weight) * 40 * j)).abs().max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_counts_what_is_seen_of_each(seed: int) -> None:
    images, wanted = run(*batch(), seed, cutmix=1.0)
    for i, j in ((0, 1), (1, 0), (4, 5)):
        pasted = images[i, :, :, 0] == 40 * j
        assert (pasted | (images[i, :, :, 0] == 40 * i)).all()
        assert float(wanted[i, j]) == pytest.approx(float(pasted.float().mean()), abs=1e-6)
        rows, columns = pasted.any(dim=1), pasted.any(dim=0)
        assert pasted.sum() == rows.sum() * columns.sum(), "one rectangle"


def test_both_take_turns_by_chance() -> None:
    kinds = set()
    for seed in range(20):
        images, _ = run(*batch(side=32), seed, mixup=1.0, cutmix=1.0)
        kinds.add("cutmix" if set(images[1].unique().tolist()) <= {0, 40} else "mixup")
    assert kinds == {"cutmix", "mixup"}


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_an_even_part_of_a_batch_is_mixed_as_in_the_whole(way: str) -> None:
    images, wanted = batch()
    whole, part = run(images, wanted, 3, **{way: 1.0}), run(images[2:4], wanted[2:4], 3, **{way: 1.0})
    assert torch.equal(whole[0][2:4], part[0])
    assert torch.equal(whole[1][2:4], part[1])


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_the_last_of_an_odd_number_stays(way: str) -> None:
    images, wanted = batch(5)
    result = run(images, wanted, 1, **{way: 1.0})
    assert torch.equal(result[0][4], images[4])
    torch.testing.assert_close(result[1][4], wanted[4])
