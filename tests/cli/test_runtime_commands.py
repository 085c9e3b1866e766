from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toy
from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle
from sp_edge.prompts.familiarity import Familiarity
from sp_edge.prompts.table import PromptTable
from sp_edge_runtime.backends import fastest
from sp_edge_runtime.backends.trials import Trial

Call = Callable[..., tuple[int, str, str]]


BANK = Path("runs/2/classes.spbank")
BUNDLE = Path("runs/2/model.spedge")


# --- bare, in a folder with runs ---


def test_enroll(place: Path, call: Call, toy_pictures: Path) -> None:
    code, out, err = call("enroll", "--name", "red", toy_pictures / "0 red.png")
    assert (code, err) == (0, "")
    first, prompt_line, bundle_line, last, advice = out.splitlines()
    assert advice.startswith("advice: add a second picture of 'red'")
    assert prompt_line == "prompt: of the name, from the bundle"
    assert (first, last) == ("taught 'red' from 1 picture, 1 in all", f"bank: {BANK} with 1 class")
    assert re.fullmatch(rf"bundle: {BUNDLE}, (ONNX Runtime|OpenVINO) .* on CPU, fp32 \(auto: .*\)", bundle_line)
    again = ("enroll", "--name", "red", toy_pictures / "0 red.png", toy_pictures / "0 red.png")
    code, _, err = call(*again)
    assert code == 2
    assert "2 of 2 pictures would teach 'red' little or nothing" in err
    assert "copy of shot 0 of the class (" in err
    code, out, _ = call(*again, "--force", "--json", "report.json")
    assert code == 0
    assert json.loads((place / "report.json").read_text("utf-8"))["accuracy"] == 1
    assert out.splitlines()[0] == "taught 'red' from 2 pictures, 3 in all"
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    assert (bank.names, bank.shots("red"), bank.version) == (("red",), 3, 2)
    image = np.asarray(Image.open(toy_pictures / "0 red.png"))
    expected = toy.features(Bundle.load(BUNDLE).manifest.preprocess(image)[None], toy.prompts().vector("red")[None])
    np.testing.assert_allclose(bank.support, np.repeat(expected, 3, axis=0), atol=1e-5)
    kept = [p.name for p in (place / "runs" / "2").iterdir() if not p.name.startswith(".")]
    assert sorted(kept) == ["classes.spbank", "model.spedge"]


