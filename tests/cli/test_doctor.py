from __future__ import annotations

import json
from pathlib import Path

import pytest

from sp_edge.cli import cli
from sp_edge.cli.common import run
from sp_edge_runtime.doctor import doctor
from sp_edge_runtime.doctor.finding import MISSING, OK, WARN, Finding

FINDINGS = [
    Finding("Python", OK, "3.12.3", needed=True),
    Finding("power mode", WARN, "15W", "sudo nvpmodel -m 2"),
    Finding("GPU", MISSING, "no libcuda.so.1", "install its driver"),
]


@pytest.mark.parametrize(("more", "code"), [([], 0), ([Finding("numpy", MISSING, "not installed", needed=True)], 1)])
def test_only_what_is_needed_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[Finding], code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [*FINDINGS, *more])
    assert run(cli, ["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "ok      Python      3.12.3",
        "warn    power mode  15W",
        "                    -> sudo nvpmodel -m 2",
    ]
    assert run(cli, ["doctor", "--json", str(tmp_path / "doctor.json")]) == code
    written = json.loads((tmp_path / "doctor.json").read_text("utf-8"))
    assert written["ok"] == (code == 0)
    assert [finding["name"] for finding in written["findings"]][:2] == ["Python", "power mode"]
    assert set(written["findings"][0]) == {"name", "state", "found", "remedy", "needed"}
