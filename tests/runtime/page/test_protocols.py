"""Other programs talk to the page: tritonclient, Prometheus, and whoever makes requests of the OpenAPI description."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import toy
from page_site import Opened, Site
from sp_edge_runtime.page import gate
from sp_edge_runtime.page.gate import BusyError, Gate
from sp_edge_runtime.page.inference import InferenceError, read_request
from threads import until


def png(name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(toy.picture(name, side=40)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def quiet(opened: Opened) -> Site:
    """A page without a source, which knows red and blue."""
    site = opened([])
    for name in ("red", "blue"):
        site.recognizer.enroll(name, toy.picture(name))
    return site


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_triton_talks_to_the_page(quiet: Site, binary: bool) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    with http.InferenceServerClient(quiet.host) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("toy")
        assert client.is_model_ready("toy", "1")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "sp-edge"
        metadata = client.get_model_metadata("toy")
        images = np.stack([toy.picture(name, side=50) for name in ("blue", "red", "green")])
        sent = http.InferInput("image", list(images.shape), metadata["inputs"][0]["datatype"])
        sent.set_data_from_numpy(images, binary_data=binary)
        wanted = [http.InferRequestedOutput(one["name"], binary_data=binary) for one in metadata["outputs"]]
        found = client.infer("toy", [sent], outputs=wanted, request_id="7")
        labels = [one.decode() if binary else one for one in found.as_numpy("label")]
        assert labels[:2] == ["blue", "red"]
        assert found.as_numpy("confidence").dtype == np.float32
        seen = np.stack([quiet.recognizer.classify(image).feature for image in images])
        np.testing.assert_allclose(found.as_numpy("feature"), seen, atol=1e-5)
        assert found.get_response()["id"] == "7"
        everything = client.infer("toy", [sent])
        assert everything.as_numpy("similarity").shape == (3,)


def test_encoded_pictures_go_as_bytes(quiet: Site) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    with http.InferenceServerClient(quiet.host) as client:
        files = np.array([png("red"), png("blue")], object)
        sent = http.InferInput("image", [2], "BYTES")
        sent.set_data_from_numpy(files)
        assert list(client.infer("toy", [sent]).as_numpy("label")) == [b"red", b"blue"]


REFUSED: dict[str, Any] = {
    "no JSON": b"{",
    "no inputs": {"outputs": []},
    "another input": {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [1]}]},
    "another type": {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1.0]}]},
    "another shape": {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1]}]},
    "no image": {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1], "data": [1]}]},
    "too many": {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [33, 1, 1, 3], "data": [1] * 99}]},
    "no bytes": {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 999]}]},
    "missing data": {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "parameters": {"binary_data_size": 3}}]
    },
    "a negative shape": {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 1, 3], "data": []}]},
    "another output": {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}],
        "outputs": [{"name": "nothing"}],
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_inference_request_is_refused_in_words(quiet: Site, what: str) -> None:
    answer = quiet.ask("POST", "/v2/models/toy/infer", REFUSED[what])
    assert answer.status == 422
    assert answer.json["error"]


def test_compressed_requests_and_other_models_are_refused(quiet: Site) -> None:
    assert quiet.ask("POST", "/v2/models/toy/infer", b"", Content_Encoding="gzip").status == 415
    assert quiet.ask("POST", "/v2/models/other/infer", {}).status == 404
    assert quiet.get("/v2/repository/index").status == 404


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=5), st.integers(-9, 300).map(str)))
def test_any_body_is_a_request_or_refused(body: bytes, length: str | None) -> None:
    for content in (body, b'{"inputs": ' + body + b"}"):
        with suppress(InferenceError):
            read_request(content, length)


def test_prometheus_reads_the_metrics(site: Site) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    site.ask("POST", "/api/teach", {"name": "red"})
    site.until_label("red")
    answer = site.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in parser.text_string_to_metric_families(answer.body.decode())}
    samples = {(one.name, *sorted(one.labels.items())): one.value for family in found.values() for one in family.samples}
    camera = ("source", "camera")
    assert samples["sp_edge_frames_total", camera] > 0
    assert samples["sp_edge_labels_total", ("label", "red"), camera] > 0
    assert samples["sp_edge_labels_total", ("label", "unknown"), camera] > 0
    assert samples["sp_edge_source_up", camera] == 1
    assert samples["sp_edge_bank_classes",] == 1
    assert {dict(one.labels)["stage"] for one in found["sp_edge_stage_seconds"].samples} == {
        "preprocess", "inference", "postprocess",
    }  # fmt: skip
    assert all(family.documentation for family in found.values())


def test_requests_that_the_stream_leaves_no_time_for_are_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate, "open", lambda _: False)
    quiet = opened([])
    for path in ("/api/classify", "/v2/models/toy/infer"):
        answer = quiet.ask("POST", path, png("red"), Content_Type="image/png")
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert quiet.get("/api/state").status == 200


@pytest.mark.parametrize("path", ["/api/advice", "/api/names?name=green", "/api/sources/0/seen.jpg?name=green"])
def test_what_costs_as_much_as_a_picture_waits_its_turn(opened: Opened, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gates: list[Gate] = []
    monkeypatch.setattr("sp_edge_runtime.page.page.Gate", lambda busy: gates.append(Gate(busy)) or gates[-1])
    site = opened()
    until(lambda: site.number() > 0)
    with gates[0].recognizing():
        assert site.get(path).status == 429
    gates[0]._free_at = float("inf")  # the pause after another request
    answer = site.get(path)
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    gates[0]._free_at = 0.0
    assert site.get(path).status in (200, 422), "as this network tells no places"


def test_the_gate_leaves_the_stream_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, busy = [100.0], [1.0]
    monkeypatch.setattr(gate.time, "monotonic", lambda: clock[0])
    one = Gate(lambda: busy[0])
    for share in (gate.LEAST, gate.SPARE * 0.5):
        assert one.open()
        with one.recognizing():
            assert not one.open(), "one at a time"
            with pytest.raises(BusyError), one.recognizing():
                pass
            clock[0] += 1
        clock[0] += 0.99 * (1 / share - 1)
        assert not one.open()
        with pytest.raises(BusyError), one.recognizing():
            pass
        clock[0] += 0.02 * (1 / share - 1)
        busy[0] = 0.5
    free = Gate(lambda: None)
    with free.recognizing():
        clock[0] += 1
    assert free.open(), "without a stream there is no pause"


def operations(site: Site) -> list[tuple[str, str, dict[str, Any]]]:
    described = site.get("/api/openapi.json").json
    return [(path, method, said) for path, ways in described["paths"].items() for method, said in ways.items()]


def test_the_description_names_every_route_and_its_errors(quiet: Site) -> None:
    found = {(method, path) for path, method, _ in operations(quiet)}
    assert {("post", "/api/teach"), ("get", "/health"), ("get", "/metrics"), ("post", "/v2/models/{model}/infer")} <= found
    for path, method, said in operations(quiet):
        assert said["summary"], (method, path)
        assert "422" in said["responses"], (method, path)
    names = [said["operationId"] for _, _, said in operations(quiet)]
    assert len(names) == len(set(names))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=4,
)
FIELDS = ("name", "to", "shot", "numbers", "source", "seconds", "value", "strength", "threshold", "token", "inputs")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_request_is_a_fault_of_ours(quiet: Site, data: st.DataObject) -> None:
    lasting = ("/api/events", "/api/sources/{place}/live.mjpeg")
    path, method, said = data.draw(st.sampled_from([one for one in operations(quiet) if one[0] not in lasting]))
    for parameter in said.get("parameters", []):
        value = quote(str(data.draw(st.one_of(st.integers(-1, 3), st.text(max_size=10)))), safe="")
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", value or "0")
        elif data.draw(st.booleans()):
            path += f"{'&' if '?' in path else '?'}{parameter['name']}={value}"
    body: Any = None
    if "requestBody" in said:
        one = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(lambda value: json.dumps(value).encode())
        body = data.draw(st.one_of(one, st.binary(max_size=100), VALUES.map(lambda value: json.dumps(value).encode())))
    kind = data.draw(st.sampled_from(["application/json", "image/png", "application/octet-stream", "multipart/form-data"]))
    answer = quiet.ask(method.upper(), path, body, Content_Type=kind)
    assert answer.status < 500, (method, path, body)
