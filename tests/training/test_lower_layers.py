from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sp_edge import arrays, runs
from sp_edge.errors import DataError, SettingsError
from sp_edge.model import PromptedNetwork, build_network
from sp_edge.model.network import PromptedVisformer
from sp_edge.settings.settings import AugmentSettings, Settings
from sp_edge.training import loop, run
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.lower_layers import Kept, drop_kept, keep, only_trained, upper_parameters
from sp_edge.training.run import train
from sp_edge.training.tune import EpisodeLoss, KeptEpisodeLoss

Quick = Callable[..., Settings]
CACHED = {"cached_views": 3, "validate_every": 0}


def network_of(**model: Any) -> PromptedNetwork:
    torch.manual_seed(0)
    usual = {"backbone": "visformer_mini", "image_size": 64, "layer": "3-1"}
    return build_network(Settings.from_mapping({"model": {**usual, **model}}).model, 8)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def cached(tmp_path: Path, images: np.ndarray) -> Callable[..., Kept]:
    def make(network: PromptedNetwork, views: int = 3, seed: int = 0) -> Kept:
        return keep(
            network, images, AugmentSettings(), views=views, seed=seed, folder=tmp_path, accelerator=Accelerator(cpu=True)
        )

    return make


def names(network: PromptedNetwork, parameters: list[torch.nn.Parameter]) -> set[str]:
    kept = {id(parameter) for parameter in parameters}
    return {name for name, parameter in network.named_parameters() if id(parameter) in kept}


@pytest.mark.parametrize(
    ("model", "below", "above"),
    [
        ({"layer": "3-1"}, {"stage1", "stage2", "stage3.0", "patch_embed3"}, {"stage3.1", "norm"}),
        ({"layer": "2-1"}, {"stage1", "stage2.0", "patch_embed2"}, {"stage2.1", "stage3.0", "patch_embed3", "norm"}),
        ({"backbone": "timm:resnet10t", "interaction": "spatial", "layer": "last"}, {"conv1", "layer4"}, set()),
    ],
    ids=["3-1", "2-1", "last"],
)
def test_what_follows_the_prompt_is_trained(model: dict[str, str], below: set[str], above: set[str]) -> None:
    network = network_of(**model)
    upper = names(network, upper_parameters(network))
    assert {name for name, _ in network.named_parameters() if name.startswith("prompt.")} <= upper
    backbone = {name.removeprefix("backbone.") for name in upper if name.startswith("backbone.")}
    assert all(any(name.startswith(part + ".") for name in backbone) for part in above)
    assert not [name for name in backbone if any(name.startswith(part + ".") for part in below)]


def test_a_network_in_which_nothing_follows_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing follows"):
        upper_parameters(network_of(backbone="timm:resnet10t", interaction="none", layer="last"))


