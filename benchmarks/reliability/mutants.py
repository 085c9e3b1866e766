"""Changes a line of the code at a time, and sees whether its tests notice: cosmic-ray's mutations, a sample of them.

    pip install cosmic-ray
    python benchmarks/reliability/mutants.py --count 60

Each place in the files below that can be mutated is as likely as any other; --only takes some of the files. A copy of the
project is mutated; the tests that stand for the file run until the first failure, at most for two minutes. Unions in
annotations and decorators are left out: the first are never evaluated, the second are mostly caches. What survives is printed
as a difference.
"""

from __future__ import annotations

import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import shared

ROOT = Path(__file__).parents[2]
SOURCES = "runtime/sp_edge_runtime/sources"
TESTS = {
    "sp_edge/prompts/spelling.py": ["core/prompts/test_spelling.py", "core/bank/test_contents.py"],
    "sp_edge/prompts/reading.py": ["core/prompts/test_reading.py"],
    "sp_edge/bank/contents.py": [f"core/bank/test_{name}.py" for name in ("contents", "bank", "kinds", "gray")],
    "sp_edge/bank/merge.py": ["core/bank/test_merge.py", "core/bank/test_kinds.py"],
    "sp_edge/bank/advice.py": [f"core/bank/test_{name}.py" for name in ("advice", "advice_by_loops", "again", "kinds", "gray")],
    "runtime/sp_edge_runtime/naming.py": ["runtime/test_naming.py"],
    **{f"{SOURCES}/{name}.py": [f"runtime/sources/test_{name}.py"] for name in ("h264", "mjpeg", "address", "camera")},
}
COPIED = ("sp_edge", "export", "runtime", "calibration", "tests", "benchmarks", "pyproject.toml")
SECONDS = 120


def mutations(file: Path) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Where a file can be mutated -> by which operators, each with which of its occurrences that is."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.plugins import get_operator, operator_names

    tree = get_ast_from_path(file)
    found: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in operator_names():
        if any(left_out in name for left_out in ("BitOr_", "RemoveDecorator", "Variable")):
            continue
        operator = get_operator(name)()
        places = [start for node in ast_nodes(tree) for start, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            found.setdefault(place, []).append((name, occurrence))
    return found


def mutated(file: Path, name: str, occurrence: int) -> str:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    made = mutate_code(file.read_text("utf-8"), get_operator(name)(), occurrence)
    assert made is not None
    return str(made)


def tested(place: Path, tests: list[str]) -> Literal["passed", "failed", "late"]:
    """How these tests, and those of all values, end on the copied project; late: not in time."""
    paths = os.pathsep.join(map(str, (place, *(place / room for room in ("export", "runtime", "calibration")))))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    files = [f"tests/{name}" for name in ("test_values.py", *tests)]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    try:
        ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "late"
    return "failed" if ended.returncode else "passed"


def main() -> None:
    options = shared.arguments(__doc__, 60)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for part in COPIED:
            source = ROOT / part
            shutil.copytree(source, place / part) if source.is_dir() else shutil.copy(source, place / part)
        files = [file for file in TESTS if options.only is None or file in options.only]
        every = [(file, at, ways) for file in files for at, ways in mutations(place / file).items()]
        chosen = chance.sample(every, min(options.count, len(every)))
        for file in {file for file, _, _ in chosen}:
            assert tested(place, TESTS[file]) == "passed", f"the tests of {file} fail as it is"
        wrong: dict[str, list[str]] = {}
        late = 0
        for file, at, ways in sorted(chosen, key=lambda one: one[:2]):
            original = (place / file).read_text("utf-8")
            changed = mutated(place / file, *chance.choice(ways))
            (place / file).write_text(changed, "utf-8")
            survived = wrong.setdefault(file, [])
            ended = tested(place, TESTS[file])
            late += ended == "late"
            if ended == "passed":
                lines = difflib.unified_diff(original.splitlines(), changed.splitlines(), lineterm="", n=0)
                changes = [line for line in lines if line[:1] in "+-" and line[1:2] not in "+-"]
                survived.append(f"{file}:{at[0]}: {' '.join(changes)}")
            (place / file).write_text(original, "utf-8")
        for file, survived in wrong.items():
            shared.row(f"mutants of {Path(file).name}", sum(one[0] == file for one in chosen), survived)
        total = sum(map(len, wrong.values()))
        killed = 100 * (1 - total / len(chosen))
        found = f"{killed:.0f} % killed, {late} of them by the limit of {SECONDS} s; {total} survived; {len(every):,} places"
        shared.row("mutants", len(chosen), [], found)


if __name__ == "__main__":
    main()
