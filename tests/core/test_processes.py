from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sp_edge.processes import lasting, python_command

# Threads that hold memory at the same time, then what glibc tells of its arenas.
ARENAS = """
import ctypes, threading
from sp_edge.processes import lasting
lasting()
held = threading.Barrier(5)
def hold():
    memory = [bytes(1000) for _ in range(1000)]
    held.wait()
threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads: thread.start()
held.wait()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")


def arenas(**environment: str) -> int:
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ARENAS]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**usual, **environment})
    return ran.stdout.count("<heap nr=")


@needs_glibc
def test_all_threads_of_a_lasting_process_share_one_arena() -> None:
    assert arenas() == 1


@needs_glibc
@pytest.mark.parametrize("chosen", [{"MALLOC_ARENA_MAX": "3"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=3"}])
def test_the_number_of_arenas_that_the_user_chose_stays(chosen: dict[str, str]) -> None:
    assert arenas(**chosen) == 3


def test_blas_gets_one_thread_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")  # this process keeps its own
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")  # is put back as it was
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    lasting()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    lasting()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "4"


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
