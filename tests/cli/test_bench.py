from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import toy
from sp_edge_runtime.bench import candidates, phases
from sp_edge_runtime.bench.fresh import Fresh


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "CANDIDATES", (("cpu", "fp32"), ("cuda", "bf16")))
    monkeypatch.setattr(phases, "start", lambda job: Fresh(0.5, 100.0, 50.0))


def test_a_bundle_is_measured(place: Path, few: None, call: Any) -> None:
    pytest.importorskip("matplotlib")
    for number in range(3):
        for name in toy.COLOURS:
            (place / "pictures" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(toy.picture(name, seed=number)).save(place / "pictures" / name / f"{number}.png")
    options = ["--seconds", "1", "--data", "pictures", "--json", "bench.json", "--plot", "bench.png"]
    code, out, err = call("bench", *options)
    assert code == 0, err
    header, _, row, missing, where, plot = out.splitlines()
    assert header.split()[0] == "backend"
    assert "accuracy %" in header
    assert "mJ" not in header
    assert row.startswith("cpu fp32  1.0000")
    assert missing == "cuda bf16: bf16 runs in OpenVINO alone"
    assert where.startswith("runs/2/model.spedge, test://, ")
    assert plot == "plot: bench.png"
    written = json.loads((place / "bench.json").read_text("utf-8"))
    assert written["provenance"]["command"].startswith("sp-edge ")
    assert written["backends"][0]["accuracy"]["episodes"] >= 2
    assert (place / "bench.png").is_file()


def test_json_alone_goes_to_standard_output(place: Path, few: None, capfd: pytest.CaptureFixture[str]) -> None:
    from sp_edge.cli import cli
    from sp_edge.cli.common import run

    assert run(cli, ["bench", "--seconds", "1", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["schema"] == 1


def test_a_fresh_process_that_failed_is_named(place: Path, few: None, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sp_edge.errors import BackendError

    def fail(job: object) -> Fresh:
        raise BackendError("a fresh process failed", got="no memory")

    monkeypatch.setattr(phases, "start", fail)
    code, out, _ = call("bench", "--seconds", "1")
    assert code == 0
    assert "cpu fp32: a fresh process failed: no memory" in out


def test_one_bundle_is_measured(place: Path, call: Any) -> None:
    shutil.copytree(place / "runs/2/model.spedge", place / "b.spedge")
    code, _, err = call("bench", "b.spedge", "c.spedge")
    assert code == 2
    assert "bench measures one bundle" in err


@pytest.mark.parametrize("words", [["--source", "{}"], ["--source={}"]])
@pytest.mark.parametrize(
    "address",
    ["rtsp://admin:secret@door/1", "rtspsrc location=rtsp://door user-pw='a secret' ! appsink", "rtsp://a:my secret@door"],
)
def test_a_cameras_password_is_not_told(
    place: Path, call: Any, words: list[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["bench", *(word.format(address) for word in words), "--json", "bench.json"]
    monkeypatch.setattr("sys.argv", ["sp-edge", *arguments])
    report = {
        "backends": [],
        "missing": {},
        "energy": "",
        "stopped": True,
        "stopped_by": "Ctrl+C",
        "source": "rtsp://***@door/1",
    }
    monkeypatch.setattr("sp_edge.cli.bench._measured", lambda *_: report)
    code, out, err = call(*arguments)
    assert code == 0, err
    assert ", rtsp://***@door/1, " in out
    assert "stopped before its end: Ctrl+C" in out
    written = (place / "bench.json").read_text("utf-8")
    assert "***" in json.loads(written)["provenance"]["command"]
    assert "secret" not in out + err + written
