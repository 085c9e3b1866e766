"""Writes a model repository for NVIDIA's Triton server: two encoders, a head with the taught classes, and an ensemble."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import sp_edge
from sp_edge.bank.bank import Bank
from sp_edge.bank.head import Head
from sp_edge.bundle.bundle import Bundle
from sp_edge.bundle.manifest import GRAPHS, INPUTS, OUTPUTS, SCORES
from sp_edge.errors import SettingsError
from sp_edge.files import locked, read_json, write_bytes, write_json
from sp_edge.folders import atomic_folder, holds_earlier
from sp_edge_export.engines.engine import check_batch
from sp_edge_export.servers.head import check_cropped, head_graph
from sp_edge_export.servers.pbtxt import Symbol, Value, pbtxt

SCHEMA = 1
RECORD = "sp-edge.json"
KEPT = 3  # versions of the head that stay on disk, so that a server can be told to go back
QUERY, SUPPORT, HEAD, ENSEMBLE = "sp_edge_query", "sp_edge_support", "sp_edge_head", "sp_edge"
_OTHERS = (QUERY, SUPPORT, HEAD, ENSEMBLE, "client.py", "README.md")


@dataclass(frozen=True)
class Repository:
    """What is written.

    Attributes:
        path: the repository.
        head: version of the head that was written.
        encoders: whether the encoders were written too; False where only the head is new.
    """

    path: Path
    head: int
    encoders: bool


def write_repository(
    bundle: Bundle,
    bank: Bank,
    out: Path,
    *,
    classifier: str = "prototype",
    precision: str | None = None,
    max_batch: int = 8,
    plans: Mapping[str, Path] | None = None,
) -> Repository:
    """Writes the repository `out`, or only the head's next version where `out` serves the same encoders already.

    The encoders' graphs are the bundle's, or TensorRT plans. A version of the head appears whole within the folder: a server
    that polls takes it up, and the encoders are not loaded again. Other encoders come as a new folder in place of `out`, so
    that no server sees the encoders of one bundle and the head of another: a container must mount the folder above.

    Args:
        bundle: whose graphs to serve.
        bank: the taught classes.
        out: a free path, an empty folder, or a repository that this function wrote.
        classifier: prototype or lr, with which the head decides; see `sp_edge.bank.head.Head`.
        precision: of the graphs; the bundle's own by default.
        max_batch: pictures that the server may put into one run.
        plans: 'query' and 'support' -> TensorRT plan whose profile reaches to `max_batch`; ONNX graphs by default.

    Raises:
        SettingsError: max_batch or classifier is out of range, or something else is at `out`.
        BankError: no class was taught, or with another fit than crop.
        BundleError: the bundle was not exported in that precision.
    """
    check_batch(max_batch)
    check_cropped(bank)
    precision = precision or bundle.manifest.precision
    models = plans or {graph: bundle.graph(graph, precision) for graph in ("query", "support")}
    decides = Head.of(bank, bundle.background(), bundle.manifest.calibration, classifier=classifier)
    head = head_graph(decides)  # first: a bank that cannot be served changes nothing
    record = {
        "kind": "sp-edge triton repository",
        "schema": SCHEMA,
        "sp_edge": sp_edge.__version__,
        "bundle": bundle.fingerprint,
        "classifier": classifier,
        "precision": precision,
        "max_batch": max_batch,
        "backend": "tensorrt" if plans else "onnxruntime",
        "models": [QUERY, SUPPORT, HEAD, ENSEMBLE],
    }
    with locked(out):
        if earlier(out) and read_json(out / RECORD, SettingsError) == record:
            return Repository(out, _next_head(out / HEAD, head, bank), encoders=False)
        with atomic_folder(out) as folder:
            _write_encoders(folder, bundle, models, max_batch)
            _write_head_model(folder, bundle, max_batch)
            _next_head(folder / HEAD, head, bank)
            _write_ensemble(folder, bundle, max_batch)
            shutil.copyfile(Path(__file__).with_name("triton_client.py"), folder / "client.py")
            (folder / "README.md").write_text(_readme(bundle, record), encoding="utf-8")
            write_json(folder / RECORD, record)
    return Repository(out, 1, encoders=True)


def earlier(out: Path) -> bool:
    """Whether an earlier repository is at `out`.

    Raises:
        SettingsError: something else is there.
    """
    next_step = "a server takes several --model-repository folders: give this one its own"
    return holds_earlier(out, RECORD, _OTHERS, SettingsError, what="a Triton repository", next_step=next_step)


def _write_encoders(folder: Path, bundle: Bundle, models: Mapping[str, Path], max_batch: int) -> None:
    tensors = {
        "image": _image(bundle),
        "prompt": _tensor("prompt", "FP32", bundle.manifest.text.dim),
        **{name: _tensor(name, "FP32", bundle.manifest.feature_dim) for name in OUTPUTS["support"]},
        SCORES: _tensor(SCORES, "FP32", *(bundle.manifest.scores or ())),
    }
    for graph, name in zip(GRAPHS, (QUERY, SUPPORT), strict=True):
        inputs = [tensors[tensor] for tensor in INPUTS[graph]]
        plan = models[graph].suffix == ".plan"
        file = folder / name / "1" / ("model.plan" if plan else "model.onnx")
        file.parent.mkdir(parents=True)
        if plan:
            shutil.copyfile(models[graph], file)
        else:
            file.write_bytes(bundle.read(models[graph].name))
        config: dict[str, Value] = {
            "name": name,
            "backend": "tensorrt" if plan else "onnxruntime",
            "default_model_filename": file.name,
            "max_batch_size": max_batch,
            "input": inputs,
            "output": [tensors[tensor] for tensor in bundle.manifest.outputs(graph)],
            "dynamic_batching": {},
            "model_warmup": _warm_up(inputs),
        }
        write_bytes(folder / name / "config.pbtxt", pbtxt(config).encode())


def _write_head_model(folder: Path, bundle: Bundle, max_batch: int) -> None:
    """The head's configuration, which holds for any number of classes. Its work is too small for a GPU."""
    feature = _tensor("feature", "FP32", bundle.manifest.feature_dim)
    label, *scores = _results()
    config: dict[str, Value] = {
        "name": HEAD,
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": max_batch,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [feature],
        "output": [label, *({**score, "label_filename": "labels.txt"} for score in scores)],
        "instance_group": [{"kind": Symbol("KIND_CPU"), "count": 1}],
        "model_warmup": _warm_up([feature]),
    }
    write_bytes(folder / HEAD / "config.pbtxt", pbtxt(config).encode())


