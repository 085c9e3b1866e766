from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device
from sp_edge_export.engines import verify as engine_verify
from sp_edge_export.engines.verify import engine_states
from toy_plans import DEVICE, put


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


@pytest.fixture(autouse=True)
def orin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_verify, "_device", lambda flavour: replace(DEVICE, flavour=flavour))


def test_a_bundle_without_engines(bundle: Bundle, tmp_path: Path) -> None:
    assert engine_states(bundle, tmp_path) == []


def test_each_engine_is_whole_or_not_and_fits_or_not(bundle: Bundle, tmp_path: Path) -> None:
    fits = put(bundle, tmp_path)
    old = put(bundle, tmp_path, replace(DEVICE, version="10.2"))
    damaged = put(bundle, tmp_path, graph="support")
    damaged.write_bytes(b"plen")
    states = {state.plan: state for state in engine_states(bundle, tmp_path)}
    assert str(states[fits]) == f"{fits.name}: fits this machine"
    assert str(states[old]) == f"{old.name}: whole, but not for this machine: built with version 10.2, here is 10.3.0"
    assert f"{damaged.name}: damaged. the engine {damaged.name} is not what its sidecar says" in str(states[damaged])
    written = json.loads(json.dumps([state.to_json() for state in states.values()]))
    assert {Path(state["plan"]).name: bool(state["error"]) for state in written} == {
        fits.name: False,
        old.name: False,
        damaged.name: True,
    }


def test_a_tensorrt_that_is_not_here_is_a_difference(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    monkeypatch.setattr(Device, "here", classmethod(lambda cls, flavour, version: replace(DEVICE, version=version)))
    put(bundle, tmp_path)
    (state,) = engine_states(bundle, tmp_path)
    assert state.differences == ("built with version 10.3.0, here is no tensorrt",)
