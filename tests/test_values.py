"""Values go from thread to thread, and users keep them: nobody changes one, and comparing two never fails."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROOMS = ("sp_edge", "runtime", "export", "calibration")
COLLECT = {"Png", "StageState", "Gate", "Page", "Watched", "Encoded", "Figures"}  # no values: each has one owner
ARRAYS = re.compile(r"\b(NDArray|Floats|Matrix|Crops)\b")


@cache
def dataclasses() -> list[tuple[str, ast.ClassDef, dict[str | None, Any]]]:
    """File and name, definition and options of every dataclass."""
    found = []
    for file in sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                if ast.unparse(decorator).startswith("dataclass"):
                    assert isinstance(node, ast.ClassDef)
                    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
                    options = {option.arg: ast.literal_eval(option.value) for option in keywords}
                    found.append((f"{file.relative_to(ROOT)}: {node.name}", node, options))
    return found


def compares_arrays(node: ast.ClassDef) -> bool:
    """Whether a field holds an array, and counts when two values are compared."""
    return any(
        isinstance(part, ast.AnnAssign)
        and ARRAYS.search(kind := ast.unparse(part.annotation)) is not None
        and not kind.startswith("Callable")
        and not (part.value and "compare=False" in ast.unparse(part.value))
        for part in node.body
    )


def test_values_cannot_be_changed() -> None:
    assert len(dataclasses()) > 100
    for name, node, options in dataclasses():
        if not node.name.startswith("_"):
            assert options.get("frozen", False) == (node.name not in COLLECT), f"{name}: freeze it, or list it above"


def test_comparing_values_never_fails() -> None:
    """'The truth value of an array is ambiguous', says numpy: a value with arrays is equal to itself alone."""
    for name, node, options in dataclasses():
        assert not (compares_arrays(node) and options.get("eq", True)), f"{name}: needs eq=False"
