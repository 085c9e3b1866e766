"""The harnesses of reliability in short: each prints its table, and finds nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HARNESSES = Path(__file__).parents[2] / "benchmarks" / "reliability"


def table(name: str, *arguments: str) -> dict[str, tuple[int, int]]:
    """How often each thing was tried, and how often it went wrong."""
    command = [sys.executable, str(HARNESSES / f"{name}.py"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = re.findall(r"^\| ([^|]+?) \| ([\d,]+) \| (\d+) \|", ran.stdout, re.MULTILINE)
    assert "wrong:" not in ran.stdout, ran.stdout
    return {what: (int(tried.replace(",", "")), int(wrong)) for what, tried, wrong in rows}


def test_readers() -> None:
    assert table("readers", "--count", "1000")["all readers"][0] > 900


def test_bad_frames() -> None:
    pytest.importorskip("av")
    assert table("bad_frames", "--count", "90")["all"][0] > 60


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare is not installed")
def test_a_full_disk() -> None:
    mount = [shutil.which("unshare") or "", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for users here")
    assert table("full_disk", "--count", "40", "--only", "enroll")["enroll"][0] >= 2


def test_killed() -> None:
    assert table("killed", "--count", "3", "--only", "enroll")["enroll"][0] == 3


@pytest.mark.slow
def test_camera_losses() -> None:
    found = table("camera_losses", "--count", "10")
    assert sum(tried for what, (tried, _) in found.items() if what.startswith("camera")) == 10
