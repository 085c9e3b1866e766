from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sp_edge import runs
from sp_edge.errors import SettingsError
from sp_edge.training import accelerator
from sp_edge.training.accelerator import Share, make_accelerator, new_run, torch_device


@pytest.mark.parametrize("device", ["gpu", "", "cuda:0", "CPU"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="unknown device") as raised:
        make_accelerator("fp32", device)
    assert raised.value.expected == "auto, cpu or cuda"


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no CUDA GPU") as raised:
        make_accelerator("fp32", "cuda")
    assert raised.value.next_step == "--device cpu"


@pytest.mark.parametrize(
    ("precision", "capabilities", "expected"),
    [
        ("auto", {"avx512_bf16": True}, "bf16"),
        ("auto", {"amx_bf16": True}, "bf16"),
        ("auto", {"avx512_bf16": False, "avx2": True}, "no"),
        ("auto", {}, "no"),
        ("bf16", {}, "bf16"),
        ("fp32", {"amx_bf16": True}, "no"),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, capabilities: dict[str, bool], expected: str
) -> None:
    asked = made(monkeypatch, capabilities, right=True)
    make_accelerator(precision, "cpu")
    assert asked == [(True, expected)]


@pytest.mark.parametrize(("precision", "expected"), [("auto", "no"), ("bf16", "bf16"), ("fp32", "no")])
def test_bf16_that_computes_wrong_is_told_and_auto_does_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, precision: str, expected: str
) -> None:
    asked = made(monkeypatch, {"amx_bf16": True}, right=False)
    make_accelerator(precision, "cpu")
    assert asked == [(True, expected)]
    assert ("come out wrong here" in caplog.text) == (precision != "fp32")
    assert ("training in fp32" in caplog.text) == (precision == "auto")


def test_bf16_is_right_in_a_process_that_begins_to_train() -> None:
    """Also where the processor has AMX, with which oneDNN 3.12 computes noise."""
    program = (
        "from sp_edge.training.accelerator import bf16_is_right, make_accelerator; import torch; "
        "made = make_accelerator('auto', 'cpu'); assert made.mixed_precision == 'no' or bf16_is_right(); "
        "has = getattr(torch.cpu, 'get_capabilities', dict)(); "
        "assert (made.mixed_precision == 'bf16') == bool(has.get('amx_bf16') or has.get('avx512_bf16'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def made(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], *, right: bool) -> list[tuple[bool, str]]:
    """What accelerators are asked for from now on, on a processor like this: on a CPU or not, and in which precision."""
    asked: list[tuple[bool, str]] = []
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(accelerator, "bf16_is_right", lambda: right)

    class Alone:
        def __init__(self, *, cpu: bool, mixed_precision: str, **_: object) -> None:
            asked.append((cpu, mixed_precision))

    monkeypatch.setattr("accelerate.Accelerator", Alone)
    return asked


def test_a_process_that_has_trained_in_one_precision_says_that_it_cannot_in_another() -> None:
    assert make_accelerator("fp32", "cpu").mixed_precision == "no"
    with pytest.raises(SettingsError, match="one precision") as raised:
        make_accelerator("bf16", "cpu")
    assert raised.value.next_step == "train in another process"


def test_shares_are_equal_in_order_and_leave_nothing_out() -> None:
    things = list(range(12))
    for count in (1, 2, 3, 12):
        shares = [things[Share(index, count).rows(12, "batch")] for index in range(count)]
        assert [thing for share in shares for thing in share] == things
        assert {len(share) for share in shares} == {12 // count}
    assert things[Share().rows(12, "batch")] == things


def test_what_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"tune\.episodes_per_step cannot be divided") as raised:
        Share(1, 4).rows(6, "tune.episodes_per_step")
    assert (raised.value.expected, raised.value.got) == ("a multiple of 4", "6")


def test_one_process_makes_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "6").mkdir(parents=True)
    assert new_run(make_accelerator("fp32", "cpu")) == runs.ROOT / "7"
    assert (tmp_path / "runs" / "7").is_dir()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [torch_device(device) for device in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(SettingsError, match="no CUDA GPU"):
        torch_device("cuda")
    with pytest.raises(SettingsError, match="unknown device"):
        torch_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [torch_device(device) for device in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
