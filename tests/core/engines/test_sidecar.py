from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile import json_values, paths
from sp_edge.bundle.bundle import Bundle
from sp_edge.engines.device import Device
from sp_edge.engines.sidecar import SCHEMA, Latency, Parity, Sidecar, Tensor
from sp_edge.errors import PlanError
from toy_plans import DEVICE, sidecar

JSON = json_values("", "..", "8.7", "fp16", "query", "tensorrt", "\ud800", "a\0b", "x" * 300, "0" * 64)


FULL = sidecar("0" * 64, "1" * 64, graph="support", max_batch=8)
FULL = replace(
    FULL, calibration="2" * 64, kernels={"float16": 3}, latency=Latency(1.5, 1.25, 8, 200), parity=Parity(0.9999, 0.999, 8)
)


@pytest.mark.parametrize("whole", [FULL, sidecar("0" * 64, "1" * 64, targets=("8.6", "12.0"), flavour="tensorrt_rtx")])
def test_a_sidecar_comes_back_as_it_went(whole: Sidecar) -> None:
    assert Sidecar.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_all_that_a_plan_depends_on_is_in_the_file() -> None:
    written = FULL.to_json()
    assert set(written["device"]) == {field.name for field in fields(Device)}
    assert written["plan_sha256"] == FULL.plan_sha256
    assert written["onnx_sha256"] == "1" * 64
    assert [written[key] for key in ("max_batch", "workspace", "optimization_level")] == [8, 1.0, 3]
    assert written["inputs"][1] == {
        "name": "prompt",
        "dtype": "float32",
        "shape": (-1, 4),
        "profile": ((1, 4), (8, 4), (8, 4)),
    }
    assert written["latency"]["median_ms"] == 1.5
    assert written["parity"]["cosine_min"] == 0.999


@given(data=st.data())
@settings(deadline=None, max_examples=400)
def test_whatever_stands_there_it_is_a_sidecar_or_a_plan_error(data: st.DataObject) -> None:
    value: Any = json.loads(json.dumps(FULL.to_json()))
    *way, last = data.draw(st.sampled_from(paths(value)))
    inner = value
    for key in way:
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[last]
    else:
        inner[last] = data.draw(JSON)
    try:
        read = Sidecar.from_json(value)
    except PlanError as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    assert Sidecar.from_json(json.loads(json.dumps(read.to_json()))) == read
    assert 1 <= read.max_batch <= 1024
    assert read.plan_bytes > 0
    assert math.isfinite(read.workspace)


@given(value=st.dictionaries(st.text(max_size=6), JSON, max_size=4))
@settings(deadline=None)
def test_any_other_object_is_a_plan_error(value: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        Sidecar.from_json(value)
    with pytest.raises(PlanError):
        Sidecar.from_json({"kind": "sp-edge engine", "schema": SCHEMA, **value})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"graph": "head"}, "graph"),
        ({"precision": "fp8"}, "precision"),
        ({"plan_sha256": "0" * 63}, "digests"),
        ({"bundle": "G" * 64}, "digests"),
        ({"calibration": "none"}, "calibration"),
        ({"plan_bytes": 0}, "plan bytes"),
        ({"device": replace(DEVICE, flavour="onnxruntime")}, "device"),
        ({"device": replace(DEVICE, version="")}, "device"),
        ({"targets": ("sm87",)}, "targets"),
        ({"inputs": FULL.inputs[:1]}, "inputs"),
        ({"outputs": ()}, "outputs"),
        ({"outputs": FULL.outputs[:1]}, "outputs"),
        ({"outputs": FULL.outputs[:1] * 2}, "outputs"),
        ({"inputs": (FULL.inputs[0], replace(FULL.inputs[1], dtype="float8"))}, "tensors"),
        ({"inputs": (FULL.inputs[0], replace(FULL.inputs[1], profile=None))}, "tensors"),
        ({"inputs": (FULL.inputs[0], replace(FULL.inputs[1], shape=(8, 4)))}, "tensors"),
        ({"outputs": (FULL.outputs[0], Tensor("plain", "float32", ()))}, "tensors"),
        ({"outputs": (FULL.outputs[0], replace(FULL.outputs[1], profile=((1, 6), (8, 6), (8, 6))))}, "tensors"),
        ({"layers": {"float16": 0}}, "layers"),
        ({"max_batch": 4}, "tensors"),
        ({"max_batch": 1025}, "batch"),
        ({"workspace": math.nan}, "workspace"),
        ({"optimization_level": 6}, "optimization level"),
        ({"latency": Latency(math.nan, 1.0, 1, 10)}, "latency"),
        ({"latency": Latency(1.0, 2.0, 1, 10)}, "latency"),
        ({"parity": Parity(0.9, 0.95, 8)}, "parity"),
        ({"parity": Parity(math.nan, math.nan, 8)}, "parity"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, Any], name: str) -> None:
    with pytest.raises(PlanError, match="cannot be") as raised:
        replace(FULL, **change)
    assert name in raised.value.got


