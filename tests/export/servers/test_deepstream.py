import configparser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import toy
from sp_edge.bank.bank import Bank
from sp_edge.errors import BankError, BundleError, SettingsError
from sp_edge_export.servers.deepstream import CONFIG, GRAPH, LABELS, _crop, deepstream_graph, write_deepstream
from sp_edge_export.servers.triton import write_repository
from sp_edge_runtime.recognizer import Recognizer


@pytest.mark.parametrize("classifier", ["prototype", "lr"])
def test_the_graph_decides_as_the_recognizer_does(recognizer: Recognizer, tmp_path: Path, classifier: str) -> None:
    write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds", classifier=classifier)
    noise = np.random.default_rng(0).integers(0, 256, (toy.SIDE, toy.SIDE, 3), dtype=np.uint8)
    pictures = [toy.picture("red", seed=7), toy.picture("green", seed=8), noise]
    prepared = np.stack([recognizer.bundle.manifest.preprocess(picture) for picture in pictures])
    session = onnxruntime.InferenceSession(str(tmp_path / "ds" / GRAPH), providers=["CPUExecutionProvider"])
    # As nvinfer does: planes of float32, values 0 to 255.
    (rows,) = session.run(["probability"], {"pixels": prepared.transpose(0, 3, 1, 2).astype(np.float32)})
    labels = (tmp_path / "ds" / LABELS).read_text(encoding="utf-8").strip().split(";")
    decides = Recognizer(recognizer.bundle, recognizer.bank, recognizer.backend, classifier=classifier)
    predictions = decides.classify(pictures)
    assert [labels[row.argmax()] for row in rows] == [p.label for p in predictions] == ["red", "green", "unknown"]
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows[:2].max(axis=1), [p.confidence for p in predictions[:2]], atol=1e-5)
    assert f"classifier `{classifier}`" in (tmp_path / "ds/README.md").read_text()


def test_the_configuration(recognizer: Recognizer, tmp_path: Path) -> None:
    write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds", max_batch=4)
    read = configparser.ConfigParser()
    read.read(tmp_path / "ds" / CONFIG)
    config = dict(read["property"])
    for key in ("onnx-file", "labelfile-path"):
        assert (tmp_path / "ds" / config[key]).is_file()
    model = onnx.load(tmp_path / "ds" / GRAPH)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert config["infer-dims"] == ";".join(map(str, shape[1:])) == f"3;{toy.SIDE};{toy.SIDE}"
    assert config["output-blob-names"] == model.graph.output[0].name
    # Normalisation is inside the graph: nvinfer scales by nothing and shifts by nothing.
    assert (config["net-scale-factor"], config["model-color-format"], config["batch-size"]) == ("1", "0", "4")
    assert "offsets" not in config


def test_half_precision(tmp_path: Path) -> None:
    recognizer = Recognizer.load(toy.make_bundle(tmp_path / "both", precisions=("fp32", "fp16")), device="cpu")
    recognizer.enroll("red", [toy.picture("red")])
    model = deepstream_graph(recognizer.bundle, recognizer.bank, "fp16")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = toy.picture("red")[None].transpose(0, 3, 1, 2).astype(np.float32)
    (rows,) = session.run(["probability"], {"pixels": pixels})
    assert rows.argmax(axis=1).tolist() == [0]


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (720, 1280), (641, 479)])
def test_the_crop_is_the_centred_square_of_preprocessing(width: int, height: int) -> None:
    left, top, side, same = map(int, _crop(width, height, 1.1).split(":"))
    assert side == same
    assert all(number % 2 == 0 for number in (left, top, side))
    assert abs(side - min(width, height) / 1.1) <= 1
    assert abs(left - (width - side) / 2) <= 2
    assert abs(top - (height - side) / 2) <= 2


@pytest.mark.parametrize("classifier", ["prototype", "lr"])
def test_tensorrt_reads_it(recognizer: Recognizer, classifier: str) -> None:
    trt = pytest.importorskip("tensorrt")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    model = deepstream_graph(recognizer.bundle, recognizer.bank, "fp32", classifier)
    read = parser.parse(model.SerializeToString())
    assert read, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert [network.get_input(0).name, network.get_output(0).name] == ["pixels", "probability"]


def test_a_name_that_would_split(recognizer: Recognizer, tmp_path: Path) -> None:
    recognizer.enroll("nuts; bolts", [toy.picture("blue")], prompt=toy.prompts().vector("blue"))
    with pytest.raises(BankError, match="names without ';'"):
        write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds")
    assert not (tmp_path / "ds").exists()


def test_what_is_not_ours_is_left_alone(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError, match=r"mine is in the way[\s\S]*letter\.txt"):
        write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    with pytest.raises(BundleError):
        write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds", precision="int8")
    with pytest.raises(SettingsError, match="largest batch"):
        write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds", max_batch=0)
    with pytest.raises(BankError, match="the bank is empty"):
        write_deepstream(recognizer.bundle, Bank.empty(recognizer.bundle), tmp_path / "ds")


def test_written_again(recognizer: Recognizer, tmp_path: Path) -> None:
    write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds")
    recognizer.enroll("blue", [toy.picture("blue")])
    write_deepstream(recognizer.bundle, recognizer.bank, tmp_path / "ds")
    assert (tmp_path / "ds" / LABELS).read_text(encoding="utf-8") == "red;green;blue;unknown\n"


def test_an_earlier_folder_goes_with_its_engine_and_not_with_what_somebody_else_put_there(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    out = tmp_path / "ds"
    write_deepstream(recognizer.bundle, recognizer.bank, out)
    read = configparser.ConfigParser()
    read.read(out / CONFIG)
    engine = out / read["property"]["model-engine-file"]
    engine.write_bytes(b"built by nvinfer of the graph before")
    (out / "pipeline.txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"in the way[\s\S]*pipeline\.txt"):
        write_deepstream(recognizer.bundle, recognizer.bank, out)
    assert (out / "pipeline.txt").read_text() == "mine"
    (out / "pipeline.txt").unlink()
    write_deepstream(recognizer.bundle, recognizer.bank, out)
    assert not engine.exists(), "the new graph has other classes"


@pytest.mark.parametrize("write", [write_deepstream, write_repository])
def test_a_bank_with_another_fit_is_refused(recognizer: Recognizer, tmp_path: Path, write: Callable[..., object]) -> None:
    with pytest.raises(BankError, match="another fit") as error:
        write(recognizer.bundle, replace(recognizer.bank, fit="pad"), tmp_path / "out")
    assert "--fit crop" in error.value.next_step
    assert not (tmp_path / "out").exists()
