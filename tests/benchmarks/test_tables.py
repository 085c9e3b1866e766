"""docs/measurements/benchmarks.md is what benchmarks/tables.py makes of the JSON files beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "measurements"


@pytest.fixture(scope="module")
def tables(open_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return open_benchmark("tables")


def test_the_page_is_made_of_the_files_beside_it(tables: ModuleType) -> None:
    assert tables.page(tables.reports()) == tables.PAGE.read_text("utf-8"), "python benchmarks/tables.py writes it"


def test_the_readme_has_its_speed_from_the_same_files(tables: ModuleType) -> None:
    text = (FOLDER.parents[1] / "README.md").read_text("utf-8")
    assert tables.with_speed(text, tables.readme(tables.reports())) == text, "python benchmarks/tables.py writes it"


@pytest.mark.parametrize("name", ["bench", "peers", "around", "profiles"])
def test_the_files_name_no_machine_and_no_place(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text("utf-8")
    assert "model name" not in text
    for word in ("/tmp", "/work", "/home", "/root"):  # noqa: S108
        assert word not in text
    report = json.loads(text)
    assert "model" not in report["provenance"]["processor"]
    assert report["schema"] == 1


def test_each_goal_that_was_missed_has_its_reason(tables: ModuleType) -> None:
    for bundle in tables.reports()["around"]["bundles"]:
        for goal in bundle["goals"]:
            assert goal["met"] == (goal["measured"] <= goal["at_most"])
            assert goal["met"] or goal["what"] in tables.REASONS


def test_a_report_is_cleaned_of_where_it_was_made(tables: ModuleType) -> None:
    told = {"processor": {"model": "X", "cores": 2}, "command": "sp-edge bench /a/b/ready.spedge --source test://"}
    assert tables.cleaned({"provenance": told})["provenance"] == {
        "processor": {"cores": 2},
        "command": "sp-edge bench ready.spedge --source test://",
    }


def test_readme_claims_nothing_that_was_measured_beside_other_work(tables: ModuleType) -> None:
    ours = {"ms": {"median": 5.0}, "ratio": {"median": 0.5}}
    theirs = {"ms": {"median": 10.0}, "ratio": {"median": 1.0}}
    peers = {
        "networks": {"batch_1": {"timm, eager": theirs, "sp-edge, cpu fp32": ours}},
        "few_shots": {"easyfsl": theirs, "sp-edge, CPU": ours},
        "video": {"script": theirs, "sp-edge, CPU": ours},
        "provenance": {"busy": 0.9, "processor": {"cores": 4}},
    }
    assert "0.50" not in tables.readme({"peers": peers})
    quiet = tables.readme({"peers": {**peers, "provenance": {"busy": 0.0, "processor": {"cores": 4}}}})
    assert quiet.count("0.50") == 3
    assert quiet.startswith("| milliseconds on 4 CPU cores | without sp-edge |  | sp-edge |  | ratio |\n")
    assert "| the network, one picture | timm, eager | 10 | cpu fp32 | 5 | 0.50 |" in quiet
    text = tables.with_speed(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n", quiet)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert quiet in text
    assert "old" not in text
