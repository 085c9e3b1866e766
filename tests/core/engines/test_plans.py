from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device
from sp_edge.engines.plans import Plan, build_key, default_folder, find_plan, folder_of, plan_path, plans_of, sidecar_of
from sp_edge.errors import PlanError
from toy_plans import CONTENT, DEVICE, put

RTX = Device("tensorrt_rtx", "1.2.0.36", "8.9", "NVIDIA GeForce RTX 4090", "580.65", "13.0", None, "Linux", "x86_64")


def find(bundle: Bundle, folder: Path, batch: int = 1, device: Device = DEVICE, graph: str = "query") -> Plan:
    return find_plan(bundle, graph, "fp32", batch, device, folder=folder)


# --- places ---


def test_a_plan_stands_below_its_bundles_fingerprint(bundle: Bundle, tmp_path: Path) -> None:
    path = plan_path(bundle, "query", "fp16", 1, DEVICE, folder=tmp_path)
    assert path == tmp_path / bundle.fingerprint[:16] / "query.fp16.n1.tensorrt-10.3.0.sm87-orin.plan"
    assert sidecar_of(path).name == path.name + ".json"


@pytest.mark.parametrize(
    ("device", "targets", "key"),
    [
        (DEVICE, (), "tensorrt-10.3.0.sm87-orin"),
        (replace(DEVICE, compute_capability=None, gpu=None), (), "tensorrt-10.3.0.any"),
        (replace(DEVICE, gpu="NVIDIA Jetson/../Thor (T5000)"), (), "tensorrt-10.3.0.sm87-nvidia-jetson-thor-t5000"),
        (RTX, (), "tensorrt_rtx-1.2.0.36.any"),
        (RTX, ("8.6", "12.0"), "tensorrt_rtx-1.2.0.36.sm86-sm120"),
    ],
)
def test_a_name_keeps_devices_and_versions_apart(device: Device, targets: tuple[str, ...], key: str) -> None:
    assert build_key(device, targets) == key


