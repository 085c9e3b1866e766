from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.cli import cli
from sp_edge.cli.common import run

LOW = ["--set", "tune.n_way=2", "--set", "tune.n_query=2", "--set", "eval.n_way=2", "--set", "eval.n_query=2", "--set"]
LOW += ["eval.n_shot=1"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, place in enumerate(("train/fox", "train/owl", "val/elk", "val/koi", "test/bear", "test/yak")):
        (tmp_path / place).mkdir(parents=True)
        for name in range(3):
            pixels = np.random.default_rng([number, name]).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / place / f"{name}.png")
    return tmp_path


def test_a_sound_set_passes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["data", "check", "--data", str(root), "--json", str(root / "report.json"), *LOW]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "split  classes  pictures  fewest  most  broken  tiny",
        "-----  -------  --------  ------  ----  ------  ----",
        "train        2         6       3     3       0     0",
        "val          2         6       3     3       0     0",
        "test         2         6       3     3       0     0",
    ]
    assert json.loads((root / "report.json").read_text())["usable"] is True


def test_what_is_found_is_shown_and_ends_with_two(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in range(12):
        (root / "train" / "fox" / f"bad{name}.png").write_bytes(b"no picture")
    Image.open(root / "train" / "owl" / "0.png").save(root / "test" / "yak" / "twin.png")
    assert run(cli, ["data", "check", "--data", str(root), "--json", str(root / "report.json"), *LOW]) == 2
    out, err = capsys.readouterr()
    assert "cannot be read: 12\n" in out
    assert sum(line.startswith(f"  {root}/train/fox/bad") for line in out.splitlines()) == 10
    assert "\n  ...\n" in out
    assert f"in two splits: 1\n  {root}/test/yak/twin.png is {root}/train/owl/0.png" in out
    assert "12 that cannot, 0 shortages" in err
    assert len(json.loads((root / "report.json").read_text())["broken"]) == 12


def test_names_that_are_one_to_a_person_or_to_the_text_encoder(
    root: Path, capsys: pytest.CaptureFixture[str], minilm: object
) -> None:
    del minilm
    for before, after in (("val/koi", "val/OWL"), ("test/bear", "test/独轮车"), ("test/yak", "test/摩托车")):
        (root / before).rename(root / after)
    assert run(cli, ["data", "check", "--data", str(root), *LOW]) == 0
    out, err = capsys.readouterr()
    assert "spellings of one name: are they one class?: 1\n  'owl' (train) and 'OWL' (val)" in out
    assert "cannot read 2 of 6 names, which therefore tell nothing: 摩托车, 独轮车" in err
    assert "one and the same prompt, which only pictures tell apart: owl = OWL" in err
    assert (
        run(cli, ["data", "check", "--data", str(root), *LOW, "--set", "text.encoder=file", "--set", "text.path=no.npz"]) == 0
    )
    assert "the names were not encoded: cannot read no.npz" in capsys.readouterr().out


def test_the_protocol_is_the_settings(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["data", "check", "--data", str(root)]) == 2
    out, _ = capsys.readouterr()
    assert "train: 'fox' has 3 pictures, and an episode takes 16" in out
    assert "val: 'elk' has 3 pictures, and an episode takes 20" in out
    assert "test: 2 classes, and an episode takes 5" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "scenes"], "the scenes are drawn"),
        (["--data", "nowhere"], "no data set nowhere"),
        (["--data", "cub"], "data.root"),
        (["--data", "cub", "--root", "nowhere"], "140 of the 140 train classes of CUB"),
        ([], "--data"),
        (["--data", "cub", "--set", "data.rot=x"], "there is no setting data.rot"),
        (["--data", "cub", "--set", "data.source=fc100"], "--data and --set data.source say the same thing twice"),
    ],
)
def test_what_is_no_data_set_is_the_users(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["data", "check", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_benchmarks_are_listed(capsys: pytest.CaptureFixture[str], picture_cache: Path) -> None:
    assert run(cli, ["data", "list"]) == 0
    out = capsys.readouterr().out
    for line in ("mini-imagenet    64 / 16 / 20    a folder a class", "tiered-imagenet  351 / 97 / 160", "cub "):
        assert line in out
    assert f"kept in {picture_cache}" in out


def test_training_refuses_a_root_without_a_benchmark(
    capsys: pytest.CaptureFixture[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert run(cli, ["train", "--data", str(root), "--root", str(root), "--set", "precision=fp32"]) == 2  # as other tests train
    assert "is no benchmark" in capsys.readouterr().err
    assert not (root / "runs" / "1").exists()
    assert run(cli, ["train", "--root", "a", "--set", "data.root=b"]) == 2
    assert "--root and --set data.root say the same thing twice" in capsys.readouterr().err


def test_what_was_chosen_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "val").rename(root / "valid")
    (root / "train" / "fox" / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    assert run(cli, ["data", "check", "--data", str(root), "--json", str(root / "report.json"), *LOW]) == 0
    out = capsys.readouterr().out
    assert f"{root / 'valid'} is taken for val/" in out
    assert "left out 1 as video" in out
    assert json.loads((root / "report.json").read_text())["left_out"] == {str(root / "train" / "fox" / "clip.mov"): "video"}


def test_training_begins_only_if_the_novel_classes_can_be_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "test" / "yak" / "bad.png").write_bytes(b"no picture")
    given = ["--set", f"data.cache={root / 'cache'}", "--set", "precision=fp32"]  # as other tests train
    assert run(cli, ["train", "--data", str(root), "--out", str(root / "run"), *given]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert not (root / "run").exists(), "nothing was trained"
