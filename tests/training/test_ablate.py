from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sp_edge import runs
from sp_edge.accuracy import Difference
from sp_edge.data.episodes import Features
from sp_edge.data.pictures import PictureSet
from sp_edge.errors import DataError, SettingsError
from sp_edge.model import build_network
from sp_edge.prompts.table import PromptTable, TextSpec
from sp_edge.settings.settings import Settings
from sp_edge.training import ablate as module
from sp_edge.training import evaluate as evaluate_module
from sp_edge.training.ablate import Row, ablate
from sp_edge.training.checkpoint import Checkpoint
from sp_edge.training.evaluate import WITH, WITHOUT
from sp_edge.training.variants import plan

SMALL = ["model.image_size=64", "eval.n_way=3", "eval.n_shot=[1, 2]", "eval.n_query=2", "eval.episodes=40", "eval.views=1"]
NAMES = tuple("abcd")


class Trainer:
    """Stands for `train`: writes a run's files and gives a network whose features say what was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Path | None]] = []
        self.stop_at: int | None = None

    def __call__(self, settings: Settings, folder: Path, *, init: Path | None, **given: Any) -> Checkpoint:
        described = {"settings": settings.to_json(), "init": None if init is None else str(init)}
        complete = (folder / runs.CHECKPOINT).exists()
        if (folder / runs.SETTINGS).exists():
            assert json.loads((folder / runs.SETTINGS).read_text()) == described
        if not complete:
            if len(self.calls) == self.stop_at:
                raise KeyboardInterrupt
            assert len(given["load"]("train")) == len(given["load"]("val")) == 32
            assert given["prompts"].names == NAMES
            self.calls.append((f"{folder.parent.name}/{folder.name}", init))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / runs.SETTINGS).write_text(json.dumps(described))
            (folder / runs.CHECKPOINT).touch()
            if init is None:
                (folder / runs.PRETRAINED).touch()
        network = build_network(settings.model, 4)
        return Checkpoint(network, settings, table(), "tuned", {})


def table() -> PromptTable:
    return PromptTable(TextSpec("test", "0", "{name}", 1.0, 4), NAMES, np.ones((4, 4), np.float32))


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """No pictures are drawn and no network runs: features are noise around a class's centre, less of it with prompts."""
    made = Trainer()
    labels = np.repeat(np.arange(4), 8)
    pictures = PictureSet(
        np.zeros((32, 64, 64, 3), np.uint8), labels, NAMES, {"clutter": np.arange(32), "clean": np.arange(32)}
    )
    rng = np.random.default_rng(0)
    plain, noise = (np.eye(8, dtype=np.float32)[labels] for _ in range(2))
    plain = plain + rng.normal(0, 0.8, (32, 8)).astype(np.float32)
    prompted = noise + rng.normal(0, 0.2, (32, 8)).astype(np.float32)
    loaded: list[str] = []

    def encode(network: Any, _images: Any, prompts: Any, *, strength: float | None = None, **_: Any) -> Features:
        features = Features(plain, plain if prompts is None else prompted)
        return features.mixed(network.strength if strength is None else strength)

    monkeypatch.setattr(module, "train", made)
    monkeypatch.setattr(module.sets, "load_split", lambda _settings, split, **_: loaded.append(split) or pictures)
    monkeypatch.setattr(module.sets, "class_names", lambda _: {"train": NAMES})
    monkeypatch.setattr(module, "prompt_table", lambda *_, **__: table())
    monkeypatch.setattr(evaluate_module, "encode", encode)
    made.loaded = loaded  # type: ignore[attr-defined]
    return made


def run(folder: Path, *vary: str, overrides: tuple[str, ...] = (), **options: Any) -> list[Row]:
    common = [*SMALL, *overrides]
    found = plan("scenes", common, vary)
    return ablate(found, Settings.load("scenes", common), folder, device="cpu", **options)


def test_one_backbone_is_pre_trained_for_all_that_share_it(trainer: Trainer, tmp_path: Path) -> None:
    run(tmp_path, "model.interaction=none,both", "model.layer=3-0,3-1", "pretrain.lr=1e-4")
    first = tmp_path / "seed-0" / "model.interaction=none" / runs.PRETRAINED
    assert trainer.calls == [
        ("seed-0/model.interaction=none", None),
        ("seed-0/recipe", first),  # interaction=both, and again layer=3-1
        ("seed-0/model.layer=3-0", first),
        ("seed-0/pretrain.lr=0.0001", None),
    ]
    assert sorted(trainer.loaded) == ["test", "train", "val"]  # type: ignore[attr-defined]


