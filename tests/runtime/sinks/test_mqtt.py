import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sp_edge.errors import SettingsError
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import PATIENCE, until

client_module = pytest.importorskip("paho.mqtt.client")


def change(number: int) -> StateChange:
    return StateChange(f"camera {number}", State.RUNNING, 0.0)


def test_topics_that_cannot_be_published_to() -> None:
    for topic in ("a/%2B", "a/#", "%23"):
        address = f"mqtt://host/{topic}"
        if "#" in topic:
            continue  # an address ends there
        with pytest.raises(SettingsError, match="topic"):
            MqttSink(address)


class Broker:
    """Mosquitto on loopback, once it is started, and who listens to all that is published there."""

    def __init__(self, folder: Path) -> None:
        mosquitto = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
        if not mosquitto:
            pytest.skip("mosquitto, a broker, is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "broker.conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.command = [mosquitto, "-c", str(folder / "broker.conf")]
        self.got: list[tuple[str, bytes, bool]] = []
        self.subscribed = threading.Event()
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.running = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)

    def answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def listen(self) -> None:
        self.listener = client_module.Client(client_module.CallbackAPIVersion.VERSION2)
        self.listener.on_connect = lambda client, *_: client.subscribe("shop/#", qos=1)
        self.listener.on_subscribe = lambda *_: self.subscribed.set()
        self.listener.on_message = lambda _client, _data, message: self.got.append(
            (message.topic, message.payload, message.retain)
        )
        self.listener.connect("127.0.0.1", self.port)
        self.listener.loop_start()
        assert self.subscribed.wait(PATIENCE)

    def states(self) -> list[bytes]:
        return [payload for topic, payload, _ in self.got if topic == "shop/door/status"]

    def stop(self) -> None:
        if self.running is None:
            return
        if self.subscribed.is_set():
            self.listener.loop_stop()
            self.listener.disconnect()
        self.running.terminate()
        self.running.wait(PATIENCE)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    one = Broker(tmp_path)
    yield one
    one.stop()
    assert not any("paho" in thread.name.lower() for thread in threading.enumerate())


def test_a_broker_gets_frames_and_events_and_is_found_again(broker: Broker, result: FrameResult) -> None:
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/shop/door", backoff=Backoff(0.01, 0.05))
    try:
        sink.event(change(0))
        until(lambda: sink.delivery().error != "")  # the broker is not there yet
        broker.start()
        until(lambda: sink.delivery().sent == 1)  # and what waited arrives
        broker.listen()
        sink.write(result)
        sink.event(change(1))
        until(lambda: len(broker.got) == 3)
    finally:
        sink.close()
    until(lambda: broker.states() == [b"online", b"offline"])
    topics = {topic for topic, *_ in broker.got}
    assert topics == {"shop/door/frames", "shop/door/events", "shop/door/status"}
    assert [topic for topic, _, retained in broker.got if retained] == ["shop/door/status"], "for who came later"


def test_the_broker_says_so_when_a_publisher_is_killed(broker: Broker) -> None:
    program = """
import sys, time
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sources.frames import State, StateChange
sink = MqttSink(sys.argv[1])
sink.event(StateChange("camera", State.RUNNING, 0.0))
time.sleep(1000)
"""
    broker.start()
    until(broker.answers)
    broker.listen()
    publisher = subprocess.Popen([sys.executable, "-c", program, f"mqtt://127.0.0.1:{broker.port}/shop/door"])
    try:
        until(lambda: broker.states() == [b"online"])
    finally:
        publisher.kill()
        publisher.wait(PATIENCE)
    until(lambda: broker.states() == [b"online", b"offline"])
