"""What README.md, CONTRIBUTING.md and docs/ show exists: commands with their options, links, imports, functions."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from command_line import commands
from sp_edge.cli import cli

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "docs").glob("*.service"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *UNITS]


def calls() -> dict[str, tuple[list[str], bool]]:
    """Page and command line -> its words after sp-edge, and whether it is one to type: from a block, or from a sentence."""
    found = {}
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        blocks = re.findall(r"```(?:sh)?\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"^ExecStart=.*$", text, re.MULTILINE)
        typed = [line for block in blocks for line in block.splitlines()] + re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
        said = [re.sub(r"\s+", " ", span) for span in re.findall(r"`((?:sp-edge|torchrun) [^`]+)`", text)]
        for line in typed + said:
            match = re.match(r"(?:.*[ /=])?(?:sp-edge|-m sp_edge) (.*)", line.partition(" | ")[0].partition("  #")[0])
            if match and not re.match(r"(pip|from|import|sudo (mkdir|cp|chown|useradd)) ", line):
                found[f"{page.relative_to(ROOT)}: {line.strip()}"] = (shlex.split(match[1], comments=True), line in typed)
    return found


CALLS = calls()


@pytest.mark.parametrize("line", CALLS)
def test_a_command_of_the_pages_exists(line: str) -> None:
    (words, typed), command = CALLS[line], cli
    words = list(words)
    while isinstance(command, click.Group) and words[0] in commands(command):
        command = commands(command)[words.pop(0)]
        if not words:
            return
    if isinstance(command, click.Group):
        assert words == ["COMMAND", "--help"], f"no command {words[0]}"
    elif typed:
        command.make_context("sp-edge", words)
    else:
        known = {name for option in command.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_pages_have_their_commands() -> None:
    shown = {" ".join(words[:2]) if words[0] in ("bank", "data") else words[0] for words, _ in CALLS.values()}
    assert shown >= {"train", "eval", "export", "enroll", "bank check", "bank test", "classify", "stream", "doctor", "verify"}
    assert shown >= {"data check", "prompts", "calibrate", "import", "ablate"}


TEXTS = {page: page.read_text("utf-8") for page in [*PAGES[: -len(UNITS)], ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]}
LINKS = [(page, link) for page, text in TEXTS.items() for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
IMPORTS = [(page, *found) for page, text in TEXTS.items() for found in re.findall(r"^ *from (sp_\S+) import (.+)$", text, re.M)]
STEPS = [
    (name, ROOT / file)
    for names, file in re.findall(r"^\| [^|]+ \| (`[^|]+`) \| `(\S+\.py)` \|$", TEXTS[ROOT / "CONTRIBUTING.md"], re.MULTILINE)
    for name in re.findall(r"`([\w.]+)`", names)
]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{page.relative_to(ROOT)}: {link}" for page, link in LINKS])
def test_a_link_of_the_pages_leads_somewhere(page: Path, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text("utf-8"))


@pytest.mark.parametrize(("page", "module", "names"), IMPORTS, ids=[f"{page.name}: {module}" for page, module, _ in IMPORTS])
def test_an_import_of_the_pages_works(page: Path, module: str, names: str) -> None:
    if module == "sp_edge.easyfsl":
        pytest.importorskip("easyfsl")
    for name in names.split(", "):
        assert hasattr(importlib.import_module(module), name), f"{page.name}: {module} has no {name}"


@pytest.mark.parametrize(("name", "file"), STEPS, ids=[f"{file.name}: {name}" for name, file in STEPS])
def test_a_step_through_the_house_is_where_the_page_says(name: str, file: Path) -> None:
    body = ast.parse(file.read_text("utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        assert found, f"no {part} in {file}"
        body = found[0].body


def test_the_ways_through_the_house_have_their_steps() -> None:
    assert {"open_source", "match", "load_image", "BankFile.change", "Checkpoint.load", "build_plan"} <= {
        name for name, _ in STEPS
    }


BRITISH = (
    r"colour|centre|grey|licence|labelled|behaviour|artefact|enrol(?!l)|(?:recogn|normal|quant|optim|organ|initial|summar)is"
)


@pytest.mark.parametrize("page", TEXTS, ids=[str(page.relative_to(ROOT)) for page in TEXTS])
def test_the_pages_are_in_american_spelling(page: Path) -> None:
    assert not re.findall(BRITISH, re.sub(r"`[^`]*`", "", TEXTS[page]), re.IGNORECASE)
