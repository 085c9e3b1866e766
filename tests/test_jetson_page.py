"""Systemd understands the unit of docs/jetson.md; that its commands exist, test_pages.py shows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "jetson.md").read_text("utf-8")
UNIT = DOCS / "sp-edge-stream.service"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (apt: systemd)")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert "/opt/sp-edge/.venv/bin/sp-edge" in text
    assert "python3 -m venv --system-site-packages /opt/sp-edge/.venv" in PAGE
    unit.write_text(text.replace("/opt/sp-edge/.venv/bin/sp-edge", "/bin/true"))
    ran = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)  # noqa: S607
    said = [line for line in ran.stderr.splitlines() if UNIT.name in line]
    assert (ran.returncode, said) == (0, []), ran.stderr