def _next_head(model: Path, head: onnx.ModelProto, bank: Bank) -> int:
    """Writes the version after the last one, whole, and forgets the oldest."""
    versions = sorted(int(entry.name) for entry in model.glob("*") if entry.name.isdecimal() and entry.is_dir())
    version = versions[-1] + 1 if versions else 1
    with atomic_folder(model / str(version)) as folder:
        (folder / "model.onnx").write_bytes(head.SerializeToString())
        # A name holds no line break: `clean_name` has seen to it.
        write_bytes(model / "labels.txt", "".join(f"{name}\n" for name in bank.names).encode())
    for old in versions[: 1 - KEPT]:
        shutil.rmtree(model / str(old))
    return version


def _write_ensemble(folder: Path, bundle: Bundle, max_batch: int) -> None:
    outputs = _results()
    passed = [{"key": str(output["name"]), "value": str(output["name"])} for output in outputs]
    feature = {"key": "feature", "value": "feature"}
    config: dict[str, Value] = {
        "name": ENSEMBLE,
        "platform": "ensemble",
        "max_batch_size": max_batch,
        "input": [_image(bundle)],
        "output": outputs,
        "ensemble_scheduling": {
            "step": [
                _step(QUERY, {"key": "image", "value": "image"}, [feature]),
                _step(HEAD, feature, passed),
            ]
        },
        # So that a client needs nothing but the server's address.
        "parameters": [{"key": "preprocess", "value": {"string_value": json.dumps(bundle.manifest.preprocess.to_json())}}],
    }
    (folder / ENSEMBLE / "1").mkdir(parents=True)  # Triton wants a version of an ensemble too, and nothing in it
    write_bytes(folder / ENSEMBLE / "config.pbtxt", pbtxt(config).encode())


