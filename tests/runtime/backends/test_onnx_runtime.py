import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import toy
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.session import CPU, CUDA
from sp_edge.errors import BackendError, BundleError, SettingsError
from sp_edge_runtime.backends.devices import open_backend
from sp_edge_runtime.backends.onnx_runtime import OnnxRuntimeBackend


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    return Bundle.load(toy_bundle)


@pytest.fixture
def own_bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_bundle, tmp_path / "own"))


def change(folder: Path, name: str, model: onnx.ModelProto | bytes) -> Bundle:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / f"{name}.onnx").write_bytes(content)
    toy.reseal(folder)
    return Bundle.load(folder)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, toy.SIDE, toy.SIDE, 3), dtype=np.uint8)


def test_both_graphs_give_the_golden_features(bundle: Bundle) -> None:
    golden = bundle.golden()
    with OnnxRuntimeBackend(bundle) as backend:
        query = backend.run("query", {"image": golden.images})
        support = backend.run("support", {"image": golden.images, "prompt": golden.prompts})
    assert (set(query), set(support)) == ({"feature"}, {"feature", "plain"})
    np.testing.assert_allclose(query["feature"], golden.query, atol=1e-5)
    np.testing.assert_allclose(support["feature"], golden.support, atol=1e-5)
    np.testing.assert_allclose(support["plain"], golden.query, atol=1e-5)
    assert np.abs(golden.support - golden.query).max() > 0.01


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_any_batch(bundle: Bundle, count: int) -> None:
    images = pictures(count)
    with OnnxRuntimeBackend(bundle, threads=1) as backend:
        feature = backend.run("query", {"image": images})["feature"]
    assert feature.dtype == np.float32
    np.testing.assert_allclose(feature, toy.features(images), atol=1e-5)


def test_int8_is_the_form_for_cpus_where_the_bundle_has_one(tmp_path: Path) -> None:
    for for_cpu, share in ((True, 0.9), (False, 1)):
        bundle = Bundle.load(toy.make_bundle(tmp_path / str(for_cpu), precisions=("fp32", "int8"), for_cpu=for_cpu))
        golden = bundle.golden()
        with open_backend(bundle, "cpu", "int8") as backend:
            assert backend.description.endswith("on CPU, int8")
            got = backend.run("support", {"image": golden.images, "prompt": golden.prompts})
        np.testing.assert_allclose(got["feature"], toy.features(golden.images, share * golden.prompts), atol=1e-5)


def test_a_gpu_takes_the_other_form_of_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "eight", precisions=("fp32", "int8"), for_cpu=True))
    opened = []

    def session(content: bytes, name: str, *_: object, **__: object) -> None:
        opened.append((content, name))
        raise BackendError("no GPU")

    monkeypatch.setattr("sp_edge_runtime.backends.onnx_runtime.Session", session)
    with pytest.raises(BackendError, match="no GPU"):
        OnnxRuntimeBackend(bundle, "int8", providers=(CUDA, CPU)).open("query")
    assert opened == [(bundle.read_graph("query", "int8"), "query.int8.onnx")]


def test_half_precision_runs_on_a_cpu(tmp_path: Path) -> None:
    bundle = Bundle.load(toy.make_bundle(tmp_path / "half", precisions=("fp32", "fp16")))
    images = pictures(2)
    with open_backend(bundle, "cpu", "fp16") as half, open_backend(bundle, "cpu", "fp32") as full:
        assert half.description.endswith("on CPU, fp16")
        assert full.description.endswith("on CPU, fp32")
        got = half.run("query", {"image": images})["feature"]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, toy.features(images), atol=5e-3)
        assert not np.array_equal(got, full.run("query", {"image": images})["feature"])


def test_graphs_are_opened_when_first_asked_for(own_bundle: Path) -> None:
    bundle = change(own_bundle, "support", b"not a graph")
    with OnnxRuntimeBackend(bundle) as backend:
        backend.run("query", {"image": pictures(1)})
        with pytest.raises(BackendError, match=r"cannot load support\.onnx"):
            backend.run("support", {"image": pictures(1), "prompt": np.zeros((1, 8), np.float32)})


