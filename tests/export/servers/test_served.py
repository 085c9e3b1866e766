"""The repository behind a server, through NVIDIA's clients: a stand-in, and a real Triton where one is at hand."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

import toy
import triton_server
import triton_stand_in
from sp_edge_export.servers.triton import ENSEMBLE, HEAD, QUERY, SUPPORT, write_repository
from sp_edge_runtime.recognizer import Recognizer
from threads import until

SERVERS = [
    pytest.param(triton_stand_in.Server, id="stand-in"),
    pytest.param(triton_server.TritonServer, id="triton"),
]
pytestmark = pytest.mark.parametrize("protocol", ["grpc", "http"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def write(recognizer: Recognizer, out: Path) -> None:
    write_repository(recognizer.bundle, recognizer.bank, out, max_batch=2)


def client_of(server: Any, protocol: str) -> tuple[Any, Any]:
    """NVIDIA's module for a protocol, and its client."""
    module = importlib.import_module(f"tritonclient.{protocol}")
    return module, module.InferenceServerClient(server.addresses[protocol])


def answer(module: Any, client: Any, model: str, **inputs: np.ndarray) -> Any:
    tensors = []
    for name, value in inputs.items():
        tensors.append(module.InferInput(name, list(value.shape), "UINT8" if value.dtype == np.uint8 else "FP32"))
        tensors[-1].set_data_from_numpy(value)
    return client.infer(model, tensors)


def states(client: Any, protocol: str) -> dict[str, str]:
    index = client.get_model_repository_index()
    found = index if protocol == "http" else [{"name": one.name, "state": one.state} for one in index.models]
    return {one["name"]: one.get("state", "") for one in found}


@pytest.mark.parametrize("server", SERVERS)
def test_model_control_and_inference(recognizer: Recognizer, out: Path, server: Any, protocol: str) -> None:
    write(recognizer, out)
    red, blue = toy.picture("red", seed=7), toy.picture("blue", seed=3)
    with server(out, explicit=True) as running:
        module, client = client_of(running, protocol)
        with client:
            assert states(client, protocol) == dict.fromkeys([ENSEMBLE, HEAD, QUERY, SUPPORT], "")
            client.load_model(ENSEMBLE)
            loaded = {**dict.fromkeys([ENSEMBLE, HEAD, QUERY], "READY"), SUPPORT: ""}
            assert states(client, protocol) == loaded, "an ensemble brings its models"
            found = answer(module, client, ENSEMBLE, image=np.stack([red, blue]))
            assert found.as_numpy("label").tolist() == [[b"red"], [b"unknown"]]
            (expected,) = recognizer.classify([red])
            assert found.as_numpy("confidence").shape == (2, 2)
            np.testing.assert_allclose(found.as_numpy("confidence")[0].max(), expected.confidence, atol=1e-5)

            client.load_model(SUPPORT)
            prompt = toy.prompts().vector("blue")[None]
            taught = answer(module, client, SUPPORT, image=blue[None], prompt=prompt)
            np.testing.assert_allclose(taught.as_numpy("feature"), toy.features(blue[None], prompt), atol=1e-5)

            recognizer.enroll("blue", [toy.picture("blue")])
            write(recognizer, out)
            client.load_model(HEAD)
            found = answer(module, client, ENSEMBLE, image=blue[None])
            assert found.as_numpy("label").tolist() == [[b"blue"]]
            assert found.as_numpy("similarity").shape == (1, 3)

            client.unload_model(ENSEMBLE, unload_dependents=True)
            until(lambda: states(client, protocol)[QUERY] != "READY")
            with pytest.raises(InferenceServerException):
                answer(module, client, ENSEMBLE, image=blue[None])


@pytest.mark.parametrize("server", SERVERS)
def test_the_client(recognizer: Recognizer, out: Path, tmp_path: Path, server: Any, protocol: str) -> None:
    write(recognizer, out)
    pictures = []
    for index, name in enumerate(("green", "red", "green")):  # more than a batch
        pictures.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(toy.picture(name, side=90, seed=index)).save(pictures[-1])
    with server(out) as running:
        command = [sys.executable, str(out / "client.py"), f"{protocol}://{running.addresses[protocol]}", *pictures]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))
    assert ran.returncode == 0, ran.stderr
    assert [line.rsplit(": ", 1)[1].split(",")[0] for line in ran.stdout.splitlines()] == ["green", "red", "green"]


def test_a_server_that_polls_takes_up_what_is_taught(recognizer: Recognizer, out: Path, protocol: str) -> None:
    write(recognizer, out)
    picture = toy.picture("blue", seed=3)[None]
    with triton_server.TritonServer(out) as running:
        module, client = client_of(running, protocol)
        with client:
            assert answer(module, client, ENSEMBLE, image=picture).as_numpy("label").tolist() == [[b"unknown"]]
            recognizer.enroll("blue", [toy.picture("blue")])
            write(recognizer, out)
            until(lambda: answer(module, client, ENSEMBLE, image=picture).as_numpy("label").tolist() == [[b"blue"]])
            # By name, with `class_count`, as the labels' file has them.
            image = module.InferInput("image", list(picture.shape), "UINT8")
            image.set_data_from_numpy(picture)
            wanted = [module.InferRequestedOutput("similarity", class_count=1)]
            ((best,),) = client.infer(ENSEMBLE, [image], outputs=wanted).as_numpy("similarity")
            assert best.split(b":")[1:] == [b"2", b"blue"]