def test_explain_shows_what_auto_measured(place: Path, call: Call, toy_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.make_bundle(place / "eight.spedge", precisions=("fp32", "int8"), for_cpu=True)
    taught = ("enroll", "eight.spedge", "--name", "red", toy_pictures / "0 red.png")
    monkeypatch.setattr(
        fastest, "measured", lambda _, forms: [Trial(*form, 2.0 if "int8" in form else 4.0, 1.0) for form in forms]
    )
    code, out, err = call(*taught, "--explain")
    assert code == 0
    header, _, *rows = err.splitlines()
    assert header.split() == ["on", "this", "CPU", "ms", "a", "picture", "cosine", "result"]
    assert [row.split()[:4] for row in rows] == [
        ["ONNX", "Runtime", form, ms] for form, ms in (("fp32", "4.0"), ("int8", "2.0"))
    ]
    assert [row.endswith("taken") for row in rows] == [False, True]
    assert "on CPU, int8 (auto: " in out
    assert "fastest here: 2.0 ms a picture, ONNX Runtime fp32 4.0)" in out
    code, _, err = call(*taught, "--force")
    assert (code, err) == (0, ""), "only where it was asked for"
    code, _, err = call("classify", "eight.spedge", toy_pictures / "0 red.png", "--device", "cpu", "--explain")
    assert "--device cpu was chosen: nothing is compared" in err


def test_enroll_a_folder_under_any_spelling(place: Path, call: Call, toy_pictures: Path) -> None:
    assert place.is_dir()
    code, out, _ = call("enroll", "--name", " Zürcher_Kaffeetasse ", toy_pictures)
    assert code == 0
    assert "from 3 pictures" in out
    assert Bank.load(BANK, Bundle.load(BUNDLE)).names == ("Zürcher Kaffeetasse",)


def test_enroll_says_that_a_name_tells_little(place: Path, call: Call, toy_pictures: Path, tmp_path: Path) -> None:
    known = toy.prompts().select(("red", "green")) + 1000 * np.eye(1, toy.TEXT.dim, dtype=np.float32)
    bundle = toy.make_bundle(tmp_path / "strange.spedge", strength=0.8, familiarity=Familiarity.of(known))
    code, out, _ = call("enroll", bundle, "--name", "red", toy_pictures / "0 red.png", "--json", "red.json")
    assert code == 0
    assert 'The model does not know names like "red", so its pictures decide alone.' in out
    (told,) = json.loads(Path("red.json").read_text())["taught"]
    assert (told["name"], told["strength"]) == ("red", 0.8 * told["familiarity"])
    assert told["familiarity"] < 0.001
    assert "0.000" in call("bank", "list", bundle)[1]
    code, out, _ = call(
        "enroll", bundle, "--name", "blue", "--strength", 0.5, toy_pictures / "2 blue.png", "--json", "blue.json"
    )
    assert "does not know" not in out, "who sets a strength has thought of it"
    assert [c["strength"] for c in json.loads(Path("blue.json").read_text())["taught"]] == [0.5]
    assert "does not know" not in call("enroll", BUNDLE, "--name", "red", toy_pictures / "0 red.png")[1]


def test_enroll_with_another_strength(place: Path, call: Call, toy_pictures: Path) -> None:
    assert place.is_dir()
    assert call("enroll", "--name", "red", "--strength", 0, toy_pictures / "0 red.png")[0] == 0
    assert call("enroll", "--name", "blue", toy_pictures / "2 blue.png")[0] == 0
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    assert bank.strengths.tolist() == [0, 1]
    image = np.asarray(Image.open(toy_pictures / "0 red.png"))
    plain = toy.features(Bundle.load(BUNDLE).manifest.preprocess(image)[None])
    np.testing.assert_allclose(bank.prototypes[:1], plain / np.linalg.norm(plain), atol=1e-5)
    code, out, _ = call("bank", "list", "--json", "list.json")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["class", "shots", "threshold", "strength"]
    assert lines[2:4] == [["red", "1", "0.500", "0.000"], ["blue", "1", "0.500", "1.000"]]
    assert [c["strength"] for c in json.loads(Path("list.json").read_text("utf-8"))["classes"]] == [0, 1]
    assert call("enroll", "--name", "red", "--strength", 0.25, "--force", toy_pictures / "0 red.png")[0] == 0
    assert Bank.load(BANK, Bundle.load(BUNDLE)).strengths.tolist() == [0.25, 1]
    code, _, err = call("enroll", "--name", "red", "--strength", 1.5, toy_pictures / "0 red.png")
    assert code == 2
    assert "0<=x<=1" in err


def test_bank_list(taught: Path, call: Call) -> None:
    code, out, err = call("bank", "list", "--json", "list.json")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["class", "shots", "threshold", "strength"]
    assert [line.split() for line in out.splitlines()[2:5]] == [[name, "1", "0.500", "1.000"] for name in toy.COLOURS]
    assert out.splitlines()[5] == f"{BANK}: version 3, 3 classes, 3 shots"
    described = json.loads((taught / "list.json").read_text("utf-8"))
    assert described["classes"] == [
        {
            "name": name,
            "shots": 1,
            "threshold": 0.5,
            "threshold_set": False,
            "strength": 1.0,
            "descriptions": [],
            "by_name": False,
            "not": None,
        }
        for name in toy.COLOURS
    ]
    assert (described["version"], described["bank"]) == (3, str(BANK))


def test_bank_remove(taught: Path, call: Call, toy_pictures: Path) -> None:
    assert taught.is_dir()
    assert call("enroll", "--force", "--name", "red", toy_pictures / "0 red.png")[0] == 0
    assert call("bank", "remove", "--name", "red", "--shot", 1)[1] == "forgot 'red', shot 1\n"
    assert "red" in call("bank", "list")[1]
    assert call("bank", "remove", "--name", "red") == (0, "forgot 'red'\n", "")
    assert Bank.load(BANK, Bundle.load(BUNDLE)).names == ("green", "blue")
    code, _, err = call("bank", "remove", "--name", "red")
    assert code == 2
    assert "no class 'red'" in err
    assert "green, blue" in err
    code, _, err = call("bank", "remove", "--name", "green", "--shot", 1)
    assert code == 2
    assert "no such shot" in err


def test_classify(taught: Path, call: Call, toy_pictures: Path) -> None:
    code, out, err = call("classify", toy_pictures, taught / "runs" / "2" / "model.spedge" / "golden" / "red.png")
    assert code == 0
    chosen, through = err.splitlines()
    assert chosen.endswith("red.png: 4 pictures; passed over 1 other file")
    assert re.match(rf"{BUNDLE} through (ONNX Runtime|OpenVINO) ", through)
    lines = out.splitlines()
    assert lines[0].split() == ["picture", "label", "cosine", "best"]
    labels = [line.partition(".png ")[2].split()[0] for line in lines[2:]]
    assert labels == [*toy.COLOURS, "red"]


def test_classify_as_json_lines(taught: Path, call: Call, toy_pictures: Path) -> None:
    assert taught.is_dir()
    code, out, _ = call("classify", "--json", "-", "--topk", 2, toy_pictures)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["name"] for line in lines] == list(toy.COLOURS)
    assert [line["source"] for line in lines] == [str(toy_pictures / f"{i} {n}.png") for i, n in enumerate(toy.COLOURS)]
    assert all(len(line["topk"]) == 2 and not line["unknown"] and line["bank_version"] == 3 for line in lines)
    assert [line["frame_id"] for line in lines] == [0, 1, 2]
    assert call("stream", toy_pictures, "--json", "frames.jsonl")[0] == 0
    assert lines[0].keys() == json.loads(Path("frames.jsonl").read_text("utf-8").splitlines()[0]).keys()
    code, out, _ = call("classify", "--json", "-", "--threshold", 1, toy_pictures)
    lines = [json.loads(line) for line in out.splitlines()]
    assert {(line["label"], line["unknown"], line["class"]) for line in lines} == {("unknown", True, None)}
    assert [line["name"] for line in lines] == list(toy.COLOURS), "the best class, also where it is not believed"


def test_stream(taught: Path, call: Call, toy_pictures: Path) -> None:
    code, out, err = call("stream", toy_pictures, "--json", "frames.jsonl")
    assert code == 0
    assert [line.split(" (")[0] for line in out.splitlines()] == [f"frame {i}: {n}" for i, n in enumerate(toy.COLOURS)]
    assert "3 frames, 0 dropped" in err
    assert "ONNX Runtime" in err
    lines = [json.loads(line) for line in (taught / "frames.jsonl").read_text("utf-8").splitlines()]
    assert [(line["frame_id"], line["name"]) for line in lines] == list(enumerate(toy.COLOURS))
    assert all(line.keys() >= {"confidence", "margin", "frame_timestamp", "frame_age_ms", "speed"} for line in lines)