def test_a_graph_that_was_put_in_its_place_is_not_opened(own_bundle: Path, tmp_path: Path) -> None:
    with OnnxRuntimeBackend(Bundle.load(own_bundle)) as backend:
        backend.run("query", {"image": pictures(1)})
        another = toy.make_bundle(tmp_path / "another", strength=0.3)  # a whole bundle, as an export swaps it in
        shutil.rmtree(own_bundle)
        another.rename(own_bundle)
        with pytest.raises(BundleError, match=r"has changed: support\.onnx"):
            backend.run("support", {"image": pictures(1), "prompt": np.zeros((1, 8), np.float32)})


def test_a_precision_that_was_not_exported(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no int8 graphs"):
        OnnxRuntimeBackend(bundle, "int8")


def test_no_threads(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="threads"):
        OnnxRuntimeBackend(bundle, threads=0)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (toy.graph("query", batch=1), "(1, 32, 32, 3)"),
        (toy.graph("query", side=64), "(N, 64, 64, 3)"),
        (toy.graph("support"), "prompt"),
    ],
    ids=["fixed batch", "other size", "one input too many"],
)
def test_a_graph_that_is_not_what_the_manifest_says(own_bundle: Path, model: onnx.ModelProto, word: str) -> None:
    bundle = change(own_bundle, "query", model)
    with OnnxRuntimeBackend(bundle) as backend, pytest.raises(BundleError, match="not what the manifest says") as caught:
        backend.open("query")
    assert word in caught.value.got
    assert "uint8 (N, 32, 32, 3)" in caught.value.expected


def test_another_type_or_name(own_bundle: Path) -> None:
    for field, value in (("name", "picture"), ("type", onnx.TensorProto.FLOAT)):
        model = toy.graph("query")
        if field == "name":
            model.graph.input[0].name = model.graph.node[0].input[0] = value
        else:
            model.graph.input[0].type.tensor_type.elem_type = value
        bundle = change(own_bundle, "query", model)
        with OnnxRuntimeBackend(bundle) as backend, pytest.raises(BundleError):
            backend.open("query")


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.zeros((1, 16, 32, 3), np.uint8)},
        {"image": np.zeros((1, 32, 32, 3), np.float32)},
        {},
        {"image": np.zeros((1, 32, 32, 3), np.uint8), "prompt": np.zeros((1, 8), np.float32)},
    ],
    ids=["shape", "type", "missing", "surplus"],
)
def test_inputs_that_do_not_fit(bundle: Bundle, inputs: dict[str, np.ndarray], capfd: pytest.CaptureFixture[str]) -> None:
    with OnnxRuntimeBackend(bundle) as backend, pytest.raises(BackendError, match="do not fit the query graph") as caught:
        backend.run("query", inputs)
    assert caught.value.expected == "image uint8 (N, 32, 32, 3), N at least 1"
    assert capfd.readouterr() == ("", "")


def test_closed_is_closed(bundle: Bundle) -> None:
    backend = OnnxRuntimeBackend(bundle)
    backend.run("query", {"image": pictures(1)})
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run("query", {"image": pictures(1)})


def test_threads_that_ask_at_once_share_one_session(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = onnxruntime.InferenceSession

    def counting(*args: object, **kwargs: object) -> object:
        opened.append(args[0])
        return real(*args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counting)
    images = pictures(4)
    got: list[np.ndarray] = []
    with OnnxRuntimeBackend(bundle) as backend:
        workers = [
            threading.Thread(target=lambda: got.append(backend.run("query", {"image": images})["feature"])) for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(opened) == 1
    assert len(got) == 4
    for feature in got:
        np.testing.assert_allclose(feature, toy.features(images), atol=1e-5)


def test_a_provider_that_this_onnxruntime_lacks_is_not_replaced_silently(bundle: Bundle) -> None:
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with (
        pytest.warns(UserWarning, match="not in available provider"),
        OnnxRuntimeBackend(bundle, providers=(CUDA, CPU)) as backend,
        pytest.raises(BackendError, match="did not take"),
    ):
        backend.open("query")
