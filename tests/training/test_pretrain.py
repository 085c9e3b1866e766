from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sp_edge.data.pictures import PictureSet
from sp_edge.model import build_network
from sp_edge.settings.settings import ModelSettings, Settings
from sp_edge.training import pretrain as module
from sp_edge.training.accelerator import Share, make_accelerator
from sp_edge.training.loop import Batch, Schedule, StageLog
from sp_edge.training.pretrain import BaseClassifier, pretrain


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`batches(share, **settings)` gives the function that makes the stage's batches, without training anything."""
    # Picture i is of one grey, 10 + 20 i, and of class i % 4.
    images = np.arange(10, 250, 20, dtype=np.uint8)[:, None, None, None].repeat(64, 1).repeat(64, 2).repeat(3, 3)
    pictures = PictureSet(images, np.arange(12) % 4, tuple("abcd"), {"all": np.arange(12)})
    given: list[tuple[Batch, Schedule]] = []

    def run_stage(_name: str, _module: nn.Module, _groups: Any, batch: Batch, *, schedule: Schedule, **_: Any) -> StageLog:
        given.append((batch, schedule))
        return StageLog(1, 1.0, 0.5, 0.5)

    monkeypatch.setattr(module, "run_stage", run_stage)

    def made(share: Share = Share(), policy: str = "none", **options: Any) -> tuple[Batch, Schedule]:  # noqa: B008
        monkeypatch.setattr(Share, "of", lambda _: share)
        settings = Settings.from_mapping({"augment": {"policy": policy}, "pretrain": options})
        network = build_network(ModelSettings("visformer_mini", 64, interaction="none", layer="3-1"), 8)
        pretrain(network, pictures, settings, folder=tmp_path, accelerator=make_accelerator("fp32", "cpu"))
        return given[-1]

    return made


def numbers(images: Tensor) -> list[int]:
    return ((images[:, 0, 0, 0].int() - 10) // 20).tolist()


def test_every_picture_comes_once_an_epoch_with_its_label(batches: Any) -> None:
    batch, schedule = batches(batch_size=4, steps=9, schedule="constant", warm_up=0.25)
    steps = [batch(step) for step in range(6)]
    for first in (0, 3):
        assert sorted(n for images, _ in steps[first : first + 3] for n in numbers(images)) == list(range(12))
    assert numbers(steps[0][0]) != numbers(steps[3][0])
    for images, wanted in steps:
        assert wanted.argmax(dim=1).tolist() == [n % 4 for n in numbers(images)]
    assert schedule == Schedule(9, "constant", 0.25)


def test_repeats_show_a_picture_several_times_each_changed_anew(batches: Any) -> None:
    batch, _ = batches(batch_size=8, repeats=3)
    seen = numbers(batch(0)[0])
    assert sorted(map(seen.count, set(seen))) == [2, 3, 3]
    changed, _ = batches(batch_size=8, repeats=3, policy="standard")
    images, _ = changed(0)
    assert len({image.numpy().tobytes() for image in images}) == 8


def test_a_small_set_gives_batches_of_what_there_is(batches: Any) -> None:
    for repeats in (1, 2):
        batch, _ = batches(batch_size=100, repeats=repeats)
        assert sorted(numbers(batch(0)[0])) == sorted(list(range(12)) * repeats)


def test_processes_see_the_parts_of_one_batch(batches: Any) -> None:
    options = {"batch_size": 8, "policy": "randaugment", "mixup": 0.3, "cutmix": 1.0, "label_smoothing": 0.1, "repeats": 2}
    for step in range(4):
        whole = batches(**options)[0](step)
        parts = [batches(Share(index, 2), **options)[0](step) for index in range(2)]
        for value, *both in zip(whole, *parts, strict=True):
            assert torch.equal(torch.cat(both), value)


def test_the_loss_is_cross_entropy_with_the_targets() -> None:
    class Known(nn.Module):
        feature_dim = 2

        def normalise(self, images: Tensor) -> Tensor:
            return images

        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0], [0.0, 2.0]])

    classifier = BaseClassifier(Known(), 2)  # type: ignore[arg-type]
    with torch.no_grad():
        classifier.head.weight.copy_(torch.eye(2))
        classifier.head.bias.zero_()
    wanted = torch.tensor([[0.75, 0.25], [1.0, 0.0]])
    loss, accuracy = classifier(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), wanted)
    first = 0.75 * math.log(1 + math.exp(-1)) + 0.25 * math.log(1 + math.e)
    assert float(loss.detach()) == pytest.approx((first + math.log(1 + math.exp(2))) / 2, rel=1e-6)
    assert float(accuracy) == 0.5
