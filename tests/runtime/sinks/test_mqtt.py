"""What is published over MQTT, to mosquitto."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mosquitto import Broker
from sp_edge.errors import SettingsError
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import PATIENCE, until

pytest.importorskip("paho.mqtt.client")
Door = Callable[..., MqttSink]


def change(number: int, state: State = State.RUNNING) -> StateChange:
    return StateChange(f"camera {number}", state, 0.0)


@pytest.fixture
def door(broker: Broker) -> Door:
    def sink(**options: object) -> MqttSink:
        address = f"mqtt://user:topsecret@127.0.0.1:{broker.port}/shop/door"
        return MqttSink(address, backoff=Backoff(0.01, 0.05), **options)  # type: ignore[arg-type]

    return sink


def test_topics_that_cannot_be_published_to() -> None:
    for topic in ("a/%2B", "a/%23", "a%00"):
        with pytest.raises(SettingsError, match="topic"):
            MqttSink(f"mqtt://host/{topic}")


def test_a_broker_gets_frames_and_events_and_is_found_again(broker: Broker, door: Door, result: FrameResult) -> None:
    sink = door()
    try:
        sink.event(change(0))
        until(lambda: sink.delivery().error != "")  # the broker is not there yet
        broker.start()
        until(lambda: sink.delivery().sent == 3)  # and what waited arrives: the event, the camera's state
        broker.listen()
        sink.write(result)
        sink.event(change(1))
        until(lambda: len(broker.said("shop/door/events")) == len(broker.said("shop/door/frames")) == 1)
    finally:
        sink.close()
    until(lambda: broker.said("shop/door/status") == [b"online", b"offline"])
    retained = {topic for topic, _, retained in broker.got if retained}
    assert "shop/door/status" in retained, "for who came later"
    assert not {"shop/door/frames", "shop/door/events"} & retained


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
        until(lambda: broker.said("shop/door/status") == [b"online"])
    finally:
        publisher.kill()
        publisher.wait(PATIENCE)
    until(lambda: broker.said("shop/door/status") == [b"online", b"offline"])


def test_a_state_is_told_when_it_changes_and_kept_for_who_comes_later(
    broker: Broker, door: Door, found: list[FrameResult]
) -> None:
    broker.start()
    until(broker.answers)
    broker.listen()
    sink = door(published="events")
    try:
        for one in found:  # three colors, three frames each
            sink.write(replace(one, source="camera"))
            until(lambda: sink.delivery().sent > 0)
            until(lambda: not any(sink._waiting.values()))
        until(lambda: len(broker.said("shop/door/camera/state")) == 3)
        assert broker.said("shop/door/frames") == []
        kept = broker.kept()
        assert kept["shop/door/camera/status"] == b"online"
        last = found[-1]
        assert json.loads(kept["shop/door/camera/state"]) == {
            "label": last.label,
            "confidence": last.smoothed.confidence,  # type: ignore[union-attr]
            "source": "camera",
            "frame_id": found[6].frame.frame_id,
            "frame_timestamp": found[6].frame.timestamp,
        }
        sink.event(StateChange("camera", State.RESTARTING, 5.0, "unplugged"))
        until(lambda: broker.kept()["shop/door/camera/status"] == b"offline")
        assert json.loads(broker.kept()["shop/door/camera/state"])["label"] == "unknown", "nobody can know"
        sink.event(StateChange("camera", State.RUNNING, 6.0))
        sink.write(replace(last, source="camera"))
        until(lambda: json.loads(broker.kept()["shop/door/camera/state"])["label"] == last.label)
        assert broker.kept()["shop/door/camera/status"] == b"online"
    finally:
        sink.close()


def test_an_idle_publisher_says_all_again_when_the_broker_comes_back(broker: Broker, door: Door, result: FrameResult) -> None:
    broker.start()
    until(broker.answers)
    sink = door()
    try:
        sink.write(result)
        until(lambda: "shop/door/camera/state" in broker.kept())
        before = broker.kept()
        broker.end()
        broker.start()
        until(broker.answers)
        until(lambda: broker.kept() == before)
    finally:
        sink.close()


def test_sources_that_differ_have_topics_that_differ(broker: Broker, door: Door, result: FrameResult) -> None:
    names = ["Door", "door", "tür", "a/b#+", "rtsp://cam/1", "rtsp://cam/2", "x" * 400]
    broker.start()
    until(broker.answers)
    sink = door()
    try:
        for name in names:
            sink.write(replace(result, source=name))
        until(lambda: len(broker.kept()) == 1 + 2 * len(names))
        states = {topic: json.loads(state) for topic, state in broker.kept().items() if topic.endswith("/state")}
        assert sorted(state["source"] for state in states.values()) == sorted(names)
        assert states["shop/door/door/state"]["source"] == "door"
    finally:
        sink.close()


def test_secrets_stay_with_the_connection(
    broker: Broker, door: Door, result: FrameResult, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    broker.start()
    until(broker.answers)
    broker.listen()
    sink = door(classes=lambda: ["red", "green"])
    sink.write(result)
    until(lambda: "shop/door/camera/image" in broker.kept())
    broker.end()
    sink.event(change(1))
    until(lambda: sink.delivery().error != "")
    sink.close()
    said = " ".join(f"{topic} {payload!r}" for topic, payload, _ in broker.got)
    assert "topsecret" not in said + caplog.text + str(sink.delivery())
    assert "user" not in said


def test_a_broker_that_is_away_costs_no_memory(result: FrameResult) -> None:
    """paho itself would queue without limit."""
    sink = MqttSink("mqtt://127.0.0.1:1/shop/door", backoff=Backoff(0.01, 0.05), classes=lambda: ["red", "green"])
    try:
        for number in range(200):
            sink.write(replace(result, prediction=replace(result.prediction, label=str(number % 7)), smoothed=None))
        assert len(sink._waiting["states"]) <= 4, "only the newest state waits"
        assert len(sink._waiting["frames"]) <= 64
        assert sink._client is None or not sink._client._out_messages
    finally:
        sink.close()


def test_the_image_is_small(broker: Broker, door: Door, result: FrameResult) -> None:
    broker.start()
    until(broker.answers)
    sink = door(classes=list)
    try:
        large = np.random.default_rng(0).integers(0, 255, (2160, 3840, 3), np.uint8)
        sink.write(replace(result, frame=replace(result.frame, image_rgb=large)))
        until(lambda: "shop/door/camera/image" in broker.kept())
        image = broker.kept()["shop/door/camera/image"]
        assert image.startswith(b"\xff\xd8\xff")
        assert len(image) < 300_000
    finally:
        sink.close()
