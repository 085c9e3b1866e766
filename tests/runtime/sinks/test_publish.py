import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import toy
from sp_edge.errors import SettingsError
from sp_edge_runtime.recognizer import Recognizer
from sp_edge_runtime.sinks.publish import ROOM, MqttSink, Publisher, Refused, Topic, WebhookSink
from sp_edge_runtime.sources.frames import State, StateChange, VideoFrame
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import PATIENCE, until

QUICK = (0.001, 0.002)


@pytest.fixture(scope="module")
def result(toy_bundle: Path) -> FrameResult:
    with Recognizer.load(toy_bundle, device="cpu") as recognizer:
        recognizer.enroll("red", [toy.picture("red")])
        frame = VideoFrame(toy.picture("red"), 0, 0.0)
        return FrameResult(frame, recognizer.classify(frame.image_rgb), 1.0, source="camera")


def change(number: int) -> StateChange:
    return StateChange(f"camera {number}", State.RUNNING, 0.0)


class Place(Publisher):
    """Somewhere that can be away, hang or refuse."""

    def __init__(self, address: str = "place://user:topsecret@host/", **options: object) -> None:
        self.got: list[tuple[Topic, dict[str, object]]] = []
        self.failure: Exception | None = None
        self.gate, self.asked, self.disconnected = threading.Event(), threading.Event(), 0
        self.gate.set()
        super().__init__(address, backoff=Backoff(*QUICK), **options)

    def deliver(self, topic: Topic, message: bytes) -> None:
        self.asked.set()
        self.gate.wait(PATIENCE)
        if self.failure:
            raise self.failure
        self.got.append((topic, json.loads(message)))

    def disconnect(self) -> None:
        self.disconnected += 1


def test_messages_arrive_in_order(result: FrameResult) -> None:
    place = Place()
    place.write(result)
    until(lambda: len(place.got) == 1)
    place.event(change(1))
    place.close()
    place.close()
    assert [topic for topic, _ in place.got] == ["frames", "events"]
    assert place.got[0][1]["name"] == "red"
    assert place.got[0][1]["source"] == "camera"
    assert place.got[1][1] == {"event": "state", "source": "camera 1", "state": "running", "reason": "", "time": 0.0}
    delivery = place.delivery()
    assert (delivery.place, delivery.sent, delivery.dropped, delivery.error) == ("place://***@host/", 2, 0, "")


def test_a_place_that_hangs_costs_the_oldest_frames_and_nothing_else(result: FrameResult) -> None:
    place = Place()
    place.gate.clear()
    place.event(change(0))
    assert place.asked.wait(PATIENCE)
    for _ in range(ROOM["frames"] + 10):
        place.write(result)  # would not return if it waited
    for number in range(1, 4):
        place.event(change(number))
    assert place.delivery().dropped == 10
    place.gate.set()
    until(lambda: place.delivery().sent == 4 + ROOM["frames"])
    place.close()
    assert [topic for topic, _ in place.got[:4]] == ["events"] * 4  # before the frames that waited


