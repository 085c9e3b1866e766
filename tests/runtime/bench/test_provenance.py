from __future__ import annotations

import json
from pathlib import Path

import pytest

import sp_edge_runtime.bench.provenance as provenance_module
from sp_edge_runtime.bench.provenance import busy, processor, processor_words, provenance, versions

X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse2 avx2{}\nbugs\t\t: some\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp{}\nCPU part\t: 0xd42\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (X86.format(""), "x86-64 with AVX2, without VNNI and without bf16"),
        (X86.format(" avx512f avx512_vnni amx_bf16"), "x86-64 with AVX-512, with VNNI and with bf16"),
        (ARM.format(""), "Arm with NEON, with integer dot products and without bf16"),
        (ARM.format(" bf16 i8mm"), "Arm with NEON, with integer dot products and with bf16"),
        ("", "x86-64 with no AVX2, without VNNI and without bf16"),
    ],
)
def test_a_processor_is_told_by_what_makes_networks_fast(said: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(said)
    found = processor(tmp_path)
    assert processor_words({**found, "cores": 3}) == f"{words}, 3 cores"
    assert ("Some CPU" in found["model"]) == ("Some CPU" in said)


def test_a_report_says_where_it_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = json.loads(json.dumps(provenance("sp-edge bench")))
    assert set(found) == {"command", "date", "versions", "system", "l4t", "gpu", "processor", "busy"}
    assert found["processor"]["threads"]["OMP_NUM_THREADS"] == "3"
    assert found["versions"].keys() >= {"sp-edge", "python", "numpy"}
    assert versions(("numpy", "no-such-package")).keys() == {"numpy"}


def test_other_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert busy(0.0, tmp_path) is None
    (tmp_path / "proc").mkdir()
    stat = tmp_path / "proc/stat"
    stat.write_text("cpu  100 0 100 1000 50 0 0 0 7 7\ncpu0 1 2 3\n")
    monkeypatch.setattr(provenance_module.time, "sleep", lambda _: stat.write_text("cpu  120 0 105 1060 65 0 0 0 9 9\n"))
    assert busy(1.0, tmp_path) == 0.25
