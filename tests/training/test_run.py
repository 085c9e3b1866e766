from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sp_edge import runs
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import CheckpointError, DataError, SettingsError
from sp_edge.model.normalization import Normalization
from sp_edge.settings.settings import Settings
from sp_edge.training import loop, start
from sp_edge.training import run as run_module
from sp_edge.training import tune as training_tune
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import WITH, WITHOUT, Evaluation
from sp_edge.training.pointwise import PointwiseConv2d
from sp_edge.training.pretrain import BaseClassifier
from sp_edge.training.run import train
from sp_edge.training.tune import EpisodeLoss

Quick = Callable[..., Settings]


class Stopped(BaseException):
    """Stands for whatever ends a process in the middle of a step."""


def go(settings: Settings, folder: Path, **options: Any) -> Checkpoint:
    return train(settings, folder, device="cpu", **options)


def weights(checkpoint: Checkpoint | Path) -> dict[str, bytes]:
    loaded = Checkpoint.load(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    return {name: value.numpy().tobytes() for name, value in loaded.network.state_dict().items()}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- a run ---


def test_a_run_leaves_its_settings_two_checkpoints_and_events(tiny_run: Path, tiny: Checkpoint) -> None:
    assert files(tiny_run) == {"settings.json", "pretrained.safetensors", "checkpoint.safetensors", "events"}
    described = json.loads((tiny_run / "settings.json").read_text())
    assert described == {"settings": tiny.settings.to_json(), "init": None}
    for stage in ("pretrain", "tune"):
        assert [path.stat().st_size > 0 for path in (tiny_run / "events" / stage).glob("events.out.tfevents.*")] == [True]
    assert (tiny.stage, Checkpoint.load(tiny_run / runs.PRETRAINED).stage) == ("tuned", "pretrained")
    assert {split: len(names) for split, names in tiny.classes.items()} == {"train": 456, "val": 48, "test": 96}
    assert set(tiny.prompts.names) == {name for names in tiny.classes.values() for name in names}
    assert tiny.prompts.text.encoder == "minilm"
    for stage in ("pretrain", "tune"):
        assert tiny.record[stage]["steps"] == 12
        assert np.isfinite(tiny.record[stage]["loss"])
    assert not tiny.network.training


def test_tuning_moves_the_backbone_a_little_and_the_prompt(tiny_run: Path, tiny: Checkpoint) -> None:
    before, after = Checkpoint.load(tiny_run / runs.PRETRAINED).network.state_dict(), tiny.network.state_dict()
    assert set(before) == set(after)
    trained = [name for name in after if not name.endswith("num_batches_tracked")]
    assert all(not torch.equal(before[name], after[name]) for name in trained)


def test_pre_training_leaves_the_prompt_alone(quick: Quick, whole: Path) -> None:
    settings = quick()
    torch.manual_seed(settings.seed)
    fresh = run_module.build_network(settings.model, 8).state_dict()
    after = Checkpoint.load(whole / runs.PRETRAINED).network.state_dict()
    for name, value in fresh.items():
        assert torch.equal(value, after[name]) == (name.startswith("prompt.")), name


def test_a_finished_run_is_not_done_again(
    quick: Quick, whole: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    before = (whole / runs.CHECKPOINT).read_bytes()
    monkeypatch.setattr(run_module, "make_accelerator", lambda *_: pytest.fail("trains again"))
    assert weights(go(quick(), whole)) == weights(whole / runs.CHECKPOINT)
    assert log.messages == [f"{whole} is complete already"]
    assert (whole / runs.CHECKPOINT).read_bytes() == before


def test_it_says_what_it_does_and_shows_no_bar_to_nobody(
    quick: Quick, tmp_path: Path, log: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    go(quick(), tmp_path / "run")
    assert "\r" not in capsys.readouterr().err
    assert log.messages == [
        "training on cpu in fp32",
        "24 pictures of 6 base classes",
        "too few validation pictures to choose the prompts' strength: it stays as set",
    ]


def test_another_seed_gives_another_network(quick: Quick, tmp_path: Path, whole: Path) -> None:
    go(quick(seed=1), tmp_path / "other")
    assert weights(tmp_path / "other" / runs.CHECKPOINT) != weights(whole / runs.CHECKPOINT)


def test_without_interaction_nothing_is_prompted(quick: Quick, tmp_path: Path) -> None:
    checkpoint = go(quick(model={"interaction": "none"}), tmp_path / "run")
    assert checkpoint.network.prompt is None
    assert not [name for name in checkpoint.network.state_dict() if name.startswith("prompt.")]
    assert weights(tmp_path / "run" / runs.CHECKPOINT) == weights(checkpoint)
    assert checkpoint.record["tune"]["steps"] == 5


@pytest.mark.parametrize(
    "model",
    [{"interaction": "spatial", "pooling": "head"}, {"interaction": "channel"}, {"layer": "3-0", "pooling": "patch"}],
    ids=str,
)
def test_every_form_of_the_prompt_can_be_trained(quick: Quick, tmp_path: Path, model: dict[str, str]) -> None:
    checkpoint = go(quick(model=model, pretrain={"steps": 1}, tune={"steps": 2}), tmp_path / "run")
    assert weights(tmp_path / "run" / runs.CHECKPOINT) == weights(checkpoint)


def test_a_batch_may_be_larger_than_the_data_set(quick: Quick, tmp_path: Path) -> None:
    go(quick(pretrain={"batch_size": 1000, "steps": 2}, tune={"steps": 1}), tmp_path / "run")
    assert (tmp_path / "run" / runs.CHECKPOINT).exists()


@pytest.mark.parametrize("stage", ["pretrain", "tune"])
def test_a_stage_sees_its_group_alone(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Scenes have groups; here all pictures of the set are found again in what each stage's augmentation is handed."""
    seen: dict[str, set[bytes]] = {"pretrain": set(), "tune": set()}
    for name, pictures in seen.items():

        def record(images: torch.Tensor, *_: object, pictures: set[bytes] = pictures) -> torch.Tensor:
            pictures.update(image.numpy().tobytes() for image in images)
            return images

        monkeypatch.setattr(f"sp_edge.training.{name}.augment", record)
    settings = quick(
        data={"source": "scenes", "per_class": 4},
        pretrain={"steps": 2, "batch_size": 64},
        tune={"steps": 2, "n_way": 8, "n_query": 3},
    ).to_json()
    settings[stage]["group"] = "clean"
    drawn = run_module.sets.scenes.draw_split("val", size=64, per_class=4)
    monkeypatch.setattr(run_module.sets, "load_split", lambda *_, **__: drawn)
    monkeypatch.setattr(run_module.sets, "class_names", lambda _: {"train": drawn.class_names})
    go(Settings.from_mapping(settings), tmp_path / "run")
    clean = {image.tobytes() for image in drawn.only("clean").images}
    other = "tune" if stage == "pretrain" else "pretrain"
    assert seen[stage]
    assert seen[stage] <= clean
    assert not seen[other] <= clean


@pytest.mark.parametrize(("policy", "tuned_with"), [("same", "randaugment"), ("none", "none"), ("standard", "standard")])
def test_tuning_may_augment_in_another_way(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, tuned_with: str
) -> None:
    seen: dict[str, set[str]] = {"pretrain": set(), "tune": set()}
    for name, policies in seen.items():

        def record(images: torch.Tensor, settings: Any, *_: object, policies: set[str] = policies) -> torch.Tensor:
            policies.add(settings.policy)
            return images

        monkeypatch.setattr(f"sp_edge.training.{name}.augment", record)
    settings = quick(augment={"policy": "randaugment"}, pretrain={"steps": 1}, tune={"steps": 1, "policy": policy})
    go(settings, tmp_path / "run")
    assert seen == {"pretrain": {"randaugment"}, "tune": {tuned_with}}


# --- cut off and started again ---


@pytest.mark.parametrize("saving", [True, False])
@pytest.mark.parametrize(("stage", "at"), [(BaseClassifier, 0), (BaseClassifier, 3), (EpisodeLoss, 0), (EpisodeLoss, 4)])
def test_a_run_that_was_cut_off_ends_with_the_same_bits(
    quick: Quick, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, stage: type[Any], at: int, saving: bool
) -> None:
    forward, calls = stage.forward, iter(range(1000))

    def cut(self: Any, *arguments: Any) -> Any:
        if next(calls) == at:
            raise Stopped
        return forward(self, *arguments)

    folder = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY_S", -1.0 if saving else 1e9)
        patch.setattr(stage, "forward", cut)
        with pytest.raises(Stopped):
            go(quick(), folder)
    assert runs.CHECKPOINT not in files(folder)
    assert (runs.PRETRAINED in files(folder)) == (stage is EpisodeLoss)
    finished = go(quick(), folder)
    assert weights(finished) == weights(whole / runs.CHECKPOINT)
    assert weights(folder / runs.PRETRAINED) == weights(whole / runs.PRETRAINED)
    assert files(folder) == files(whole)
    assert finished.record["pretrain"]["steps"] == 5, "what was noted before the interruption is kept"


@pytest.mark.parametrize("file", [runs.PRETRAINED, runs.CHECKPOINT])
def test_a_run_that_was_cut_off_beside_a_checkpoint_leaves_no_state_behind(
    quick: Quick, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    save = Checkpoint.save

    def cut(self: Checkpoint, path: Path) -> None:
        save(self, path)
        if path.name == file:
            raise Stopped

    folder = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", cut)
        with pytest.raises(Stopped):
            go(quick(), folder)
    assert weights(go(quick(), folder)) == weights(whole / runs.CHECKPOINT)
    assert files(folder) == files(whole)


KILLED = """
import os, pathlib, runpy, sys, time
import torch
torch.set_num_threads(1)
helpers = runpy.run_path(sys.argv[1])
from sp_edge.training import loop, run
run.prompt_table = helpers["fake_table"]
loop.SAVE_EVERY_S = -1.0
folder, stage, nth = pathlib.Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])
fsync, writes = os.fsync, 0
def hang_in_the_middle_of_a_write(file):
    global writes
    begun = [path for path in folder.glob(f".{stage}*") if path.stat().st_size]
    writes += bool(begun)
    if writes == nth:
        os.truncate(begun[0], begun[0].stat().st_size // 2)
        print("writing", flush=True)
        time.sleep(600)
    fsync(file)
os.fsync = hang_in_the_middle_of_a_write
run.train(helpers["quick_settings"](pathlib.Path(sys.argv[2])), folder, device="cpu")
"""


@pytest.mark.parametrize(("stage", "nth"), [("tune.state", 3), ("settings", 1)])
def test_a_process_killed_while_it_writes_loses_nothing_that_was_written(
    quick: Quick, pictures: Path, tmp_path: Path, whole: Path, stage: str, nth: int
) -> None:
    folder = tmp_path / "killed"
    helpers = Path(__file__).parent / "conftest.py"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, helpers, pictures, folder, stage, str(nth)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    hidden = [name for name in files(folder) if name.startswith(".")]
    assert len(hidden) == 1, "half a file was left"
    assert (runs.PRETRAINED in files(folder)) == (stage == "tune.state")
    started: list[int] = []
    step_seed = loop._step_seed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step_seed", lambda seed, step, _: started.append(step) or step_seed(seed, step))
        finished = go(quick(), folder)
    assert started == ([2, 3, 4] if stage == "tune.state" else [0, 1, 2, 3, 4] * 2)
    assert weights(finished) == weights(whole / runs.CHECKPOINT)
    assert files(folder) == files(whole), "what the killed process left is gone, too"


# --- validation ---

VALIDATED = {"tune": {"validate_every": 2, "n_query": 1}, "eval": {"n_way": 2, "n_query": 2, "n_shot": [1, 2]}}


def test_the_network_that_does_best_on_the_validation_classes_is_kept(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([0.1, 0.9, 0.3])
    seen: list[dict[str, bytes]] = []

    def measure(network: Any, pictures: Any, prompts: Any, protocol: Any, **_: object) -> Any:
        assert (protocol.n_way, protocol.n_query, protocol.n_shot) == (2, 2, (1, 2))
        assert set(pictures.class_names) == {"gnu", "hen"}
        seen.append({name: value.numpy().tobytes() for name, value in network.state_dict().items()})
        value = next(given)
        scores = {(1, "all"): np.array([value - 0.1, value]), (2, "all"): np.array([value, value + 0.1])}
        return Evaluation({WITHOUT: {(1, "all"): np.ones(2)}, WITH: scores}, protocol, 0, 1.0, 1.0, 8, {})

    monkeypatch.setattr(run_module, "evaluate", measure)
    checkpoint = go(quick(**VALIDATED), tmp_path / "run")
    assert weights(checkpoint) == seen[1] != seen[2]
    assert checkpoint.record["tune"]["best_step"] == 4
    assert checkpoint.record["tune"]["best"] == pytest.approx(0.9)


def test_a_validated_run_that_was_cut_off_ends_with_the_same_bits(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(quick(**VALIDATED), tmp_path / "whole")
    assert 0 < whole.record["tune"]["best"] <= 1
    forward, calls = EpisodeLoss.forward, iter(range(1000))

    def cut(self: Any, *arguments: Any) -> Any:
        if next(calls) == 3:
            raise Stopped
        return forward(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY_S", -1.0)
        patch.setattr(EpisodeLoss, "forward", cut)
        with pytest.raises(Stopped):
            go(quick(**VALIDATED), tmp_path / "cut")
    again = go(quick(**VALIDATED), tmp_path / "cut")
    assert weights(again) == weights(whole)
    assert again.record["tune"]["best"] == whole.record["tune"]["best"]


@pytest.mark.parametrize("protocol", [{"n_way": 3}, {"n_way": 2, "n_query": 4}])
def test_too_little_to_validate_on_is_said_before_any_training(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: dict[str, int]
) -> None:
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("trains"))
    with pytest.raises(DataError, match=r"too few|fewer"):
        go(quick(**{**VALIDATED, "eval": protocol}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_pictures_are_read_once_and_before_any_training(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, done = quick(**VALIDATED), []
    assert settings.tune.choose_strength
    stage = run_module.pretrain
    monkeypatch.setattr(run_module, "pretrain", lambda *a, **k: done.append("pretrain") or stage(*a, **k))

    def load(split: str) -> PictureSet:
        done.append(split)
        return run_module.sets.load_split(settings, split)

    go(settings, tmp_path / "run", load=load)
    assert done == ["train", "val", "pretrain"]


def test_validation_without_validation_classes_is_refused(
    quick: Quick, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("trains"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(pictures / "train")
    with pytest.raises(SettingsError, match="no validation classes") as raised:
        go(quick(**VALIDATED, data={"source": str(tmp_path / "data")}), tmp_path / "run")
    assert "tune.validate_every=0" in raised.value.expected


# --- rates ---


def test_each_part_of_the_network_is_tuned_at_its_own_rate(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def run_stage(_name: str, module: EpisodeLoss, groups: list[loop.ParameterGroup], *_: Any, **options: Any) -> Any:
        names = {id(value): name for name, value in module.network.named_parameters()}
        given.append(({group.lr: {names[id(value)] for value in group.parameters} for group in groups}, options["schedule"]))
        return loop.StageLog(1, 1.0, 0.5, 0.5)

    monkeypatch.setattr(training_tune, "run_stage", run_stage)
    tune = {"lr": 1.0, "prompt_lr": 2.0, "channel_lr": 3.0, "schedule": "constant", "warm_up": 0.5, "steps": 7}
    network = go(quick(tune=tune, pretrain={"steps": 1}), tmp_path / "run").network
    [(groups, schedule)] = given
    assert groups[1.0] == {name for name, _ in network.named_parameters() if name.startswith("backbone.")}
    assert groups[2.0] == {"prompt.spatial.weight", "prompt.channel.weight"}
    assert groups[3.0] == {f"prompt.channel_mlp.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    assert sum(map(len, groups.values())) == len(list(network.parameters()))
    assert schedule == loop.Schedule(7, "constant", 0.5)


# --- folders that are not ours ---


@pytest.mark.parametrize("change", [{"seed": 1}, {"tune": {"steps": 6}}, {"model": {"pooling": "head"}}], ids=str)
def test_a_folder_with_a_run_of_other_settings_is_refused(quick: Quick, whole: Path, change: dict[str, Any]) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    with pytest.raises(SettingsError, match="other settings") as raised:
        go(quick(**change), whole)
    assert "--resume" in raised.value.next_step
    assert " instead of " in raised.value.got
    assert {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_run_of_an_earlier_version_is_resumed_and_what_it_lacked_is_told_once(
    quick: Quick, whole: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    earlier = json.loads((whole / runs.SETTINGS).read_text())
    del earlier["settings"]["model"]["text_share"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / runs.SETTINGS).write_text(json.dumps(earlier))
    assert weights(go(quick(), tmp_path / "run")) == weights(whole / runs.CHECKPOINT)
    assert log.messages[1].endswith("settings that it did not have take their defaults: model.text_share = 0.5")
    assert (tmp_path / "run" / runs.SETTINGS).read_bytes() == (whole / runs.SETTINGS).read_bytes()


def test_a_run_from_another_start_is_refused(quick: Quick, whole: Path) -> None:
    with pytest.raises(SettingsError, match="other settings"):
        go(quick(), whole, init=whole / runs.PRETRAINED)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "checkpoint.safetensors", ".settingsXjson"])
def test_a_folder_of_something_else_is_refused(quick: Quick, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(SettingsError, match="not a run and not empty"):
        go(quick(), tmp_path / "mine")
    assert files(tmp_path / "mine") == {name}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_settings_that_cannot_be_read_are_refused(quick: Quick, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(SettingsError, match=r"settings\.json"):
        go(quick(), tmp_path)


# --- what goes wrong ---


@pytest.mark.parametrize("stage", ["pretrain", "tune"])
def test_divergence_is_said_clearly_and_leaves_no_checkpoint(quick: Quick, tmp_path: Path, stage: str) -> None:
    settings = quick(**{stage: {"lr": 1e9, "steps": 12}})
    for _ in range(2):  # the second time goes on from what the first has left
        with pytest.raises(SettingsError, match="diverged") as raised:
            go(settings, tmp_path / "run")
        assert raised.value.next_step == "lower the lr"
        kept = {"pretrain": set(), "tune": {runs.PRETRAINED}}[stage]
        assert {name for name in files(tmp_path / "run") if name.endswith(".safetensors") and "state" not in name} == kept


def test_weights_that_are_lost_in_the_last_step_are_found(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then no loss has seen them."""

    def spoil(network: Any, *_: object, **__: object) -> loop.StageLog:
        with torch.no_grad():
            network.backbone.pos_embed1[0, 0, 0, 0] = np.nan
        return loop.StageLog(1, 1.0, 0.5, 0.5)

    monkeypatch.setattr(run_module, "pretrain", spoil)
    with pytest.raises(SettingsError, match="diverged"):
        go(quick(), tmp_path / "run")
    assert files(tmp_path / "run") == {"settings.json"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tune": {"n_way": 7}}, "fewer classes than ways"),
        ({"tune": {"n_shot": 3, "n_query": 2}}, "too few pictures"),
        ({"tune": {"group": "clean"}}, "no such group"),
        ({"pretrain": {"group": "clean"}}, "no such group"),
    ],
    ids=str,
)
def test_what_the_data_cannot_give_is_said_before_any_training(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], what: str
) -> None:
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("trains"))
    with pytest.raises(DataError, match=what):
        go(quick(**change), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"model": {"layer": "3-3"}}, "layer does not exist"),
        ({"model": {"backbone": "resnet"}}, "unknown backbone"),
        ({"model": {"image_size": 65}}, "picture size"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_is_refused(quick: Quick, tmp_path: Path, change: dict[str, Any], what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        go(quick(**change), tmp_path / "run")


def test_a_data_set_that_is_not_there_is_refused(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        go(quick(data={"source": str(tmp_path / "nowhere")}), tmp_path / "run")


def test_a_damaged_state_is_named(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            go(quick(), folder)
    state = folder / "pretrain.state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"pretrain\.state\.safetensors"):
        go(quick(), folder)


# --- init ---


def test_a_run_can_start_from_anothers_backbone(
    quick: Quick, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("pre-trains"))
    first = whole / runs.PRETRAINED
    checkpoint = go(quick(), tmp_path / "run", init=first)
    assert weights(checkpoint) == weights(whole / runs.CHECKPOINT), "the same start, the same episodes"
    assert checkpoint.record["init"] == runs.PRETRAINED
    assert "pretrain" not in checkpoint.record
    assert files(tmp_path / "run") == {"settings.json", "checkpoint.safetensors", "events"}
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["init"] == str(first)


def test_the_start_is_the_others_weights(quick: Quick, tmp_path: Path, whole: Path) -> None:
    """At a rate of almost nothing, and of exactly nothing for the backbone, tuning leaves them as they were."""
    settings = quick(tune={"steps": 1, "lr": 0.0, "prompt_lr": 1e-30, "channel_lr": 0.0})
    checkpoint = go(settings, tmp_path / "run", init=whole / runs.CHECKPOINT)
    other = Checkpoint.load(whole / runs.CHECKPOINT).network.state_dict()
    for name, value in checkpoint.network.state_dict().items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("interaction", ["none", "spatial"])
def test_a_start_without_these_prompts_gives_the_backbone(quick: Quick, tmp_path: Path, whole: Path, interaction: str) -> None:
    model = {"interaction": interaction}
    go(quick(model=model, pretrain={"steps": 1}, tune={"steps": 1}), tmp_path / "first")
    settings = quick(tune={"steps": 1, "lr": 0.0, "prompt_lr": 1e-30, "channel_lr": 0.0})
    checkpoint = go(settings, tmp_path / "run", init=tmp_path / "first" / runs.CHECKPOINT)
    first = Checkpoint.load(tmp_path / "first" / runs.CHECKPOINT).network.state_dict()
    now = checkpoint.network.state_dict()
    assert checkpoint.network.prompt is not None
    assert all(
        torch.equal(now[name], value) for name, value in first.items() if "running" not in name and "tracked" not in name
    )
    assert set(now) == set(weights(whole / runs.CHECKPOINT))


@pytest.mark.parametrize(
    "model",
    [
        {"backbone": "timm:resnet10t", "interaction": "channel", "layer": "last"},
        {"backbone": "timm:vit_tiny_patch16_224", "interaction": "none"},
        {"layer": "2-1", "projector": "mlp", "drop_path": 0.1},
        {"backbone": "timm:resnet10t", "interaction": "spatial", "layer": "last", "text_prototype": True},
    ],
    ids=str,
)
def test_other_networks_train_too(quick: Quick, tmp_path: Path, model: dict[str, Any]) -> None:
    checkpoint = go(quick(model=model, pretrain={"steps": 1}, tune={"steps": 1}), tmp_path / "run")
    loaded = Checkpoint.load(tmp_path / "run" / runs.CHECKPOINT)
    assert weights(loaded) == weights(checkpoint)
    assert (loaded.network.prompt is None) == (model.get("interaction") == "none")


def test_a_run_can_start_from_timms_weights(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("pre-trains"))

    def load(backbone: Any, name: str) -> str:
        backbone.pos_embed3.data.fill_(0.25)
        return f"{name}.in1k"

    monkeypatch.setattr(start, "load_timm_weights", load)
    monkeypatch.setattr(start, "seen_classes", lambda source: f"{Path(source).name} was seen")
    settings = quick(tune={"steps": 1, "lr": 0.0})
    checkpoint = go(settings, tmp_path / "run", init=Path("timm"))
    assert (checkpoint.network.backbone.pos_embed3 == 0.25).all()
    assert checkpoint.record["init"] == "timm"
    assert "starting from timm's visformer_mini.in1k" in log.messages
    assert not any("normalization" in message for message in log.messages), "timm publishes none for this one"
    monkeypatch.setattr(start, "timm_normalization", lambda _name: Normalization((127.5,) * 3, (127.5,) * 3))
    go(settings, tmp_path / "other", init=Path("timm"))
    assert any("pictures of another normalization" in message for message in log.messages)
    assert f"{Path(settings.data.source).name} was seen" in log.messages


@pytest.mark.parametrize("change", [{"backbone": "visformer_tiny"}, {"image_size": 96}], ids=str)
def test_a_start_with_another_backbone_is_refused(quick: Quick, tmp_path: Path, whole: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="another backbone") as raised:
        go(quick(model=change), tmp_path / "run", init=whole / runs.CHECKPOINT)
    assert "backbone." in raised.value.got
    assert not (tmp_path / "run").exists(), "what cannot start leaves nothing behind"


@pytest.mark.parametrize("content", [None, b"", b"x" * 100])
def test_a_start_that_is_no_checkpoint_is_refused(quick: Quick, tmp_path: Path, content: bytes | None) -> None:
    first = tmp_path / "first.safetensors"
    if content is not None:
        first.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"first\.safetensors"):
        go(quick(), tmp_path / "run", init=first)


def test_bf16_gives_a_checkpoint_in_fp32(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    from accelerate.state import AcceleratorState

    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # one precision a process, but for this test
    checkpoint = go(quick(precision="bf16", pretrain={"steps": 2}, tune={"steps": 2}), tmp_path / "run")
    assert log.messages[0] == "training on cpu in bf16"
    assert {value.dtype for value in checkpoint.network.state_dict().values()} == {torch.float32, torch.int64}
    assert weights(tmp_path / "run" / runs.CHECKPOINT) == weights(checkpoint)


@pytest.mark.parametrize("stage", [BaseClassifier, EpisodeLoss])
def test_a_run_in_bf16_that_was_cut_off_ends_with_the_same_bits(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: type[Any]
) -> None:
    from accelerate.state import AcceleratorState

    monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # one precision a process, but for this test
    settings = quick(precision="bf16", pretrain={"steps": 3}, tune={"steps": 3})
    forward, calls = stage.forward, iter(range(1000))

    def cut(self: Any, *arguments: Any) -> Any:
        if next(calls) == 2:
            raise Stopped
        return forward(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY_S", -1.0)
        patch.setattr(stage, "forward", cut)
        with pytest.raises(Stopped):
            go(settings, tmp_path / "cut")
    whole = go(settings, tmp_path / "whole")
    assert any(type(layer) is PointwiseConv2d for layer in whole.network.modules())
    assert weights(go(settings, tmp_path / "cut")) == weights(whole)


# --- the text prototype ---

TEXT_PROTOTYPE = {"model": {"text_prototype": True}}


def test_a_text_prototype_has_no_part_in_anything_before_it_is_fitted(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that was taken over from another run."""
    measured: list[float] = []
    first = go(quick(**TEXT_PROTOTYPE), tmp_path / "first")
    assert first.network.text_prototype is not None
    assert first.network.text_prototype.weight.any()
    assert first.network.text_share == first.settings.model.text_share == 0.5, "there were too few pictures to choose it"
    assert set(first.record["text_prototype"]) == {"classes", "ridge", "explained", "factor"}

    def measure(network: Any, *_: object, **__: object) -> Any:
        measured.append(network.text_share)
        return Evaluation({WITHOUT: {(1, "all"): np.ones(2)}}, quick().eval, 0, 1.0, 1.0, 8, {})

    monkeypatch.setattr(run_module, "evaluate", measure)
    settings = quick(**VALIDATED, **TEXT_PROTOTYPE)
    settings = dataclasses.replace(settings, tune=dataclasses.replace(settings.tune, choose_strength=False))
    second = go(settings, tmp_path / "second", init=tmp_path / "first" / runs.CHECKPOINT)
    assert measured == [0.0] * 3
    assert second.network.text_share == 0.5
    assert weights(tmp_path / "second" / runs.CHECKPOINT) == weights(second)


@pytest.mark.parametrize(
    ("tables", "error"),
    [({**TEXT_PROTOTYPE, "tune": {"n_way": 2}}, "too few base classes"), ({"pretrain": {"group": "drawn"}}, "no such group")],
)
def test_what_a_later_stage_cannot_use_is_said_before_any_training(
    quick: Quick, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: dict[str, Any], error: str
) -> None:
    monkeypatch.setattr(BaseClassifier, "forward", lambda *_: pytest.fail("trains"))
    for split, names in {"train": ("ant", "bee"), "val": ("gnu", "hen")}.items():
        (tmp_path / "data" / split).mkdir(parents=True)
        for name in names:
            (tmp_path / "data" / split / name).symlink_to(pictures / split / name)
    with pytest.raises(DataError, match=error):
        go(quick(data={"source": str(tmp_path / "data")}, **tables), tmp_path / "run")
    assert not (tmp_path / "run").exists()
