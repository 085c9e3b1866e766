"""What `--device auto` takes on a CPU: stand-in engines with stand-in times, then real ones."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import CPU
from sp_edge.errors import BackendError, MissingExtraError, SpEdgeError
from sp_edge_runtime.backends import devices
from sp_edge_runtime.backends import fastest as module
from sp_edge_runtime.backends import trials as trials_module
from sp_edge_runtime.backends.backend import Backend, UnfitError
from sp_edge_runtime.backends.devices import open_backend, open_on_cpu
from sp_edge_runtime.backends.fastest import candidates, fastest, open_fastest, remembered_here, shown
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from sp_edge_runtime.backends.trials import Form, Trial, tried

ALL = [("cpu", "fp32"), ("cpu", "int8"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With int8 in the form for CPUs."""
    folder = tmp_path_factory.mktemp("fastest") / "bundle"
    return Bundle.load(toy.make_bundle(folder, precisions=("fp32", "fp16", "int8"), for_cpu=True))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with OpenVINO and a cache of its own."""
    monkeypatch.setattr(module, "openvino_version", lambda: "2026.4")
    monkeypatch.setattr(module, "cache_folder", lambda name, error, *, next_step: tmp_path / "cache" / name)
    return tmp_path / "cache/fastest"


class Engines:
    """Opens stand-ins, which run in ONNX Runtime and take as long as is said; notes what was opened and timed."""

    def __init__(self, bundle: Bundle, times: dict[Form, float], errors: dict[Form, SpEdgeError] | None = None) -> None:
        self.bundle, self.times, self.errors = bundle, times, errors or {}
        self.opened: list[Form] = []
        self.timed: list[Form] = []

    def __call__(self, device: str, precision: str) -> Backend:
        form = (device, precision)
        self.opened.append(form)
        if form in self.errors:
            raise self.errors[form]
        backend = OnnxRuntimeBackend(self.bundle, "fp32", threads=1)
        backend._title = f"{device} {precision}"
        return backend

    def milliseconds(self, backend: Backend, image: NDArray[np.uint8]) -> float:
        assert (image.shape, image.dtype) == ((1, toy.SIDE, toy.SIDE, 3), np.uint8)
        device, precision = backend.title.split()
        self.timed.append((device, precision))
        return self.times[device, precision]


@pytest.fixture
def engines(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Engines:
    made = Engines(bundle, dict(zip(ALL, (10.0, 7.0, 9.0, 5.0, 3.0), strict=True)))
    monkeypatch.setattr(trials_module, "milliseconds", made.milliseconds)
    monkeypatch.setattr(module, "measured", lambda bundle, forms: list(tried(bundle, forms, made)))  # in this process
    return made


def test_the_fastest_is_taken_and_remembered(bundle: Bundle, engines: Engines, here: Path) -> None:
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "openvino int8"
        assert backend.why == "fastest here: 3.0 ms a picture, ONNX Runtime fp32 10.0"
    assert engines.opened == [*ALL, ("openvino", "int8")]
    assert engines.timed == ALL, "once each"
    engines.opened.clear()
    with open_fastest(bundle, None, engines) as backend:
        assert backend.why == "fastest here: 3.0 ms a picture, ONNX Runtime fp32 10.0"
    assert engines.opened == [("openvino", "int8")]
    ((path, trials),) = remembered_here()
    assert path == str(bundle.path)
    assert [(trial.device, trial.precision) for trial in trials] == ALL
    assert len(list(here.iterdir())) == 1


@pytest.mark.parametrize(
    ("times", "taken"),
    [
        ((10, 9.1, 9.2, 12, 9.5), "cpu fp32"),  # within the margin
        ((10, 8.9, 9.2, 12, 9.5), "cpu int8"),
        ((10, 8.9, 8.8, 12, 9.5), "openvino fp32"),
    ],
)
def test_what_is_not_clearly_faster_does_not_take_fp32s_place(
    bundle: Bundle, engines: Engines, times: tuple[float, ...], taken: str
) -> None:
    engines.times = dict(zip(ALL, times, strict=True))
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == taken
        assert ("ONNX Runtime fp32" in backend.why) == (taken != "cpu fp32")


def test_what_does_not_load_or_has_wrong_features_is_left_out_with_the_reason(
    bundle: Bundle, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.errors = {("openvino", "bf16"): UnfitError("this CPU has no bfloat16")}
    real = trials_module.check_golden

    def check(backend: Backend, *rest: Any, **options: Any) -> float:
        if backend.title == "openvino int8":
            raise UnfitError("OpenVINO computes wrong features (cosine 0.7\n on the golden pictures)")
        return real(backend, *rest, **options)

    monkeypatch.setattr(trials_module, "check_golden", check)
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "cpu int8"
    ((_, trials),) = remembered_here()
    assert [trial.why for trial in trials] == [
        "",
        "",
        "",
        "this CPU has no bfloat16",
        "OpenVINO computes wrong features (cosine 0.7 on the golden pictures)",
    ]
    assert ("openvino", "int8") not in engines.timed
    text = shown(trials)
    assert "left out: this CPU has no bfloat16" in text
    assert [line.split()[:3] for line in text.splitlines() if line.endswith("taken")] == [["ONNX", "Runtime", "int8"]]


def test_where_fp32_fails_the_fastest_of_the_others_runs_and_where_all_fail_the_first_error_is_told(
    bundle: Bundle, engines: Engines
) -> None:
    engines.errors = {ALL[0]: BackendError("no memory")}
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "openvino int8"
    engines.errors = {form: BackendError(f"no {form}") for form in ALL}
    with pytest.raises(BackendError, match=r"no \('cpu', 'fp32'\)"):
        open_fastest(bundle, None, engines)


def test_candidates(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Bundle.load(toy.make_bundle(tmp_path / "plain", precisions=("fp32", "int8")))
    assert candidates(bundle, None) == ALL
    assert candidates(bundle, "int8") == [("cpu", "int8"), ("openvino", "int8")], "what the user named is not changed"
    assert candidates(bundle, "fp16") == [("cpu", "fp16"), ("openvino", "fp16")]
    assert candidates(plain, None) == [("cpu", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")], "not the form for GPUs"
    monkeypatch.setattr(module, "openvino_version", lambda: None)
    assert candidates(bundle, None) == [("cpu", "fp32"), ("cpu", "int8")]
    assert candidates(plain, None) == [("cpu", "fp32")]


def test_one_candidate_is_opened_without_a_measurement(
    bundle: Bundle, engines: Engines, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "openvino_version", lambda: None)
    with open_fastest(bundle, "fp16", engines) as backend:
        assert (backend.title, backend.why) == ("cpu fp16", "")
    assert (engines.opened, engines.timed) == ([("cpu", "fp16")], [])
    assert not here.exists()


@pytest.mark.parametrize("what", ["precision", "openvino", "onnxruntime", "sp_edge", "threads", "cpu", "graphs"])
def test_it_is_measured_anew_where_anything_that_counts_is_another(
    bundle: Bundle, engines: Engines, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    open_fastest(bundle, None, engines).close()
    engines.timed.clear()
    precision, other = None, bundle
    if what == "precision":
        precision = "int8"
    elif what == "openvino":
        monkeypatch.setattr(module, "openvino_version", lambda: "2027.1")
    elif what == "onnxruntime":
        monkeypatch.setattr(onnxruntime, "__version__", "9.9")
    elif what == "sp_edge":
        monkeypatch.setattr("sp_edge.__version__", "9.9")
    elif what == "threads":
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(77)))
    elif what == "cpu":
        monkeypatch.setattr(module, "read_text", lambda _: "model name\t: another\nflags\t\t: avx512_vnni\n")
    else:
        other = Bundle.load(toy.make_bundle(tmp_path / "b", precisions=("fp32", "int8"), for_cpu=True, strength=0.5))
    engines.bundle = other
    open_fastest(other, precision, engines).close()
    assert engines.timed == candidates(other, precision)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind": "another", "trials": []}',
        json.dumps(
            {"kind": module.KIND, "trials": [{"device": "gpu", "precision": "x", "milliseconds": 1, "cosine": 1, "why": ""}]}
        ),
        json.dumps({"kind": module.KIND, "trials": [asdict(Trial("cpu", "fp32", why="broken"))]}),
    ],
)
def test_a_damaged_memory_is_made_anew(bundle: Bundle, engines: Engines, here: Path, content: bytes | str) -> None:
    open_fastest(bundle, None, engines).close()
    (file,) = here.iterdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert list(remembered_here()) == []
    engines.timed.clear()
    open_fastest(bundle, None, engines).close()
    assert engines.timed == ALL
    assert len(list(remembered_here())) == 1


def test_what_stopped_working_since_is_measured_anew(bundle: Bundle, engines: Engines) -> None:
    open_fastest(bundle, None, engines).close()
    engines.errors = {("openvino", "int8"): BackendError("gone")}
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "openvino bf16"


def test_a_home_that_cannot_be_written_or_is_none_costs_a_measurement_each_time(
    bundle: Bundle, engines: Engines, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.parent.write_text("a file in the place of the folder")
    for _ in range(2):
        engines.timed.clear()
        open_fastest(bundle, None, engines).close()
        assert engines.timed == ALL

    def homeless(_name: str, error: type[SpEdgeError], *, next_step: str) -> Path:
        raise error("no home", next_step=next_step)

    monkeypatch.setattr(module, "cache_folder", homeless)
    open_fastest(bundle, None, engines).close()
    assert list(remembered_here()) == []


def test_the_margin_counts_from_the_first_that_works() -> None:
    trials = [Trial("cpu", "fp32", why="broken"), Trial("cpu", "int8", 5.0, 0.99), Trial("openvino", "int8", 4.6, 0.99)]
    assert fastest(trials) is trials[1]
    assert [Trial.from_json(json.loads(json.dumps(asdict(trial)))) for trial in trials] == trials


def test_the_shortest_run_counts(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([5, 3, 4, 9, 9, 9])
    clock = [0.0]

    class Timed(OnnxRuntimeBackend):
        def run(self, graph: str, inputs: Any) -> dict[str, Any]:
            assert graph == "query"
            clock[0] += next(waits)
            return {}

    monkeypatch.setattr(trials_module.time, "perf_counter", lambda: clock[0])
    with Timed(bundle, "fp32") as backend:
        assert trials_module.milliseconds(backend, np.zeros((1, 32, 32, 3), np.uint8)) == 3000
    assert next(waits) == 9, "five runs"


def test_each_engine_is_closed_before_the_next_is_opened(bundle: Bundle, engines: Engines) -> None:
    events: list[str] = []

    class Closing(OnnxRuntimeBackend):
        def close(self) -> None:
            events.append("close")
            super().close()

    def opener(device: str, precision: str) -> Backend:
        events.append("open")
        backend = Closing(bundle, "fp32", threads=1)
        backend._title = f"{device} {precision}"
        return backend

    assert len(list(tried(bundle, ALL[:3], opener))) == 3
    assert events == ["open", "close"] * 3


def test_what_may_pass_is_tried_again_and_what_lasts_is_not(bundle: Bundle, engines: Engines) -> None:
    engines.errors = {
        ("openvino", "fp32"): MissingExtraError("cannot run", package="openvino", extra="openvino"),
        ("openvino", "bf16"): UnfitError("this CPU has no bfloat16"),
        ("openvino", "int8"): BackendError("out of memory"),
    }
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "cpu int8"
    engines.errors, engines.opened, engines.timed = {}, [], []
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "openvino int8"
    assert engines.timed == [("openvino", "int8")], "it alone"
    engines.timed = []
    open_fastest(bundle, None, engines).close()
    assert engines.timed == []
    ((_, trials),) = remembered_here()
    assert [(trial.device, trial.precision) for trial in trials] == ALL


@pytest.mark.parametrize(
    "wrong", [{"milliseconds": -1}, {"milliseconds": float("nan")}, {"milliseconds": 0}, {"cosine": 1e999}]
)
def test_a_time_that_cannot_be_is_measured_anew(bundle: Bundle, engines: Engines, here: Path, wrong: dict[str, float]) -> None:
    open_fastest(bundle, None, engines).close()
    (file,) = here.iterdir()
    content = json.loads(file.read_text("utf-8"))
    content["trials"][2] |= wrong
    file.write_text(json.dumps(content))
    engines.timed.clear()
    with open_fastest(bundle, None, engines) as backend:
        assert backend.title == "openvino int8"
    assert engines.timed == ALL


def test_it_is_measured_in_another_process(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    fp32, int8, lacking = trials_module.measured(bundle, [*ALL[:2], ("cpu", "bf16")])
    assert (fp32.why, int8.why) == ("", "")
    assert fp32.milliseconds
    assert int8.milliseconds
    assert lacking.why
    assert len(list(Path("/proc/self/task").iterdir())) == threads
    # One that crashes costs what it had not told yet.
    told = json.dumps(asdict(fp32))
    program = f"print('a library'); print({told!r}, flush=True); import os; os._exit(134)"
    monkeypatch.setattr(trials_module, "python_command", lambda *_: [sys.executable, "-c", program])
    assert trials_module.measured(bundle, ALL) == [fp32]
    monkeypatch.setattr(trials_module, "_TIMEOUT", 0.001)
    assert trials_module.measured(bundle, ALL) == []


def test_where_nothing_can_be_measured_the_first_runs_and_nothing_is_remembered(
    bundle: Bundle, engines: Engines, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measured", lambda *_: [])
    with open_fastest(bundle, None, engines) as backend:
        assert (backend.title, backend.why) == ("cpu fp32", "what is fastest could not be measured")
    assert not here.exists()

    def wrong(*_: Any, **__: Any) -> float:
        raise UnfitError("wrong features")

    monkeypatch.setattr(module, "check_golden", wrong)
    with pytest.raises(UnfitError):
        open_fastest(bundle, None, engines)


def test_auto_measures_real_engines(
    bundle: Bundle, here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "openvino", None)  # it seems to be installed, and does not load
    monkeypatch.setattr(module, "measured", lambda bundle, forms: list(tried(bundle, forms, partial(open_on_cpu, bundle))))
    caplog.set_level(logging.DEBUG, "sp_edge_runtime.backends")
    with open_backend(bundle) as backend:
        assert (
            "(auto: no TensorRT engine was built; this ONNX Runtime has no CUDA provider; fastest here: " in backend.description
        )
        assert "ONNX Runtime" in backend.title
    (text,) = (message for message in caplog.messages if "ms a picture" in message)
    lines = text.splitlines()
    assert len([line for line in lines if "OpenVINO" in line and "left out" in line]) == 3
    assert len([line for line in lines if line.endswith("taken")]) == 1
    assert len(list(here.iterdir())) == 1
    caplog.clear()
    open_backend(bundle, "cpu").close()
    assert caplog.messages == ["--device cpu was chosen: nothing is compared"]
    caplog.clear()
    monkeypatch.setattr(devices, "_cuda", lambda bundle, precision: OnnxRuntimeBackend(bundle, "fp32"))
    with open_backend(bundle) as backend:
        assert caplog.messages == [f"{backend.title} comes before this CPU's engines: nothing is compared"]