def test_stream_to_a_video(taught: Path, call: Call, toy_video: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    code, out, _ = call("stream", toy_video, "out.mp4", "--headless")
    assert (code, out) == (0, "")
    capture = cv2.VideoCapture(str(taught / "out.mp4"))
    frames = 0
    while capture.grab():
        frames += 1
    capture.release()
    assert frames == 9
    code, _, err = call("stream", toy_video, "--vid-stride", 2, "--max-frames", 3, "--headless")
    assert code == 0
    assert "3 frames" in err


def test_stream_smoothed(taught: Path, call: Call, toy_video: Path, toy_pictures: Path) -> None:
    """Each colour is there for 0.3 s: in half a second the blue does not come up to 0.6 any more."""
    code, out, _ = call("stream", toy_video, "--smoothing", "0.5", "--json", "frames.jsonl")
    assert code == 0
    lines = [json.loads(line) for line in (taught / "frames.jsonl").read_text("utf-8").splitlines()]
    assert [line["name"] for line in lines if "event" not in line] == [name for name in toy.COLOURS for _ in range(3)]
    events = [(line["event"], line["name"], line["cause"]) for line in lines if "event" in line]
    assert events == [("appeared", "red", "frames"), ("left", "red", "frames")]
    assert [line.split(" (")[0] for line in out.splitlines()] == ["frame 0: red", "frame 7: unknown"], (
        "exp(-0.5 / 0.5) is the first score under 0.4"
    )
    code, out, _ = call("stream", toy_video, "--smoothing", "0")
    assert [line.split(" (")[0] for line in out.splitlines()] == [f"frame {3 * i}: {n}" for i, n in enumerate(toy.COLOURS)]
    code, _, err = call("stream", toy_pictures, "--smoothing", "0.5")
    assert code == 2
    assert "--smoothing does nothing with pictures" in err
    code, out, _ = call("stream", toy_video, "--smoothing", "0", "--stable", 3)
    rows = [("unknown", 0), *((name, 3 * i + 2) for i, name in enumerate(toy.COLOURS))]
    assert [line.split(" (")[0] for line in out.splitlines()] == [f"frame {frame}: {name}" for name, frame in rows]
    code, _, err = call("stream", toy_video, "--stable", 0)
    assert code == 2
    assert "stable is out of range" in err


# --- with every path given ---


def test_explicit_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, toy_bundle: Path, toy_pictures: Path
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    bank = tmp_path / "elsewhere" / "mine.spbank"
    for number, name in enumerate(toy.COLOURS):
        picture = toy_pictures / f"{number} {name}.png"
        assert call("enroll", toy_bundle, picture, "--name", name, "--bank", bank, "--device", "cpu")[0] == 0
    assert f"{bank}: version 3" in call("bank", "list", toy_bundle, "--bank", bank)[1]
    code, out, _ = call(
        "classify", toy_bundle, toy_pictures / "1 green.png", "--bank", bank, "--precision", "fp32", "--json", "-"
    )
    assert (code, json.loads(out)["name"]) == (0, "green")
    code, out, _ = call("stream", toy_bundle, toy_pictures / "2 blue.png", "--bank", bank, "--device", "cpu")
    assert (code, out.split()[2]) == (0, "blue")
    assert call("bank", "remove", toy_bundle, "--name", "red", "--bank", bank)[0] == 0
    assert not list((tmp_path / "empty").iterdir())
    assert not (toy_bundle.parent / "classes.spbank").exists()


def test_enroll_with_further_prompts(place: Path, call: Call, toy_pictures: Path) -> None:
    vector = np.full((1, toy.TEXT.dim), 9 / 8**0.5, np.float32)
    PromptTable(toy.TEXT, ("my mug",), vector, {"my mug": ("blue, with a chip",)}).save(place / "names.safetensors")
    code, _, err = call("enroll", "--name", "my mug", toy_pictures)
    assert code == 2
    assert "sp-edge prompts 'my mug' --out names.safetensors, then add --prompts names.safetensors" in err
    assert call("enroll", "--name", "my mug", "--prompts", "names.safetensors", toy_pictures)[0] == 0
    np.testing.assert_array_equal(Bank.load(BANK, Bundle.load(BUNDLE)).prompts, vector)
    # The bank knows the prompt now, and what it was made of.
    assert call("enroll", "--force", "--name", "my mug", toy_pictures)[0] == 0
    assert Bank.load(BANK, Bundle.load(BUNDLE)).descriptions == {"my mug": ("blue, with a chip",)}


# --- a bundle with its text encoder ---


def test_any_class_can_be_named(naming_bundle: Path, tmp_path: Path, call: Call, toy_pictures: Path) -> None:
    bank = tmp_path / "b.spbank"
    red, green, blue = (("enroll", naming_bundle, file, "--bank", bank) for file in sorted(toy_pictures.glob("[012] *.png")))
    code, out, err = call(*red, "--name", "unicycle")
    assert (code, err) == (0, "")
    assert "prompt: of the name, encoded here" in out.splitlines()
    code, out, _ = call(*green, "--name", "bike", "--description", "has two wheels", "--description", "and a saddle")
    assert code == 0
    assert "prompt: of the description" in out.splitlines()
    assert "prompt: the class's own" in call(*green, "--name", "bike", "--force")[1]
    code, out, _ = call(*blue, "--name", "green", "--description", "a colour")
    assert "prompt: of the description, in place of the bundle's own" in out.splitlines()
    code, out, _ = call("bank", "list", naming_bundle, "--bank", bank, "--json", tmp_path / "list.json")
    rows = out.splitlines()
    assert (code, rows[0].split()) == (0, ["class", "shots", "threshold", "strength", "description"])
    assert [row.partition("1.000")[2].strip() for row in rows[2:5]] == ["", "has two wheels | and a saddle", "a colour"]
    listed = json.loads((tmp_path / "list.json").read_text("utf-8"))["classes"]
    assert [c["descriptions"] for c in listed] == [[], ["has two wheels", "and a saddle"], ["a colour"]]
    prompts = Bank.load(bank, Bundle.load(naming_bundle)).prompts
    expected = [toy.prompt("A photo of unicycle"), toy.prompt("has two wheels", "and a saddle"), toy.prompt("a colour")]
    np.testing.assert_allclose(prompts, np.stack(expected), atol=1e-5)


def test_a_description_and_a_table_are_too_much(naming_bundle: Path, tmp_path: Path, call: Call, toy_pictures: Path) -> None:
    toy.prompts().save(tmp_path / "names.safetensors")
    options = ("--name", "red", "--description", "a colour", "--prompts", tmp_path / "names.safetensors")
    code, _, err = call("enroll", naming_bundle, toy_pictures, *options, "--bank", tmp_path / "b.spbank")
    assert code == 2
    assert "both say what the prompt is" in err


def test_verify_checks_the_golden_names(naming_bundle: Path, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("verify", naming_bundle, "--json", tmp_path / "v.json")
    assert code == 0
    assert "text encoder toy fp32: golden names agree, cosine 1.000000 or better" in out.splitlines()
    assert json.loads((tmp_path / "v.json").read_text("utf-8"))["text"] == pytest.approx(1, abs=1e-5)


WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "transformers", "open_clip", "sentence_transformers", "onnx"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
from sp_edge.cli import main
main()
"""


def test_a_device_without_torch_names_teaches_and_recognizes(naming_bundle: Path, tmp_path: Path, toy_pictures: Path) -> None:
    def sp_edge(*arguments: object) -> str:
        command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    bank, table = tmp_path / "b.spbank", tmp_path / "names.safetensors"
    red, green = toy_pictures / "0 red.png", toy_pictures / "1 green.png"
    assert "encoded here" in sp_edge("enroll", naming_bundle, red, "--name", "fire engine", "--bank", bank)
    sp_edge("enroll", naming_bundle, green, "--name", "lawn", "--description", "grass that is mown", "--bank", bank)
    assert json.loads(sp_edge("classify", naming_bundle, red, "--bank", bank, "--json", "-"))["name"] == "fire engine"
    assert json.loads(sp_edge("classify", naming_bundle, green, "--bank", bank, "--json", "-"))["name"] == "lawn"
    assert "2 names" in sp_edge("prompts", "unicycle", "red", "--like", naming_bundle, "--out", table)
    made = PromptTable.load(table)
    np.testing.assert_allclose(made.vector("unicycle"), toy.prompt("A photo of unicycle"), atol=1e-5)
    np.testing.assert_array_equal(made.vector("red"), toy.prompts().vector("red"))
    sp_edge("prompts", "red", "--like", naming_bundle, "--out", table, "--description", "a colour", "--description", "warm")
    np.testing.assert_allclose(PromptTable.load(table).vector("red"), toy.prompt("a colour", "warm"), atol=1e-5)


def test_a_class_by_its_name_alone(place: Path, call: Call, toy_pictures: Path) -> None:
    toy.make_bundle(place / "names.spedge", text_prototype=toy.looks_of_names())
    code, out, err = call("enroll", "names.spedge", "--name", "red", "--json", "red.json")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "taught 'red' by its name alone: its first pictures take the name's place"
    assert "advice: add a picture of 'red'" in out
    (told,) = json.loads(Path("red.json").read_text())["taught"]
    assert (told["name"], told["by_name"]) == ("red", True)
    assert "red    its name" in call("bank", "list", "names.spedge")[1]
    assert "1 class, 0 shots" in call("bank", "list", "names.spedge")[1]
    picture = toy_pictures / "0 red.png"
    assert "red" in call("classify", "names.spedge", picture)[1].splitlines()[2].split()
    code, out, _ = call("enroll", "names.spedge", "--name", "red", picture)
    assert out.splitlines()[0] == "taught 'red' from 1 picture, 1 in all"
    assert call("enroll", "names.spedge", "--name", "red")[0] == 2
    assert "--force does nothing with a name alone" in call("enroll", "names.spedge", "--name", "blue", "--force")[2]
    assert "'red' changed: 1 shot added" in call("bank", "undo", "names.spedge")[1]
    assert "taken back: 'red' added: by its name alone" in call("bank", "undo", "names.spedge")[1]


def test_names_that_the_text_encoder_cannot_read(place: Path, call: Call, toy_pictures: Path) -> None:
    toy.make_bundle(place / "n.spedge", text_encoder=True, text_prototype=toy.looks_of_names())
    code, out, _ = call("enroll", "n.spedge", toy_pictures / "0 red.png", "--name", "独轮车", "--json", "told.json")
    assert code == 0
    assert 'The text encoder cannot read "独轮车", so its pictures decide alone.' in out
    assert json.loads(Path("told.json").read_text("utf-8"))["taught"][0]["unread"] == ["独", "轮", "车"]
    strong = call("enroll", "n.spedge", toy_pictures / "1 green.png", "--name", "摩托车", "--strength", "1")[1]
    assert 'cannot read "摩托车", so its name tells nothing, whatever its strength.' in strong
    part = call("enroll", "n.spedge", toy_pictures / "2 blue.png", "--name", "bike 🚲")[1]
    assert 'reads only a part of "bike 🚲". It does not know: 🚲' in part
    code, _, err = call("enroll", "n.spedge", "--name", "自行车")
    assert code == 2
    assert "the text encoder cannot read '自行车'" in err
    assert "--description SENTENCE" in err


def test_a_class_that_the_bank_has_keeps_its_spelling(taught: Path, call: Call, toy_pictures: Path) -> None:
    picture = toy_pictures / "0 red.png"
    code, out, _ = call("enroll", picture, "--name", "RED", "--force", "--json", "told.json")
    assert code == 0
    assert out.splitlines()[:2] == ["'RED' counts as the bank's class 'red'", "taught 'red' from 1 picture, 2 in all"]
    assert json.loads(Path("told.json").read_text())["taught"][0]["name"] == "red"
    assert call("enroll", "--not", "Red", toy_pictures / "1 green.png")[0] == 0
    assert call("bank", "remove", "--not", "rED")[0] == 0
    assert call("bank", "set", "--name", "Red", "--strength", "0.5")[0] == 0
    assert call("bank", "remove", "--name", "Red")[0] == 0
    assert Bank.load(BANK, Bundle.load(BUNDLE)).names == ("green", "blue")


def test_a_name_alone_that_the_model_cannot_read(place: Path, call: Call) -> None:
    known = toy.prompts().select(("red", "green")) + 1000 * np.eye(1, toy.TEXT.dim, dtype=np.float32)
    looks = toy.looks_of_names()
    toy.make_bundle(place / "a.spedge", familiarity=Familiarity.of(known), text_prototype=looks)
    code, out, _ = call("enroll", "a.spedge", "--name", "red")
    assert code == 0
    assert 'The model does not know names like "red", so that it will hardly recognize this one: add a picture.' in out


def test_what_is_not_of_a_class(taught: Path, call: Call, toy_pictures: Path) -> None:
    orange = np.clip(toy.picture("red", seed=8) + np.array([0, 70, 0]), 0, 255).astype(np.uint8)
    Image.fromarray(orange).save(taught / "orange.png")
    code, out, err = call("enroll", "--not", "red", "orange.png", "--force", "--json", "report.json")
    assert (code, err) == (0, "")
    first, *_ = out.splitlines()
    assert first == "taught what is not 'red' from 1 picture, 1 in all: what is most like it is unknown"
    assert json.loads(Path("report.json").read_text())["taught"] == []
    assert f"bank: {BANK} with 3 classes" in out
    listed = call("bank", "list")[1]
    assert "not 'red'" in listed
    assert "3 classes, 4 shots" in listed
    assert "unknown" in call("classify", "orange.png")[1]
    assert "the class may be called unknown, as what is not 'red'" in call("bank", "check")[1]
    code, _, err = call("enroll", "--not", "red", "orange.png")
    assert (code, "copy of shot 0 of the class" in err) == (2, True)
    for arguments, words in (
        (["--not", "mug", "orange.png", "--force"], "'mug' was not taught"),
        (["--not", "red"], "no pictures were named"),
        (["--not", "red", "--name", "red", "orange.png"], "or several do"),
        ([], "nothing says what"),
        (["--not", "red", "--strength", "0.5", "orange.png"], "--strength does nothing with --not"),
    ):
        code, out, err = call("enroll", *arguments)
        assert (code, out, words in err) == (2, "", True), err
    assert call("bank", "remove", "--not", "red", "--shot", 0)[1] == "forgot not 'red', shot 0\n"
    assert "no class 'not 'red''" in call("bank", "remove", "--not", "red")[2]
    assert call("bank", "undo")[0] == 0
    for options in ([], ["--name", "red", "--not", "red"]):
        assert "which class is to be forgotten" in call("bank", "remove", *options)[2]
    assert call("bank", "remove", "--name", "red")[0] == 0
    assert "not 'red'" not in call("bank", "list")[1]


def test_what_a_name_did_is_told_and_shown(place: Path, call: Call, toy_pictures: Path) -> None:
    toy.make_bundle(place / "scores.spedge", scored=True)
    red, blue = toy_pictures / "0 red.png", toy_pictures / "2 blue.png"
    code, out, err = call("enroll", "scores.spedge", "--name", "red", red, blue, "--json", "red.json")
    assert (code, err) == (0, "")
    assert f'Nothing in {blue} looks like a "red".' in out.splitlines()
    assert f"Nothing in {red}" not in out
    (told,) = json.loads(Path("red.json").read_text())["taught"]
    assert told["evidence"][0] > 1 > told["evidence"][1]
    assert "names: " in out
    assert "Nothing in" not in call("enroll", "scores.spedge", "--name", "green", blue, "--strength", 0)[1], "it does not count"
    assert call("bank", "export", "scores.spedge", "out")[0] == 0
    assert "<figure>" in (place / "out" / "index.html").read_text()
    assert (place / "out" / "0000 red" / "1 name.jpg").is_file()
    assert "names: " in call("bank", "check", "scores.spedge")[1]


# --- bad input ---


def test_an_unknown_class_lists_near_names(place: Path, call: Call, toy_pictures: Path) -> None:
    code, _, err = call("enroll", "--name", "brigt day", toy_pictures / "0 red.png")
    assert code == 2
    assert "has no class 'brigt day'" in err
    assert "bright day" in err.splitlines()[1]
    assert "next: sp-edge prompts 'brigt day' --out" in err
    assert not (place / BANK).exists()


@pytest.mark.parametrize("command", ["enroll", "classify"])
def test_no_pictures(taught: Path, call: Call, command: str) -> None:
    (taught / "nothing").mkdir()
    before = BANK.read_bytes()
    name = ["--name", "red"] if command == "enroll" else []
    for places, words in (
        ([], "by its name alone" if command == "enroll" else "no pictures were named"),
        (["nothing"], "no pictures"),
        (["absent.png"], "nothing at absent.png"),
    ):
        code, out, err = call(command, *name, *places)
        assert (code, out) == (2, ""), places
        assert words in err
    assert BANK.read_bytes() == before


@pytest.mark.parametrize("arguments", [["enroll", "--name", "red"], ["classify"], ["classify", "--json", "-"], ["stream"]])
def test_a_truncated_picture_is_named(taught: Path, call: Call, toy_pictures: Path, arguments: list[str]) -> None:
    content = (toy_pictures / "0 red.png").read_bytes()
    (taught / "cut.png").write_bytes(content[: len(content) // 2])
    before = BANK.read_bytes()
    code, _, err = call(*arguments, "cut.png")
    assert code == 2
    assert "cannot read cut.png" in err
    assert BANK.read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["absent.mp4"], ["a", "b.mp4", "c"], ["ftp://camera/1"], [""]])
def test_stream_without_a_usable_source(taught: Path, call: Call, arguments: list[str]) -> None:
    code, _, err = call("stream", *arguments, "--json", "frames.jsonl")
    assert code == 2
    assert "expected:" in err
    assert not (taught / "frames.jsonl").exists()


def test_stream_to_something_that_is_no_video(taught: Path, call: Call, toy_pictures: Path) -> None:
    code, _, err = call("stream", toy_pictures, "out.avi")
    assert code == 2
    assert ".mp4 or .webm" in err
    assert not (taught / "out.avi").exists()


def test_a_bundle_with_a_changed_byte(taught: Path, call: Call, toy_pictures: Path) -> None:
    file = taught / BUNDLE / "support.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for arguments in (
        ["enroll", "--name", "red", toy_pictures],
        ["classify", toy_pictures],
        ["stream", toy_pictures],
        ["bank", "list"],
        ["bank", "remove", "--name", "red"],
        ["verify"],
    ):
        code, out, err = call(*arguments)
        assert (code, out) == (2, ""), arguments
        assert "a file of the bundle has changed: support.onnx" in err
        assert "next: copy or export the bundle again" in err


def test_a_bank_of_another_bundle(taught: Path, call: Call, toy_pictures: Path) -> None:
    other = taught / "other.spedge"
    toy.make_bundle(other, strength=0.5)
    before = BANK.read_bytes()
    for arguments in (
        ["enroll", other, "--name", "red", toy_pictures],
        ["classify", other, toy_pictures],
        ["stream", other, toy_pictures],
        ["bank", "list", other],
        ["bank", "remove", other, "--name", "red"],
    ):
        code, out, err = call(*arguments, "--bank", BANK)
        assert (code, out) == (2, ""), arguments
        assert "was made with another bundle" in err
        assert f"next: sp-edge bank renew {other} --bank " in err
    assert BANK.read_bytes() == before


def test_without_a_bank(place: Path, call: Call, toy_pictures: Path) -> None:
    for arguments in (["classify", toy_pictures], ["bank", "list"], ["stream", toy_pictures, "--json", "frames.jsonl"]):
        code, _, err = call(*arguments)
        assert code == 2
        assert f"no bank at {BANK}" in err
        assert "sp-edge enroll --name NAME PICTURES" in err
    assert call("bank", "list")[0] == 2
    assert call("bank", "remove", "--name", "red")[0] == 2
    assert "no bank at typo.spbank" in call("stream", toy_pictures, "--bank", "typo.spbank")[2]
    assert not (place / BANK).exists()
    assert not (place / "frames.jsonl").exists()


def test_a_bank_that_is_none(taught: Path, call: Call, toy_pictures: Path) -> None:
    BANK.write_bytes(b"not a bank")
    for arguments in (["enroll", "--name", "red", toy_pictures], ["classify", toy_pictures], ["bank", "list"]):
        code, _, err = call(*arguments)
        assert code == 2
        assert "cannot read" in err
    assert (taught / BANK).read_bytes() == b"not a bank"


def test_outside_of_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["eval"], ["export"], ["prompts"]):
        code, _, err = call(*arguments)
        assert code == 2
        assert "no checkpoint.safetensors in runs/" in err
        assert "next: sp-edge train" in err
    assert not list(tmp_path.iterdir())


def test_verify_checks_what_was_named_and_nothing_else(taught: Path, call: Call) -> None:
    code, out, _ = call("verify", "--json", "verified.json")
    assert code == 0
    assert "fp32: golden pictures agree" in out
    verified = json.loads((taught / "verified.json").read_text("utf-8"))
    assert verified["bundle"] == str(BUNDLE)
    assert verified["golden"]["fp32"] > 0.9999
    for other in ("copied", "copied.spedge"):
        code, out, err = call("verify", other)
        assert (code, out) == (2, ""), "the newest run's bundle is not what was named"
        assert other in err


def test_precision_and_device_that_are_not_there(taught: Path, call: Call, toy_pictures: Path) -> None:
    assert taught.is_dir()
    code, _, err = call("classify", toy_pictures, "--precision", "int8")
    assert code == 2
    assert "sp-edge export --precision int8" in err
    code, _, err = call("classify", toy_pictures, "--device", "tpu")
    assert code == 2
    assert "'auto', 'cpu', 'cuda', '0', 'tensorrt', 'openvino'" in err
    code, _, err = call("classify", toy_pictures, "--device", "tensorrt", "--engines", "nowhere")
    assert code == 2
    assert "next: " in err


@pytest.mark.parametrize("name", ["unknown", "", "  ", "a\tb\x01", "x" * 600])
def test_names_that_cannot_be(place: Path, call: Call, toy_pictures: Path, name: str) -> None:
    code, _, err = call("enroll", "--name", name, toy_pictures)
    assert code == 2
    assert "\nerror: " in err
    assert not (place / BANK).exists()


def test_enrolments_at_once_all_count(place: Path, toy_pictures: Path) -> None:
    command = [sys.executable, "-c", "from sp_edge.cli import main; main()", "enroll"]
    running = [
        subprocess.Popen([*command, "--name", colour, str(toy_pictures / f"{i} {colour}.png")])
        for i, colour in enumerate(("red", "green", "blue"))
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert set(Bank.load(BANK, Bundle.load(BUNDLE)).names) == {"red", "green", "blue"}


def test_an_output_of_the_wrong_kind_leaves_earlier_results_alone(taught: Path, call: Call, toy_pictures: Path) -> None:
    results = taught / "r.jsonl"
    results.write_text("keep")
    code, _, _ = call("stream", toy_pictures, "out.avi", "--json", results)
    assert code == 2
    assert results.read_text() == "keep"


def test_a_folder_without_pictures_is_named(taught: Path, call: Call, toy_pictures: Path) -> None:
    (taught / "empty").mkdir()
    code, _, err = call("classify", "empty", toy_pictures)
    assert code == 2
    assert "no pictures in empty" in err


@pytest.mark.parametrize("command", ["classify", "stream"])
def test_a_folder_with_a_broken_picture_is_recognized_to_its_end(
    taught: Path, call: Call, toy_pictures: Path, command: str
) -> None:
    shutil.copytree(toy_pictures, taught / "some")
    (taught / "some" / "0 broken.png").write_bytes(b"no picture")
    code, out, err = call(command, "some", "--json", "some.jsonl")
    assert code == 2
    assert "cannot read some/0 broken.png" in err
    assert err.rstrip().endswith("got: some/0 broken.png\n  next: replace or remove them")
    assert all(name in out for name in toy.COLOURS)
    lines = [json.loads(line) for line in (taught / "some.jsonl").read_text("utf-8").splitlines()]
    assert [line["label"] for line in lines] == list(toy.COLOURS)


def test_a_folder_with_a_broken_picture_is_taught_without_it(place: Path, call: Call, toy_pictures: Path) -> None:
    (place / "red").mkdir()
    shutil.copy(toy_pictures / "0 red.png", place / "red" / "1.png")
    (place / "red" / "2.png").write_bytes(b"no picture")
    code, out, err = call("enroll", "--name", "red", "red")
    assert code == 2
    assert "taught 'red' from 1 picture, 1 in all" in out
    assert "cannot read red/2.png" in err
    assert "1 of 2 pictures cannot be read, and were not taught from" in err
    shutil.copy(toy_pictures / "1 green.png", place / "red" / "1.png")
    code, out, err = call("enroll", "--not", "red", "red", "--force")
    assert code == 2
    assert "taught what is not 'red' from 1 picture" in out
    assert "1 of 2 pictures cannot be read, and were not taught from" in err
    assert place.is_dir()


def test_pictures_that_were_named_one_by_one_are_taught_all_or_none(place: Path, call: Call, toy_pictures: Path) -> None:
    (place / "bad.png").write_bytes(b"no picture")
    for arguments in (["--name", "red", toy_pictures / "0 red.png", "bad.png"], ["--name", "red", "bad.png"]):
        code, _, err = call("enroll", *arguments)
        assert code == 2
        assert "cannot read bad.png" in err
    assert not (place / BANK).exists()


@pytest.mark.parametrize("arguments", [["--name", "red", "shelf/red"], ["--from", "shelf"]])
def test_where_no_picture_can_be_read_nothing_is_taught(place: Path, call: Call, arguments: list[str]) -> None:
    (place / "shelf" / "red").mkdir(parents=True)
    (place / "shelf" / "red" / "bad.png").write_bytes(b"no picture")
    code, _, err = call("enroll", *arguments)
    assert code == 2
    assert "1 picture cannot be read, and nothing is taught" in err
    assert not (place / BANK).exists()


def test_a_folder_of_classes_is_no_class(place: Path, call: Call, toy_pictures: Path) -> None:
    for name in ("0 red", "1 green"):
        (place / "shelf" / name).mkdir(parents=True)
        shutil.copy(toy_pictures / f"{name}.png", place / "shelf" / name)
    code, _, err = call("enroll", "--name", "red", "shelf")
    assert code == 2
    assert "shelf holds folders with pictures, and no picture itself" in err
    assert "sp-edge enroll --from shelf" in err


def test_what_is_left_out_is_told_wherever_pictures_are_read(taught: Path, call: Call, toy_pictures: Path) -> None:
    for name in ("red", "green"):
        (taught / "some" / name / "deep").mkdir(parents=True)
        number = list(toy.COLOURS).index(name)
        shutil.copy(toy_pictures / f"{number} {name}.png", taught / "some" / name / "photo")
        shutil.copy(toy_pictures / f"{number} {name}.png", taught / "some" / name / "deep" / "other.png")
        (taught / "some" / name / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    told = "some: 4 pictures (2 in folders below); left out 2 as video (such as some/green/clip.mov)"
    for arguments in (["enroll", "--from", "some", "--force"], ["bank", "test", "some"]):
        assert told in call(*arguments)[2]
    for arguments in (["classify", "some"], ["stream", "some"]):
        assert told.replace("(2 in", "(4 in") in call(*arguments)[2]
    code, out, err = call("enroll", "--name", "red", "some/red", "--force")
    assert (code, "from 2 pictures" in out) == (0, True)
    assert "some/red: 2 pictures (1 in folders below); left out 1 as video" in err


# --- many classes at once ---


@pytest.fixture
def shelf(place: Path) -> Path:
    """A folder with two pictures of each of three classes."""
    for name in toy.COLOURS:
        (place / "shelf" / name).mkdir(parents=True)
        for seed in (1, 2):
            Image.fromarray(toy.picture(name, side=40, seed=seed)).save(place / "shelf" / name / f"{seed}.png")
    return place / "shelf"


def test_a_folder_of_classes_is_taught_in_one_step(shelf: Path, call: Call) -> None:
    code, out, err = call("enroll", "--from", shelf, "--json", "taught.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["taught 3 classes from 6 pictures", "prompt: of the name, from the bundle (3 classes)"]
    assert lines[3] == f"bank: {BANK} with 3 classes"
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    assert (bank.names, bank.shots("red")) == (("blue", "green", "red"), 2)
    assert [c["name"] for c in json.loads(Path("taught.json").read_text())["taught"]] == ["blue", "green", "red"]
    assert call("bank", "undo")[0] == 0
    assert Bank.load(BANK, Bundle.load(BUNDLE)).names == (), "one step"
    PromptTable(toy.TEXT, ("blue",), np.full((1, toy.TEXT.dim), 9 / 8**0.5, np.float32)).save(Path("names.safetensors"))
    assert call("enroll", "--from", shelf, "--prompts", "names.safetensors", "--strength", 0.5)[0] == 0
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    assert bank.strengths.tolist() == [0.5] * 3
    np.testing.assert_allclose(bank.prompts[0], 9 / 8**0.5, atol=1e-6)
    np.testing.assert_array_equal(bank.prompts[1], toy.prompts().vector("green"))


def test_folders_that_are_spellings_of_one_class(shelf: Path, call: Call) -> None:
    (shelf / "Red").mkdir()
    Image.fromarray(toy.picture("red", side=40, seed=9)).save(shelf / "Red" / "9.png")
    PromptTable(toy.TEXT, ("Red",), np.full((1, toy.TEXT.dim), 9 / 8**0.5, np.float32)).save(Path("names.safetensors"))
    code, out, _ = call("enroll", "--from", shelf, "--prompts", "names.safetensors")
    assert code == 0
    assert "'red' is 'Red' in another spelling: one class" in out
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    assert (sorted(bank.names), bank.shots("red")) == (["Red", "blue", "green"], 3)


def test_a_folder_of_classes_with_broken_pictures_is_taught_without_them(shelf: Path, call: Call) -> None:
    (shelf / "red" / "0.png").write_bytes(b"no picture")
    for seed in (1, 2):
        (shelf / "blue" / f"{seed}.png").write_bytes(b"no picture")
    code, out, err = call("enroll", "--from", shelf)
    assert code == 2
    assert "taught 2 classes from 4 pictures" in out
    assert [line.split(": ")[0] for line in err.splitlines()[:3]] == [
        f"cannot read {shelf / name}" for name in ("blue/1.png", "blue/2.png", "red/0.png")
    ]
    assert "3 of 7 pictures cannot be read, and were not taught from" in err
    assert Bank.load(BANK, Bundle.load(BUNDLE)).names == ("green", "red")


def test_a_folder_of_classes_with_copies_is_refused_as_a_whole(shelf: Path, call: Call) -> None:
    shutil.copy(shelf / "red" / "1.png", shelf / "red" / "3.png")
    shutil.copy(shelf / "blue" / "1.png", shelf / "blue" / "3.png")
    code, _, err = call("enroll", "--from", shelf)
    assert code == 2
    assert "2 of 8 pictures would teach their classes little or nothing" in err
    assert f"{shelf / 'red' / '3.png'}: copy of picture 1" in err
    assert not BANK.exists()
    assert call("enroll", "--from", shelf, "--force")[0] == 0
    assert Bank.load(BANK, Bundle.load(BUNDLE)).shots("red") == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shelf"],
        ["--name", "red", "--from", "shelf"],
        ["--from", "shelf", "shelf/red/1.png"],
        ["--from", "shelf", "--description", "a colour"],
        ["--from", "absent"],
        ["--from", "shelf/red"],
    ],
)
def test_what_is_to_be_taught_is_said_once(shelf: Path, call: Call, arguments: list[str]) -> None:
    assert shelf.is_dir()
    code, _, err = call("enroll", *arguments)
    assert code == 2
    assert "expected:" in err
    assert not BANK.exists()


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_from_outside_leaves_whole_files(taught: Path, order: signal.Signals) -> None:
    command = [sys.executable, "-m", "sp_edge", "stream", str(BUNDLE), "test://", "--json", "frames.jsonl"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    try:
        assert running.stdout
        assert running.stdout.readline() == "test://: running\n"
        assert running.stdout.readline().startswith("frame ")
        running.send_signal(order)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, "a second" in err) == (0, True)
    lines = [json.loads(line) for line in (taught / "frames.jsonl").read_text("utf-8").splitlines()]
    assert [line["state"] for line in lines if line.get("event") == "state"] == ["initializing", "running"]


# --- what is looked at ---


def wide(file: Path, left: str, right: str) -> Path:
    """A picture of 120 x 40 pixels with one colour on the left and another on the right."""
    halves = [toy.picture(name, side=60)[:40] for name in (left, right)]
    Image.fromarray(np.concatenate(halves, axis=1)).save(file)
    return file


def test_a_crop_is_taught_recognized_and_measured(taught: Path, call: Call) -> None:
    folder = taught / "wide"
    for name, other in (("red", "blue"), ("blue", "green")):
        (folder / name).mkdir(parents=True)
        wide(folder / name / "0.png", name, other)
    left, right = ("--crop", "0,0,0.5,1"), ("--crop", "60,0,60,40")
    picture = folder / "red" / "0.png"
    for crop, label in ((left, "red"), (right, "blue")):
        code, out, _ = call("classify", picture, *crop)
        assert code == 0
        assert out.splitlines()[2].split()[1] == label
    assert "2 of 2" in call("bank", "test", folder, *left)[1]
    assert "1 of 1" in call("bank", "test", folder, *right)[1] or call("bank", "test", folder, *right)[0] == 0
    assert call("enroll", "--name", "bright day", picture, *right)[0] == 0
    assert call("enroll", "--not", "bright day", picture, *left)[0] == 0
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    np.testing.assert_allclose(bank.query[-2], toy.features(toy.picture("blue")[None])[0], atol=0.1)
    np.testing.assert_allclose(bank.query[-1], toy.features(toy.picture("red")[None])[0], atol=0.1)


@pytest.mark.parametrize("command", ["classify", "enroll", "stream", "test"])
def test_a_crop_that_cannot_be(taught: Path, call: Call, toy_pictures: Path, command: str) -> None:
    given = {
        "classify": ("classify", toy_pictures),
        "enroll": ("enroll", "--name", "red", toy_pictures / "0 red.png"),
        "stream": ("stream", toy_pictures),
        "test": ("bank", "test", taught / "labeled"),
    }[command]
    (taught / "labeled" / "red").mkdir(parents=True)
    shutil.copy(toy_pictures / "0 red.png", taught / "labeled" / "red")
    for crop, said in (("0.5,0.5,0.6,0.6", "no part of a picture"), ("0,0,5000,10", "leaves the picture")):
        code, _, err = call(*given, "--crop", crop)
        assert code == 2
        assert said in err


def test_the_bank_keeps_the_fit(place: Path, call: Call) -> None:
    picture = wide(place / "wide.png", "red", "blue")
    assert call("enroll", "--name", "red", picture, "--fit", "squash")[0] == 0
    bank = Bank.load(BANK, Bundle.load(BUNDLE))
    assert bank.fit == "squash"
    code, out, _ = call("classify", picture, "--json", "-")
    assert (code, json.loads(out)["view"]) == (0, [0, 0, 120, 40])
    assert json.loads(out)["similarity"] > 0.99
    code, _, err = call("enroll", "--name", "blue", picture, "--fit", "pad")
    assert code == 2
    assert "another fit than 'pad'" in err
    assert "--bank" in err
    code, out, _ = call("bank", "list", "--json", "list.json")
    assert (code, out.splitlines()[-1].endswith("1 shot, fit squash")) == (0, True)
    assert json.loads(Path("list.json").read_text("utf-8"))["fit"] == "squash"
    for option in (("--fit", "pad"), ("--crop", "0,0,1,1")):
        code, _, err = call("enroll", "--name", "dark night", *option)
        assert code == 2
        assert f"{option[0]} does nothing with a name alone" in err


def test_a_thing_beside_the_middle_is_not_taught(place: Path, call: Call) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(126, 131, (40, 120, 3)).astype(np.uint8)
    image[5:35, 2:32] = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8).repeat(5, axis=0).repeat(5, axis=1)
    Image.fromarray(image).save(place / "beside.png")
    code, _, err = call("enroll", "--name", "red", "beside.png")
    assert code == 2
    assert "beside.png: much of it lies outside of what is looked at" in err
    code, _, err = call("enroll", "--name", "red", "beside.png", "--crop", "0,0,2,2")
    assert (code, "few pixels are looked at" in err, "look at more of them with --crop" in err) == (2, True, True)
    assert "--crop or --fit" in err
    assert call("enroll", "--name", "red", "beside.png", "--crop", "0,0,0.34,1")[0] == 0


def test_gray_pictures_are_told(taught: Path, call: Call) -> None:
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(taught / "night.png")
    code, out, err = call("classify", "night.png", "--json", "-")
    assert code == 0
    assert json.loads(out)["gray"] is True
    assert "1 picture is gray, and classes were taught in color" in err
    assert "a picture of night.png is gray" in call("stream", "night.png", "--headless")[2]