@pytest.mark.parametrize("change", [{"schema": 1}, {"schema": str(SCHEMA)}, {"kind": "sp-edge bundle"}])
def test_another_kind_or_schema_says_to_build_again(change: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=f"schema: {SCHEMA}") as raised:
        Sidecar.from_json({**FULL.to_json(), **change})
    assert raised.value.next_step == "build the engine again"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("optimization_level", True, r"Expected `int`, got `bool` - at `\$\.optimization_level`"),
        ("workspace", "1", r"Expected `float`, got `str` - at `\$\.workspace`"),
        ("targets", [8.7], r"Expected `str`, got `float` - at `\$\.targets\[0\]`"),
    ],
)
def test_a_value_of_another_type_is_named(field: str, value: object, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        Sidecar.from_json({**json.loads(json.dumps(FULL.to_json())), field: value})


def test_a_field_that_is_missing_is_named() -> None:
    written = FULL.to_json()
    del written["device"]
    with pytest.raises(PlanError, match="missing required field `device`"):
        Sidecar.from_json(written)


# --- what differs ---


def built(bundle: Bundle, **changes: Any) -> Sidecar:
    digest, _ = bundle.manifest.files["query.onnx"]
    return sidecar(bundle.fingerprint, digest, precision="fp32", **changes)


def test_nothing_differs_where_it_was_built(bundle: Bundle) -> None:
    assert built(bundle).differences(bundle, DEVICE) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"flavour": "tensorrt_rtx"}, "built by tensorrt, not tensorrt_rtx"),
        ({"version": "10.16.1.5"}, "built with version 10.3.0, here is 10.16.1.5"),
        ({"compute_capability": "11.0"}, "built with compute capability 8.7, here is 11.0"),
        ({"gpu": "Orin Nano"}, "built with gpu Orin, here is Orin Nano"),
        ({"l4t": "36.5.0"}, "built with l4t 36.4.3, here is 36.5.0"),
        ({"l4t": None}, "built with l4t 36.4.3, here is unknown"),
        ({"machine": "x86_64"}, "built with machine aarch64, here is x86_64"),
        ({"system": "Darwin"}, "built with system Linux, here is Darwin"),
        ({"compute_capability": None}, "no NVIDIA GPU can be used here"),
    ],
)
def test_what_differs_is_named(bundle: Bundle, change: dict[str, Any], words: str) -> None:
    assert built(bundle).differences(bundle, replace(DEVICE, **change)) == (words,)


@pytest.mark.parametrize("change", [{"driver": "580.65.06"}, {"cuda": "13.0"}])
def test_a_newer_driver_is_no_other_machine(bundle: Bundle, change: dict[str, Any]) -> None:
    assert built(bundle).differences(bundle, replace(DEVICE, **change)) == ()


def test_another_graph_or_bundle_is_named(bundle: Bundle) -> None:
    (words,) = replace(built(bundle), onnx_sha256="3" * 64).differences(bundle, DEVICE)
    assert words == "built from another fp32 query graph than the bundle has now"
    (words,) = replace(built(bundle), precision="int8").differences(bundle, DEVICE)
    assert words == "the bundle has no int8 graphs now"
    (words,) = replace(built(bundle), bundle="4" * 64).differences(bundle, DEVICE)
    assert words == f"built from bundle 444444444444, not {bundle.fingerprint[:12]}"


def test_a_portable_engine_fits_the_gpus_that_it_was_built_for(bundle: Bundle) -> None:
    desktop = Device("tensorrt_rtx", "1.2.0.36", "12.0", "NVIDIA GeForce RTX 5090", "580.65", "13.0", None, "Linux", "x86_64")
    nowhere = replace(desktop, compute_capability=None, gpu=None, driver=None, cuda=None)
    everywhere = replace(built(bundle), device=nowhere)
    assert everywhere.differences(bundle, desktop) == ()
    assert everywhere.differences(bundle, replace(desktop, version="1.3.0.1")) == (
        "built with version 1.2.0.36, here is 1.3.0.1",
    )
    turing = replace(desktop, compute_capability="7.5")
    assert everywhere.differences(bundle, turing) == ("built for compute capability 8.0 and later, here is 7.5",)
    assert replace(everywhere, targets=("7.5",)).differences(bundle, turing) == ()
    some = replace(everywhere, targets=("8.6", "8.9"))
    assert some.differences(bundle, desktop) == ("built for compute capability 8.6, 8.9, here is 12.0",)
    assert some.differences(bundle, replace(desktop, compute_capability="8.9")) == ()
