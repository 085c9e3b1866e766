import shutil
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.bank.bank import Bank
from sp_edge.errors import BankError, BundleError, SettingsError
from sp_edge.files import read_json
from sp_edge_export.servers.triton import ENSEMBLE, HEAD, KEPT, QUERY, RECORD, SUPPORT, Repository, write_repository
from sp_edge_runtime.recognizer import Recognizer
from triton_stand_in import Served


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def write(recognizer: Recognizer, out: Path, **options: object) -> Repository:
    return write_repository(recognizer.bundle, recognizer.bank, out, **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("classifier", ["prototype", "lr"])
def test_the_ensemble_answers_as_the_recognizer_does(recognizer: Recognizer, out: Path, classifier: str) -> None:
    write(recognizer, out, classifier=classifier)
    noise = np.random.default_rng(0).integers(0, 256, (toy.SIDE, toy.SIDE, 3), dtype=np.uint8)
    pictures = [toy.picture("red", seed=7), toy.picture("green", seed=8), noise]
    prepare = recognizer.bundle.manifest.preprocess
    answer = Served(out).infer(ENSEMBLE, {"image": np.stack([prepare(picture) for picture in pictures])})
    decides = Recognizer(recognizer.bundle, recognizer.bank, recognizer.backend, classifier=classifier)
    predictions = decides.classify(pictures)
    assert answer["label"][:, 0].tolist() == [prediction.label for prediction in predictions] == ["red", "green", "unknown"]
    np.testing.assert_allclose(answer["similarity"].max(axis=1), [p.similarity for p in predictions], atol=1e-5)
    np.testing.assert_allclose(answer["confidence"].max(axis=1), [p.confidence for p in predictions], atol=1e-5)
    assert f"classifier `{classifier}`" in (out / "README.md").read_text()


def test_another_classifier_is_another_head(recognizer: Recognizer, out: Path) -> None:
    write(recognizer, out)
    image = {"image": toy.picture("red", seed=7)[None]}
    before = Served(out).infer(ENSEMBLE, image)["confidence"]
    assert write(recognizer, out, classifier="lr") == Repository(out, head=1, encoders=True)
    assert np.abs(Served(out).infer(ENSEMBLE, image)["confidence"] - before).max() > 0.01
    with pytest.raises(SettingsError, match="unknown classifier"):
        write(recognizer, out, classifier="svm")


def test_the_support_encoder_teaches(recognizer: Recognizer, out: Path) -> None:
    write(recognizer, out)
    image, prompt = toy.picture("blue")[None], toy.prompts().vector("blue")[None]
    answer = Served(out).infer(SUPPORT, {"image": image, "prompt": prompt})
    np.testing.assert_allclose(answer["feature"], toy.features(image, prompt), atol=1e-5)
    np.testing.assert_allclose(answer["plain"], toy.features(image), atol=1e-5)


def test_teaching_a_class_writes_the_head_alone(recognizer: Recognizer, out: Path) -> None:
    assert write(recognizer, out) == Repository(out, head=1, encoders=True)
    before = contents(out)
    recognizer.enroll("blue", [toy.picture("blue")])
    assert write(recognizer, out) == Repository(out, head=2, encoders=False)
    after = contents(out)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {f"{HEAD}/2/model.onnx", f"{HEAD}/labels.txt"}
    assert after[f"{HEAD}/labels.txt"].decode().split("\n") == ["red", "green", "blue", ""]
    answer = Served(out).infer(ENSEMBLE, {"image": toy.picture("blue", seed=3)[None]})
    assert answer["label"].tolist() == [["blue"]]
    assert answer["confidence"].shape == (1, 3)


def test_the_folder_stays_the_same_one_where_only_the_head_is_new(recognizer: Recognizer, out: Path) -> None:
    write(recognizer, out)
    mounted = out.stat().st_ino
    write(recognizer, out)
    assert out.stat().st_ino == mounted
    write(recognizer, out, max_batch=4)
    assert out.stat().st_ino != mounted
    assert '-v "$(dirname "$PWD"):/srv:ro"' in (out / "README.md").read_text(), "a mount of the folder itself would be lost"


def test_only_the_last_heads_are_kept(recognizer: Recognizer, out: Path) -> None:
    for _ in range(KEPT + 2):
        write(recognizer, out)
    assert sorted(int(e.name) for e in (out / HEAD).iterdir() if e.is_dir()) == [KEPT, KEPT + 1, KEPT + 2]


def test_another_batch_writes_all_anew(recognizer: Recognizer, out: Path) -> None:
    write(recognizer, out)
    assert write(recognizer, out, max_batch=4) == Repository(out, head=1, encoders=True)
    assert read_json(out / RECORD, SettingsError)["max_batch"] == 4
    assert Served(out).configs[QUERY].max_batch_size == 4


def test_plans(recognizer: Recognizer, out: Path, tmp_path: Path) -> None:
    plans = {graph: tmp_path / f"{graph}.plan" for graph in ("query", "support")}
    for graph, plan in plans.items():
        plan.write_bytes(f"a plan of {graph}".encode())
    write(recognizer, out, plans=plans)
    configs = Served(out, plans=True).configs
    for graph, name in (("query", QUERY), ("support", SUPPORT)):
        assert (configs[name].backend, configs[name].default_model_filename) == ("tensorrt", "model.plan")
        assert (out / name / "1" / "model.plan").read_bytes() == plans[graph].read_bytes()
    assert "TensorRT version" in (out / "README.md").read_text()


def test_an_empty_bank_changes_nothing(recognizer: Recognizer, out: Path) -> None:
    write(recognizer, out)
    before = contents(out)
    with pytest.raises(BankError, match="the bank is empty"):
        write_repository(recognizer.bundle, Bank.empty(recognizer.bundle), out)
    assert contents(out) == before


def test_what_is_not_ours_is_left_alone(recognizer: Recognizer, out: Path) -> None:
    (out / "resnet").mkdir(parents=True)
    with pytest.raises(SettingsError, match="in the way"):
        write(recognizer, out)
    shutil.rmtree(out)
    write(recognizer, out)
    (out / "resnet").mkdir()
    with pytest.raises(SettingsError, match="resnet"):
        write(recognizer, out, max_batch=2)
    assert (out / "resnet").is_dir()


def test_a_file_in_the_way(recognizer: Recognizer, out: Path) -> None:
    out.write_text("mine")
    with pytest.raises(SettingsError, match="in the way"):
        write(recognizer, out)
    assert out.read_text() == "mine"


def test_an_empty_folder_is_taken(recognizer: Recognizer, out: Path) -> None:
    out.mkdir()
    assert write(recognizer, out) == Repository(out, head=1, encoders=True)


def test_the_readme_promises_no_package_that_is_not_there(recognizer: Recognizer, out: Path) -> None:
    write(recognizer, out)
    read = (out / "README.md").read_text(encoding="utf-8")
    assert "pip install sp-edge" not in read
    assert 'pip install . "tritonclient[grpc,http]"' in read


@pytest.mark.parametrize("max_batch", [0, 1025])
def test_batches_out_of_range(recognizer: Recognizer, out: Path, max_batch: int) -> None:
    with pytest.raises(SettingsError, match="largest batch"):
        write(recognizer, out, max_batch=max_batch)


def test_a_precision_that_is_not_there(recognizer: Recognizer, out: Path) -> None:
    with pytest.raises(BundleError):
        write(recognizer, out, precision="int8")
    assert not out.exists()
