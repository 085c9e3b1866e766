from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sp_edge.processes import python_command


def test_a_module_runs_with_what_it_is_given_and_finds_what_this_process_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "told_by_a_test.py").write_text(
        "import random\n\ndef main(*words):\n    print(words, random.__file__)\n"
    )
    for name in ("random", "importlib", "told_by_a_test"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the working folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "ours")
    for words in ((), ("one",), ("a word", "--flag")):
        ran = subprocess.run(python_command("told_by_a_test", *words), capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(str(words))
        assert str(tmp_path) not in ran.stdout
    assert python_command("a", "b")[0] == sys.executable