def test_a_place_that_comes_back_gets_what_waited(result: FrameResult, caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.failure = OSError("no route for user:topsecret")
    place.event(change(0))
    until(lambda: place.disconnected > 2)
    place.failure = None
    until(lambda: len(place.got) == 1)
    place.close()
    delivery = place.delivery()
    assert (delivery.sent, delivery.dropped) == (1, 0)
    assert "topsecret" not in caplog.text + delivery.error
    assert [record.getMessage().split(" is ")[1].split(";")[0] for record in caplog.records] == [
        "not to be reached",
        "reached again",
    ]


def test_a_message_that_is_refused_is_not_sent_again() -> None:
    place = Place()
    place.failure = Refused("no")
    place.event(change(0))
    until(lambda: place.delivery().dropped == 1)
    place.failure = None
    place.event(change(1))
    place.close()
    assert [message["source"] for _, message in place.got] == ["camera 1"]


def test_closing_does_not_wait_for_a_place_that_is_away(result: FrameResult) -> None:
    place = Place()
    place.failure = OSError("away")
    for _ in range(5):
        place.write(result)
    place.event(change(0))
    place.close()
    delivery = place.delivery()
    assert (delivery.sent, delivery.dropped) == (0, 6)
    assert not place._sender.is_alive()


@pytest.mark.parametrize(
    ("published", "topics"), [("all", ["events", "frames"]), ("frames", ["frames"]), ("events", ["events"])]
)
def test_what_is_published(result: FrameResult, published: str, topics: list[str]) -> None:
    place = Place(published=published)
    place.write(result)
    place.event(change(0))
    place.close()
    assert sorted(topic for topic, _ in place.got) == topics


class Server:
    """A web server that answers with what the test says."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], object]] = []
        self.answers: list[int] = []
        self.connections = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = server.answers.pop(0) if server.answers else 204
                if status < 300:
                    server.got.append((self.path, dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=[0.01])
        self.thread.start()

    def close(self) -> None:
        self.httpd.shutdown()
        self.thread.join()
        self.httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def test_a_webhook_gets_json_over_one_connection(server: Server, result: FrameResult) -> None:
    address = f"http://me:top%20secret@127.0.0.1:{server.httpd.server_port}/hook?key=1"
    sink = WebhookSink(address)
    for number in range(3):
        sink.event(change(number))
    sink.close()
    assert [body["source"] for _, _, body in server.got] == ["camera 0", "camera 1", "camera 2"]
    path, headers, _ = server.got[0]
    assert path == "/hook?key=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic bWU6dG9wIHNlY3JldA=="
    assert server.connections == 1
    # Of many services the path is the key.
    assert sink.delivery().place == f"http://127.0.0.1:{server.httpd.server_port}/***"


def test_a_webhook_is_asked_again_later_or_never(server: Server) -> None:
    server.answers = [503, 429, 200, 400]
    sink = WebhookSink(f"http://127.0.0.1:{server.httpd.server_port}/", backoff=Backoff(*QUICK))
    sink.event(change(0))
    until(lambda: sink.delivery().sent == 1)
    sink.event(change(1))
    sink.close()
    delivery = sink.delivery()
    assert (delivery.sent, delivery.dropped, delivery.error) == (1, 1, "it answers with status 400")


def test_a_webhook_that_nobody_hears() -> None:
    sink = WebhookSink("http://127.0.0.1:9/", backoff=Backoff(*QUICK))
    sink.event(change(0))
    until(lambda: sink.delivery().error != "")
    sink.close()
    assert sink.delivery().dropped == 1


@pytest.mark.parametrize(
    "address",
    ["", "host", "ftp://host/", "http://", "http://host:99999/", "http://a b/", "http://u:topsecret@/", "http://h/\n"],
)
def test_addresses_that_are_none(address: str) -> None:
    for kind in (WebhookSink, MqttSink):
        with pytest.raises(SettingsError) as caught:
            kind(address)
        assert "topsecret" not in str(caught.value)


def test_topics_that_cannot_be_published_to() -> None:
    for topic in ("a/%2B", "a/#", "%23"):
        address = f"mqtt://host/{topic}"
        if "#" in topic:
            continue  # an address ends there
        with pytest.raises(SettingsError, match="topic"):
            MqttSink(address)


def test_a_broker_gets_frames_and_events_and_is_found_again(result: FrameResult, tmp_path: Path) -> None:
    import shutil
    import socket
    import subprocess

    client_module = pytest.importorskip("paho.mqtt.client")
    mosquitto = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if not mosquitto:
        pytest.skip("mosquitto, a broker, is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "broker.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")

    def broker() -> subprocess.Popen[bytes]:
        return subprocess.Popen([mosquitto, "-c", str(tmp_path / "broker.conf")], stderr=subprocess.DEVNULL)

    sink = MqttSink(f"mqtt://127.0.0.1:{port}/shop/door", backoff=Backoff(0.01, 0.05))
    sink.event(change(0))
    until(lambda: sink.delivery().error != "")  # the broker is not there yet
    got: list[tuple[str, object]] = []
    listener = client_module.Client(client_module.CallbackAPIVersion.VERSION2)
    listener.on_connect = lambda client, *_: client.subscribe("shop/#", qos=1)
    subscribed = threading.Event()
    listener.on_subscribe = lambda *_: subscribed.set()
    listener.on_message = lambda _client, _data, message: got.append((message.topic, json.loads(message.payload)))
    running = broker()
    try:
        until(lambda: sink.delivery().sent == 1)  # and what waited arrives
        listener.connect("127.0.0.1", port)
        listener.loop_start()
        assert subscribed.wait(PATIENCE)
        sink.write(result)
        sink.event(change(1))
        until(lambda: len(got) == 2)
        assert {topic for topic, _ in got} == {"shop/door/frames", "shop/door/events"}
    finally:
        sink.close()
        listener.loop_stop()
        listener.disconnect()
        running.terminate()
        running.wait(PATIENCE)
    assert not any("paho" in thread.name.lower() for thread in threading.enumerate())


def test_the_image_of_a_frame_does_not_wait_in_memory(result: FrameResult) -> None:
    place = Place()
    place.gate.clear()
    place.write(result)
    place.write(result)
    assert all(isinstance(message, bytes) and len(message) < 5000 for message in place._waiting["frames"])
    assert result.frame.image_rgb.nbytes == np.prod(result.frame.image_rgb.shape)
    place.gate.set()
    place.close()
