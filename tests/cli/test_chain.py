"""The whole chain by its commands, each bare where it can be, on real scans: scikit-learn's handwritten digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.errors import MissingExtraError
from sp_edge.picture_files import pictures_in
from sp_edge.prompts.table import PromptTable

Call = Callable[..., tuple[int, str, str]]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BASE, NOVEL = DIGITS[:5], DIGITS[5:]
KNOWN = (*sorted(BASE), *sorted(NOVEL))
PER_CLASS = 24
RUN = Path("runs/1")


def write_digits(root: Path) -> None:
    """24 scans of each digit, 64 pixels wide, as train|test/<name>/<number>.png."""
    datasets = pytest.importorskip("sklearn.datasets")
    scans = datasets.load_digits()
    for label, name in enumerate(DIGITS):
        folder = root / ("train" if name in BASE else "test") / name
        folder.mkdir(parents=True)
        for number, scan in enumerate(scans.images[scans.target == label][:PER_CLASS]):
            picture = Image.fromarray((scan * (255 / 16)).astype(np.uint8))
            picture.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")


@pytest.fixture(scope="module")
def encoder() -> None:
    for package in ("torch", "sentence_transformers", "onnxscript", "cv2"):
        pytest.importorskip(package)
    from sp_edge.text import minilm

    try:
        minilm._find_weights()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("encoder")
def test_from_pictures_to_a_recognized_stream(  # noqa: PLR0915 - one chain, each link of which needs the last
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits")
    settings = ["model.backbone=visformer_mini", "model.layer=3-1", "precision=fp32"]
    settings += ["pretrain.steps=6", "pretrain.batch_size=16", "pretrain.lr=1e-3"]
    settings += ["tune.steps=4", "tune.n_query=3", "tune.lr=1e-4", "eval.episodes=20"]
    settings += ["expected.source=A paper", "expected.with_prompts=70.5"]
    options = [part for setting in settings for part in ("--set", setting)]

    code, out, err = call("train", "--data", "digits", "--imgsz", 64, *options)
    assert code == 0, err
    assert out.splitlines()[0] == f"run: {RUN}"
    assert "120 pictures of 5 base classes" in err
    assert "120 pictures of 5 novel classes, 5-way, 20 episodes" in out
    rows = [line.split("  ")[0] for line in out.splitlines()[-6:-2]]
    assert rows == ["with prompts", "without prompts", "difference", "A paper, with prompts"]
    assert "  70.5" in out
    assert "The release chose its best checkpoint on the test classes" in out
    assert json.loads((RUN / "evaluation.json").read_text("utf-8"))["rows"].keys() >= {"difference"}
    assert f"checkpoint: {RUN}/checkpoint.safetensors" in out
    assert json.loads((RUN / "settings.json").read_text("utf-8"))["settings"]["model"]["image_size"] == 64
    assert not list(RUN.glob("*.state.safetensors"))

    # The run's folder is taken.
    trained = (RUN / "checkpoint.safetensors").read_bytes()
    code, _, err = call("train", "--data", "digits", "--imgsz", 96, *options, "--out", RUN)
    assert code == 2
    assert "holds a run with other settings" in err
    code, _, err = call("train", "--data", "digits", "--imgsz", 64, *options, "--out", RUN)
    assert (code, f"{RUN} is complete already" in err) == (0, True)
    assert (RUN / "checkpoint.safetensors").read_bytes() == trained
    code, _, err = call("train", "--data", "digits", "--imgsz", 64, *options, "--out", "digits")
    assert code == 2
    assert "not a run and not empty" in err
    assert not (tmp_path / "digits" / "settings.json").exists()

    code, out, err = call("eval", "--episodes", 50, "--json", "eval.json")
    assert code == 0, err
    assert "120 pictures of 5 classes (test), 5-way" in out
    figures = json.loads(Path("eval.json").read_text("utf-8"))
    assert set(figures["rows"]) == {"with prompts", "without prompts", "difference"}
    for name, shots in figures["rows"].items():
        assert set(shots) == {"1-shot", "5-shot"}
        assert all(shots[s]["all"]["episodes"] == 50 for s in shots)
        assert name == "difference" or all(0.2 < shots[s]["all"]["mean"] <= 1 for s in shots)
    assert figures["protocol"]["classifier"] == "cosine"
    assert set(figures["seconds"]) == {"encoding", "episodes"}
    options = ["--episodes", 4, "--n-shot", 1, "--classifier", "lr", "--views", 2, "--strength", 0, "--json", "eval.json"]
    code, out, err = call("eval", *options)
    assert code == 0, err
    assert "5-way, 4 episodes, lr on 2 views" in out
    figures = json.loads(Path("eval.json").read_text("utf-8"))
    assert (figures["protocol"]["n_shot"], figures["strength"]) == ([1], 0)
    assert figures["rows"]["difference"]["1-shot"]["all"]["mean"] == 0

    code, out, err = call("prompts")
    assert code == 0, err
    assert [line.strip() for line in out.splitlines()[1:]] == list(KNOWN)
    code, out, err = call("prompts", "plus sign", "--out", "names.safetensors")
    assert code == 0, err
    assert PromptTable.load(Path("names.safetensors")).names == ("plus sign",)

    code, out, err = call("export", "--precision", "fp16", "--prompts", "names.safetensors")
    assert code == 0, err
    assert f"bundle: {RUN}/model.spedge" in out
    bundle = Bundle.load(RUN / "model.spedge")
    assert bundle.manifest.precision == "fp16"
    assert [stage["stage"] for stage in bundle.manifest.stages] == ["fp32", "fp16"]
    assert bundle.prompts.names == (*KNOWN, "plus sign")
    assert "pretrain" in bundle.manifest.training["record"]
    assert bundle.manifest.text_encoder is not None
    assert bundle.familiarity() is not None
    assert "text encoder minilm int8, 24" in err

    code, out, err = call("verify", "--json", "verify.json")
    assert code == 0, err
    checked = json.loads(Path("verify.json").read_text("utf-8"))
    assert checked["golden"].keys() == {"fp32", "fp16"}
    assert checked["text"] > 0.998

    soft = ["--force"]  # scans of 8x8 pixels that were enlarged are as good as blurred
    for name in NOVEL:
        code, out, err = call("enroll", "--name", name, *(f"digits/test/{name}/{i:02}.png" for i in range(5)), *soft)
        assert code == 0, err
    assert "classes.spbank with 5 classes" in out
    bank = Bank.load(RUN / "classes.spbank", bundle)
    assert (bank.names, len(bank.owners)) == (NOVEL, 25)

    others = [f"digits/test/{name}" for name in NOVEL]
    code, out, err = call("classify", "--json", "-", "--threshold", -1, *others)
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 5 * PER_CLASS
    hits = np.mean([line["name"] == Path(line["source"]).parent.name for line in lines])
    assert hits > 0.35, "even a network that has hardly learnt tells scans of digits apart better than by chance, 0.2"

    code, out, err = call("stream", "digits/test/seven", "seven.mp4", "--json", "seven.jsonl")
    assert code == 0, err
    assert f"{PER_CLASS} frames, 0 dropped" in err
    frames = [json.loads(line) for line in Path("seven.jsonl").read_text("utf-8").splitlines()]
    assert [frame["frame_id"] for frame in frames] == list(range(PER_CLASS))
    assert {frame["name"] for frame in frames} <= set(NOVEL)
    assert {frame["label"] for frame in frames} <= {*NOVEL, "unknown"}
    import cv2

    capture = cv2.VideoCapture("seven.mp4")
    shapes = []
    while (read := capture.read())[0]:
        shapes.append(read[1].shape)
    capture.release()
    assert shapes == [(64, 64, 3)] * PER_CLASS
    assert len(pictures_in(tmp_path / "digits" / "test" / "seven").files) == PER_CLASS

    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"digits", "runs", "eval.json", "names.safetensors", "verify.json", "seven.mp4", "seven.jsonl"}
    kept = {
        "settings.json",
        "evaluation.json",
        "pretrained.safetensors",
        "checkpoint.safetensors",
        "model.spedge",
        "classes.spbank",
        "events",
    }
    assert {path.name for path in RUN.iterdir() if not path.name.startswith(".")} == kept