def test_the_users_cache_is_the_place_unless_another_is_given(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "sp-edge" / "engines"
    assert folder_of(bundle).parent == default_folder()
    assert folder_of(bundle, tmp_path).parent == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder().is_relative_to(tmp_path / "home")


def test_without_a_home_there_is_a_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # an account that the system does not know, as in containers
    with pytest.raises(PlanError, match="--engines DIR"):
        default_folder()


# --- lookup ---


def test_the_plan_is_found_and_read(bundle: Bundle, tmp_path: Path) -> None:
    path = put(bundle, tmp_path)
    plan = find(bundle, tmp_path)
    assert plan.path == path
    assert plan.read() == CONTENT
    assert plans_of(bundle, tmp_path) == [path]


def test_the_smallest_profile_that_holds_the_batch_is_taken(bundle: Bundle, tmp_path: Path) -> None:
    for size in (16, 1, 8):
        put(bundle, tmp_path, max_batch=size)
    assert [find(bundle, tmp_path, batch).sidecar.max_batch for batch in (1, 2, 8, 9, 16)] == [1, 8, 8, 16, 16]
    with pytest.raises(PlanError) as raised:
        find(bundle, tmp_path, 17)
    assert raised.value.got.count("takes batches up to") == 3


def test_where_nothing_was_built_the_command_is_named(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no engine fits for the fp32 query graph") as raised:
        find(bundle, tmp_path)
    assert raised.value.got == "none was built"
    assert raised.value.next_step == f"sp-edge export {bundle.path} --format engine --precision fp32"
    assert plans_of(bundle, tmp_path / "nothing there") == []


def test_of_each_plan_that_does_not_fit_it_is_said_why(bundle: Bundle, tmp_path: Path) -> None:
    put(bundle, tmp_path, replace(DEVICE, version="10.16.1"))
    put(bundle, tmp_path, replace(DEVICE, gpu="Thor", compute_capability="11.0"))
    put(bundle, tmp_path, RTX)
    damaged = put(bundle, tmp_path)
    sidecar_of(damaged).write_text("{")
    with pytest.raises(PlanError) as raised:
        find(bundle, tmp_path)
    for words in (
        "built with version 10.16.1",
        "gpu Thor, here is Orin",
        "built by tensorrt_rtx",
        f"{damaged.name}: cannot read",
    ):
        assert words in raised.value.got


def test_other_graphs_plans_are_no_reason(bundle: Bundle, tmp_path: Path) -> None:
    put(bundle, tmp_path, graph="support")
    with pytest.raises(PlanError) as raised:
        find(bundle, tmp_path)
    assert raised.value.got == "none was built"
    assert find(bundle, tmp_path, graph="support").sidecar.graph == "support"


def test_a_renamed_plan_does_not_pass_for_another(bundle: Bundle, tmp_path: Path) -> None:
    path = put(bundle, tmp_path, graph="support")
    other = path.with_name(path.name.replace("support", "query"))
    path.rename(other)
    sidecar_of(path).rename(sidecar_of(other))
    with pytest.raises(PlanError, match="its sidecar is of the fp32 support graph"):
        find(bundle, tmp_path)


def test_half_written_plans_are_not_looked_at(bundle: Bundle, tmp_path: Path) -> None:
    path = put(bundle, tmp_path)
    path.rename(path.with_name(f".{path.name[:20]}.0123456789abcdef.plan"))
    assert plans_of(bundle, tmp_path) == []


# --- what is native code must be what was built ---


@pytest.mark.parametrize("content", [b"", b"plen", b"plan\0", b"pla"])
def test_a_plan_that_has_changed_is_not_given_out(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    path = put(bundle, tmp_path)
    path.write_bytes(content)
    with pytest.raises(PlanError, match="not what its sidecar says") as raised:
        find(bundle, tmp_path).read()
    assert "4 bytes" in raised.value.expected
    assert f"{len(content)} bytes" in raised.value.got


def test_a_plan_that_goes_away_is_our_error(bundle: Bundle, tmp_path: Path) -> None:
    plan = Plan.load(put(bundle, tmp_path))
    plan.path.unlink()
    with pytest.raises(PlanError, match="cannot read the engine"):
        plan.read()


@pytest.mark.parametrize("missing", ["plan", "sidecar"])
def test_a_plan_and_its_sidecar_go_together(bundle: Bundle, tmp_path: Path, missing: str) -> None:
    path = put(bundle, tmp_path)
    (path if missing == "plan" else sidecar_of(path)).unlink()
    with pytest.raises(PlanError, match="no file"):
        Plan.load(path)


@pytest.mark.parametrize("which", ["plan", "sidecar", "folder"])
def test_what_everybody_may_write_is_not_read(bundle: Bundle, tmp_path: Path, which: str) -> None:
    path = put(bundle, tmp_path)
    writable = {"plan": path, "sidecar": sidecar_of(path), "folder": path.parent}[which]
    writable.chmod(0o777)
    with pytest.raises(PlanError, match="everybody may write") as raised:
        Plan.load(path)
    assert "chmod o-w" in raised.value.next_step
    with pytest.raises(PlanError, match="everybody may write"):
        find(bundle, tmp_path)
    writable.chmod(0o755)
    assert Plan.load(path).read() == CONTENT


def test_a_pipe_does_not_hang(bundle: Bundle, tmp_path: Path) -> None:
    path = put(bundle, tmp_path)
    sidecar_of(path).unlink()
    os.mkfifo(sidecar_of(path))
    with pytest.raises(PlanError, match="is no file"):
        Plan.load(path)


@given(content=st.binary(max_size=80))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_no_sidecar(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    path = put(bundle, tmp_path)
    sidecar_of(path).write_bytes(content)
    with pytest.raises(PlanError):
        Plan.load(path)