def test_nothing_to_train_is_said_before_any_training(quick: Quick, tmp_path: Path) -> None:
    model = {"backbone": "timm:resnet10t", "interaction": "none", "layer": "last"}
    with pytest.raises(SettingsError, match="nothing follows"):
        train(quick(model=model, tune=CACHED), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_gradients_reach_the_others_again_afterwards() -> None:
    network = network_of()
    upper = upper_parameters(network)
    with only_trained(network, upper):
        assert {name for name, p in network.named_parameters() if p.requires_grad} == names(network, upper)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_each_picture_is_kept_as_it_is_and_in_views(cached: Callable[..., Kept], images: np.ndarray, tmp_path: Path) -> None:
    network = network_of().train()
    kept = cached(network)
    tokens = kept.tokens
    assert (network.training, kept.features, kept.views) == (True, None, 3)
    with torch.no_grad():
        expected = network.eval().begin(network.normalise(torch.from_numpy(images)))
    assert (tokens.dtype, tokens.shape) == (np.float16, (70, 3, *expected.shape[1:]))
    np.testing.assert_allclose(tokens[:, 0], expected, rtol=2e-3, atol=2e-3)
    first, second, third = (tokens[:, view].astype(np.float32) for view in range(3))
    assert min(np.abs(first - second).max(), np.abs(second - third).max()) > 0.1
    np.testing.assert_array_equal(cached(network).tokens, tokens)
    assert np.abs(cached(network, seed=1).tokens[:, 1].astype(np.float32) - second).max() > 0.1
    drop_kept(tmp_path)
    assert not list(tmp_path.iterdir())
    assert tokens[0, 0].any(), "who has mapped a file goes on seeing it"


def test_features_that_training_cannot_change_are_kept_too(cached: Callable[..., Kept], images: np.ndarray) -> None:
    network = network_of(backbone="timm:resnet10t", interaction="spatial", layer="last")
    kept = cached(network, views=2)
    assert kept.features is not None
    with torch.no_grad():
        expected = network.eval()(network.normalise(torch.from_numpy(images)))
    assert kept.features.shape == (70, 2, expected.shape[1])
    np.testing.assert_allclose(kept.features[:, 0], expected, rtol=5e-3, atol=5e-3)
    assert np.abs(kept.features[:, 1].astype(np.float32) - kept.features[:, 0]).max() > 0.01


def test_no_room_is_said_with_what_is_needed(
    cached: Callable[..., Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of()
    needed = cached(network).tokens.nbytes
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(DataError, match="cannot be kept") as raised:
        cached(network)
    assert raised.value.expected == f"room for {needed / 1e9:.2f} GB"
    assert raised.value.next_step == "train into another folder with --set tune.cached_views=2"
    (tmp_path / runs.PRETRAINED).touch()
    with pytest.raises(DataError) as raised:
        cached(network)
    assert f"--init {tmp_path / runs.PRETRAINED} --set" in raised.value.next_step
    (tmp_path / ".kept-tokens.npy.part").touch()
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert cached(network).tokens.nbytes == needed
    assert not (tmp_path / ".kept-tokens.npy.part").exists(), "what a killed process left is gone"


def test_a_disk_that_fills_meanwhile_leaves_nothing(
    cached: Callable[..., Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrays.os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        cached(network_of())
    assert not list(tmp_path.iterdir())


def test_what_half_precision_cannot_hold_is_refused(cached: Callable[..., Kept]) -> None:
    network = network_of()
    with torch.no_grad():
        network.backbone.pos_embed3.fill_(1e6)
    with pytest.raises(DataError, match="float16") as raised:
        cached(network)
    assert raised.value.next_step.endswith("--set tune.cached_views=0")


def test_an_episode_costs_the_same_loss_from_what_was_kept(images: np.ndarray) -> None:
    network = network_of().eval()
    given = torch.from_numpy(images[:12])
    options = {"n_query": 3, "temperature": 0.2}
    prompts, prompted = torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        tokens = network.begin(network.normalise(given))
        whole = EpisodeLoss(network, **options)(given, prompts, prompted)
        begun = KeptEpisodeLoss(network, finished=False, **options)(tokens[:3], tokens[3:], prompts, prompted)
        features = network.finish(tokens[3:])
        finished = KeptEpisodeLoss(network, finished=True, **options)(tokens[:3], features, prompts, prompted)
    assert whole == begun == finished


def test_the_layers_before_the_prompt_stay_and_see_each_view_once(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, forward, pretrain = PromptedVisformer.begin, KeptEpisodeLoss.forward, run.pretrain
    seen: list[int] = []

    def pretrained(*arguments: Any, **options: Any) -> Any:
        log = pretrain(*arguments, **options)
        seen.clear()
        return log

    def counted(self: PromptedVisformer, image: torch.Tensor) -> torch.Tensor:
        seen.append(len(image))
        return begin(self, image)

    def step(self: KeptEpisodeLoss, *arguments: torch.Tensor) -> Any:
        seen.append(0)
        return forward(self, *arguments)

    monkeypatch.setattr(run, "pretrain", pretrained)
    monkeypatch.setattr(PromptedVisformer, "begin", counted)
    monkeypatch.setattr(KeptEpisodeLoss, "forward", step)
    checkpoint = train(quick(tune={**CACHED, "choose_strength": False}), tmp_path / "run", device="cpu")
    assert sum(seen[: seen.index(0)]) == 24 * 3 + 1, "an empty picture finds what is trained"
    assert seen[seen.index(0) :] == [0] * 5
    network = checkpoint.network
    before = Checkpoint.load(tmp_path / "run" / runs.PRETRAINED).network.state_dict()
    upper = names(network, upper_parameters(network))
    for name, value in network.state_dict().items():
        same = torch.equal(value, before[name])
        if name in upper:
            assert not same, name
        elif not name.startswith(
            ("backbone.stage3.1", "backbone.stage3.2", "backbone.norm")
        ):  # whose BatchNorm's statistics move, too
            assert same, name
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "settings.json", "pretrained.safetensors", "checkpoint.safetensors", "events",
    }  # fmt: skip


def test_a_cached_run_that_was_cut_off_ends_with_the_same_bits(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(quick(tune=CACHED), tmp_path / "whole", device="cpu")
    forward, calls = KeptEpisodeLoss.forward, iter(range(1000))

    def cut(self: KeptEpisodeLoss, *arguments: torch.Tensor) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY_S", -1.0)
        patch.setattr(KeptEpisodeLoss, "forward", cut)
        with pytest.raises(KeyboardInterrupt):
            train(quick(tune=CACHED), tmp_path / "cut", device="cpu")
    again = train(quick(tune=CACHED), tmp_path / "cut", device="cpu")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    assert not list((tmp_path / "cut").glob("*.npy"))