def _step(model: str, given: Mapping[str, Value], taken: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    return {"model_name": model, "model_version": -1, "input_map": [given], "output_map": taken}


def _image(bundle: Bundle) -> dict[str, Value]:
    side = bundle.manifest.preprocess.image_size
    return _tensor("image", "UINT8", side, side, 3)


def _results() -> list[dict[str, Value]]:
    """The head's outputs; the number of classes is left open, so that teaching one changes no configuration."""
    return [_tensor("label", "STRING", 1), _tensor("confidence", "FP32", -1), _tensor("similarity", "FP32", -1)]


def _tensor(name: str, kind: str, *dims: int) -> dict[str, Value]:
    """As a configuration describes it: without the batch."""
    return {"name": name, "data_type": Symbol(f"TYPE_{kind}"), "dims": dims}


def _warm_up(inputs: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """One run with zeros before the first client is served."""
    zeros = [
        {"key": tensor["name"], "value": {"data_type": tensor["data_type"], "dims": tensor["dims"], "zero_data": True}}
        for tensor in inputs
    ]
    return [{"name": "zeros", "batch_size": 1, "inputs": zeros}]


def _readme(bundle: Bundle, record: Mapping[str, Any]) -> str:
    plans = (
        "\nThe encoders are TensorRT plans: the server needs the TensorRT version and the kind of GPU that built them.\n"
        if record["backend"] == "tensorrt"
        else ""
    )
    return f"""# sp-edge on Triton

A model repository of bundle {bundle.fingerprint[:12]}, {record["precision"]}, batches up to {record["max_batch"]},
whose head decides by classifier `{record["classifier"]}`.
Written by sp-edge {sp_edge.__version__}.
{plans}
| model | input | output |
|---|---|---|
| `{ENSEMBLE}` | `image` uint8 RGB | `label`, `confidence`, `similarity` |
| `{QUERY}` | `image` | `feature` |
| `{SUPPORT}` | `image`, `prompt` | `feature`, with which a class is taught, and `plain`, what `{QUERY}` gives |
| `{HEAD}` | `feature` | `label`, `confidence`, `similarity` |

`label` is the best class's name, or 'unknown'. `confidence` and `similarity` have a column a class, in the order of
`{HEAD}/labels.txt`; with `class_count` a client gets names beside the numbers.

Start the server from this folder. Take a release YY.MM that fits your driver: 24.05 or later, since graphs of opset 20
need ONNX Runtime 1.18; `sp-edge export --opset 19` writes graphs for older ones.

    docker run --rm --gpus all -p 8000:8000 -p 8001:8001 -v "$(dirname "$PWD"):/srv:ro" \\
        nvcr.io/nvidia/tritonserver:YY.MM-py3 tritonserver --model-repository="/srv/$(basename "$PWD")" \\
        --model-control-mode=poll --repository-poll-secs=2

Mount the folder above this one, as here. An export with other encoders puts a new folder in the place of this one. A mount
of this folder itself would keep the old one, which is deleted: all models unload, and `/v2/health/ready` still says 200.

Without a GPU leave out `--gpus all`. Then, on any machine, with sp-edge from a clone of its repository (it is not on PyPI):

    pip install . "tritonclient[grpc,http]"             # in the clone
    python client.py grpc://HOST:8001 picture.jpg       # in this folder
    python client.py http://HOST:8000 picture.jpg       # the same over HTTP

`client.py` is short: take it as an example for a client of your own.

Teach a class and export again to the same place: only the next version of `{HEAD}` is written, and a polling
server takes it up within its two seconds; the encoders stay loaded.

    sp-edge enroll BUNDLE --name NAME PICTURES
    sp-edge export BUNDLE --format triton --folder HERE {_again(record)}

A server with `--model-control-mode=explicit` loads only what it is told to. Then say so from Python:

    import tritonclient.http as triton
    with triton.InferenceServerClient("HOST:8000") as client:
        client.load_model("{ENSEMBLE}")          # with all that it needs
        client.load_model("{SUPPORT}")
        client.load_model("{HEAD}")              # again after each export: its next version
"""


def _again(record: Mapping[str, Any]) -> str:
    """The options with which only the head is new."""
    plans = " --plans" if record["backend"] == "tensorrt" else ""
    return f"--classifier {record['classifier']} --precision {record['precision']} --batch {record['max_batch']}{plans}"
