from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from PIL import Image

from sp_edge.bank.bank import Bank
from sp_edge.bundle.bundle import Bundle

pytestmark = pytest.mark.slow  # the whole demo in its quick form


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-c", "from sp_edge.cli import main; main()", "demo", "--quick", "--out", "out dir"]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (place / "said").write_text(ran.stdout + ran.stderr)
    return place


@pytest.fixture(scope="module")
def summary(demo: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((demo / "out dir" / "summary.json").read_text())
    return loaded


def test_every_accuracy_is_in_the_summary_and_in_what_was_printed_and_in_the_report(
    demo: Path, summary: dict[str, Any]
) -> None:
    said, report = (demo / "said").read_text(), (demo / "out dir" / "report.html").read_text()
    assert set(summary["accuracy"]) == {"pretrained", "tuned", "sp"}
    for shots in summary["accuracy"].values():
        assert set(shots) == {"1-shot", "5-shot"}
        for groups in shots.values():
            assert set(groups) == {"clutter", "clean"}
            for figure in groups.values():
                assert 0.2 < figure["mean"] <= 1
                assert 0 < figure["interval"] < 0.1
                assert figure["episodes"] == 100
                printed = f"{100 * figure['mean']:.1f} ± {100 * figure['interval']:.1f}"
                assert printed in said
                assert printed in report


def test_the_export_equals_pytorch(summary: dict[str, Any]) -> None:
    (stage,) = summary["parity"]["stages"]
    assert stage["cosine_min"] >= 0.9999
    assert abs(stage["accuracy"]["mean"] - stage["accuracy_before"]["mean"]) <= stage["accuracy"]["interval"]


def test_the_paths_lead_to_what_they_name(demo: Path, summary: dict[str, Any]) -> None:
    bundle = Bundle.load(demo / summary["bundle"])
    bank = Bank.load(demo / summary["bank"], bundle)
    assert len(bank.names) == 5
    assert [bank.shots(name) for name in bank.names] == [1] * 5
    assert (demo / summary["checkpoint"]).is_file()
    capture = cv2.VideoCapture(str(demo / summary["video"]))
    opened, frame = capture.read()
    capture.release()
    assert opened
    assert frame.std() > 10
    lines = [json.loads(line) for line in (demo / summary["results"]).read_text().splitlines()]
    results = [line for line in lines if "event" not in line]
    assert [r["frame_id"] for r in results] == list(range(summary["stream"]["frames"]))
    assert {r["name"] for r in results} <= set(bank.names)
    assert {r["label"] for r in results} <= {*bank.names, "unknown"}
    assert summary["stream"]["right"] <= summary["stream"]["shown"]


def test_photographs_are_recognized_without_training(demo: Path, summary: dict[str, Any]) -> None:
    shown = summary["photographs"]
    assert shown["stream"]["right"] > 0.9 * shown["stream"]["shown"]
    assert shown["stream"]["unknown_right"] > 0.8 * shown["stream"]["unknown_shown"]
    assert [one["label"] for one in shown["pair"]] == [one["shows"] for one in shown["pair"]] == ["space shuttle", "helmet"]
    (shuttle_x, shuttle_y), (helmet_x, helmet_y) = (one["place"] for one in shown["pair"])
    assert min(shuttle_x, helmet_x) > 0.5  # both are in the right half of the photograph
    assert shuttle_y < 0.5 < helmet_y
    bank = Bank.load(demo / shown["bank"], Bundle.load(demo / shown["bundle"]))
    assert [bank.shots(name) for name in bank.names] == [1] * 5
    report = (demo / "out dir" / "report.html").read_text()
    assert "of the frames with a taught object are named rightly" in report
    assert report.count("data:video/webm") == 2
    for file in ("places.png", "attention.png"):
        with Image.open(demo / "out dir" / file) as drawn:
            assert min(drawn.size) > 500


def test_each_step_was_timed(summary: dict[str, Any]) -> None:
    steps = ["train with prompts", "train without prompts", "evaluate", "export", "enroll", "stream"]
    assert [step for step in summary["seconds"] if step in steps] == steps
    assert summary["stream"]["fps"] > 0
    assert {"capture", "preprocess", "inference", "postprocess"} <= set(summary["stream"]["stages"])


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    command = [sys.executable, "-c", "from sp_edge.cli import main; main()", "demo", "--out", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "no earlier demo" in ran.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]
