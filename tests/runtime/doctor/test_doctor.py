from __future__ import annotations

import sys
from pathlib import Path

import pytest

import toy_host
from sp_edge_runtime.doctor import finding
from sp_edge_runtime.doctor.doctor import examine, is_well
from sp_edge_runtime.doctor.finding import MISSING, OK, Finding, Host, LoadError


def test_a_whole_jetson_has_nothing_to_mend(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    findings = examine(toy_host.jetson(tmp_path))
    assert is_well(findings)
    names = [found.name for found in findings]
    assert {"Python", "Jetson", "numpy", "ONNX Runtime", "GPU", "TensorRT", "CUDA bindings"} <= set(names)
    assert {"memory", "disk", "power mode", "PyAV", "OpenCV", "GStreamer", "PyGObject", "camera /dev/video0"} <= set(names)
    wrong = {found.name for found in findings if found.state != OK}
    assert wrong == {"extra train", "extra export"}  # which a Jetson is to leave out


def test_an_empty_machine_says_how_to_mend_each_thing(tmp_path: Path) -> None:
    findings = examine(toy_host.host(tmp_path, packages={}))
    assert not is_well(findings)
    assert all(found.remedy for found in findings if found.state != OK)
    needed = {found.name for found in findings if found.needed and found.state == MISSING}
    assert needed == {"click", "numpy", "onnxruntime", "tomli", "ONNX Runtime"}


def test_optional_parts_do_not_count() -> None:
    assert is_well([Finding("GPU", MISSING, "none"), Finding("Python", OK, "3.12", needed=True)])
    assert not is_well([Finding("numpy", MISSING, "not installed", needed=True)])


def test_this_machine_is_well() -> None:
    findings = examine()
    assert is_well(findings), findings
    assert {found.state for found in findings} <= {"ok", "warn", "missing"}
    assert next(f for f in findings if f.name == "Python").found == ".".join(map(str, sys.version_info[:3]))


def test_a_module_is_loaded_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sound.py").write_text("print('chatter')\n__version__ = '1.2'")
    (tmp_path / "broken.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    (tmp_path / "aborts.py").write_text("import os; os.abort()")
    load = Host().load
    assert load("sound", "m.__version__").splitlines()[-1] == "1.2"  # type: ignore[union-attr]
    assert load("not_there_at_all", "m.__version__") is None
    assert "sound" not in sys.modules
    with pytest.raises(LoadError, match="cannot open shared object file"):
        load("broken", "m.__version__")
    with pytest.raises(LoadError, match="ended with -6"):
        load("aborts", "m.__version__")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(finding, "_TIMEOUT", 1)
    with pytest.raises(LoadError, match="no answer within 1 s"):
        load("hangs", "m")


def test_programs_that_fail_say_nothing() -> None:
    run = Host().run
    assert run([sys.executable, "-c", "print('here')"]) == "here\n"
    assert run([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert run(["/no/such/program"]) is None