def test_all_can_start_from_one_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    run(tmp_path, "model.layer=3-0,3-1", "pretrain.lr=1e-4", init=Path("timm"))
    assert [init for _, init in trainer.calls] == [Path("timm")] * 3


def test_rows_are_paired_with_the_first(trainer: Trainer, tmp_path: Path) -> None:
    rows = run(tmp_path, "model.interaction=none,both", overrides=("tune.choose_strength=false",))
    none, both = rows
    assert set(none.runs[0].scores) == {WITHOUT}
    assert list(both.scores) == [(1, "clutter"), (1, "clean"), (2, "clutter"), (2, "clean")]
    setting = (1, "clean")
    assert both.ahead(none, setting) == Difference.between(
        both.runs[0].scores[WITH][setting], none.runs[0].scores[WITHOUT][setting]
    )
    assert both.ahead(none, setting).mean > 0.05
    np.testing.assert_array_equal(both.plain[setting], none.scores[setting])
    assert (none.runs[0].strength, both.runs[0].strength) == (0.0, 1.0)


def test_strength_and_classifier_take_no_training_of_their_own(trainer: Trainer, tmp_path: Path) -> None:
    rows = run(
        tmp_path, "model.prompt_strength=0,0.5,1", "eval.classifier=cosine,lr", overrides=("tune.choose_strength=false",)
    )
    assert [call[0] for call in trainer.calls] == ["seed-0/recipe"]
    zero, half, full, cosine, regression = (row.accuracy((1, "clutter")).mean for row in rows)
    assert zero < half < full == cosine
    assert regression != cosine
    assert [row.runs[0].strength for row in rows] == [0, 0.5, 1, 1, 1]


def test_a_cut_off_ablation_goes_on_in_any_order(trainer: Trainer, tmp_path: Path) -> None:
    trainer.stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "model.interaction=none,both", "model.layer=3-0")
    trainer.stop_at = None
    again = run(tmp_path, "model.layer=3-0", "model.interaction=both,none")
    first = tmp_path / "seed-0" / "model.interaction=none" / runs.PRETRAINED
    assert trainer.calls[2:] == [("seed-0/model.layer=3-0", first)]
    whole = run(tmp_path / "other", "model.layer=3-0", "model.interaction=both,none")
    for one, other in zip(again, whole, strict=True):
        assert list(one.scores) == list(other.scores)
        for setting in one.scores:
            np.testing.assert_array_equal(one.scores[setting], other.scores[setting])


def test_what_was_measured_is_kept_and_another_protocol_is_measured_anew(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path, "model.layer=3-0,3-1")
    measured: list[int] = []
    original = module.evaluate_checkpoint
    monkeypatch.setattr(module, "evaluate_checkpoint", lambda *a, **k: measured.append(a[2].episodes) or original(*a, **k))
    kept = run(tmp_path, "model.layer=3-0,3-1")
    assert measured == []
    assert [list(row.scores) for row in kept] == [list(row.scores) for row in rows]
    run(tmp_path, "model.layer=3-0,3-1", overrides=("eval.episodes=50",))
    assert measured == [50, 50]
    assert len(trainer.calls) == 2


def test_seeds_are_averaged_and_see_the_same_episodes(trainer: Trainer, tmp_path: Path) -> None:
    rows = run(tmp_path, "model.layer=3-0,3-1", seeds=3)
    assert [call[0] for call in trainer.calls] == [
        f"seed-{seed}/{name}" for seed in range(3) for name in ("model.layer=3-0", "recipe")
    ]
    row, setting = rows[0], (1, "clean")
    assert len(row.runs) == 3
    row.runs[1].own[setting][:] = row.runs[0].own[setting] / 2
    means = [r.own[setting].mean() for r in row.runs]
    assert row.accuracy(setting).mean == pytest.approx(np.mean(means))
    assert row.accuracy(setting).episodes == 40
    assert row.spread(setting) == pytest.approx(np.std(means, ddof=1))
    assert Row(row.variant, row.runs[:1]).spread(setting) == 0


def test_what_cannot_be_measured_is_refused_before_training(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few pictures"):
        run(tmp_path, "model.layer=3-0", overrides=("eval.n_query=15",))
    with pytest.raises(SettingsError, match="seeds"):
        run(tmp_path, "model.layer=3-0", seeds=0)
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="is no folder"):
        run(tmp_path / "file", "model.layer=3-0")
    assert not trainer.calls
