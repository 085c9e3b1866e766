"""`python -m build` makes a wheel and an sdist that install into an empty environment, without torch, and run."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image

from sp_edge import __version__

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; PYTHONPATH would lead it back to the source tree."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what the build made: the sdist, and the wheel from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_it_installs_into_an_empty_environment_and_recognizes(
    dist: Path, pattern: str, toy_bundle: Path, tmp_path: Path
) -> None:
    (package,) = dist.glob(pattern)
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "--quiet", package, cwd=tmp_path)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    sp_edge = programs / "sp-edge"
    assert __version__ in run(sp_edge, "--version", cwd=tmp_path)
    run(sp_edge, "enroll", toy_bundle, "--name", "red", "red.png", "--bank", "my.spbank", "--force", cwd=tmp_path)
    said = run(sp_edge, "classify", toy_bundle, "red.png", "--bank", "my.spbank", cwd=tmp_path)
    assert "red" in said.split()
    parts = run(programs / "python", "-c", "import sp_edge_export, sp_edge_runtime, sp_edge_calibration", cwd=tmp_path)
    assert not parts


@pytest.mark.slow
def test_the_wheel_holds_what_the_packages_read(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    listed = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=tmp_path)
    roots = {"": "sp_edge", "export/": "sp_edge_export", "runtime/": "sp_edge_runtime", "calibration/": "sp_edge_calibration"}
    missing = [
        file
        for root, package in roots.items()
        for file in run("git", "ls-files", root + package, cwd=ROOT).split()
        if file.removeprefix(root) not in listed
    ]
    assert not missing
