import json
import threading
from pathlib import Path

import pytest

from sp_edge.errors import SettingsError
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import PATIENCE, until


def change(number: int) -> StateChange:
    return StateChange(f"camera {number}", State.RUNNING, 0.0)


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
