import json
import threading

import numpy as np
import pytest

from sp_edge.errors import SettingsError
from sp_edge_runtime.sinks import publisher
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sinks.publisher import ROOM, Publisher, Refused, Topic
from sp_edge_runtime.sinks.webhook import WebhookSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import PATIENCE, until

QUICK = (0.001, 0.002)


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
    caplog.set_level("INFO")
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
    told = [(record.levelname, record.getMessage().split(";")[0].rpartition("/")[2]) for record in caplog.records]
    assert told == [("WARNING", " cannot be reached"), ("INFO", " is reached again")]


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


def test_the_image_of_a_frame_does_not_wait_in_memory(result: FrameResult) -> None:
    place = Place()
    place.gate.clear()
    place.write(result)
    place.write(result)
    assert all(isinstance(message, bytes) and len(message) < 5000 for message in place._waiting["frames"])
    assert result.frame.image_rgb.nbytes == np.prod(result.frame.image_rgb.shape)
    place.gate.set()
    place.close()


@pytest.mark.parametrize(
    "address",
    ["", "host", "ftp://host/", "http://", "http://host:99999/", "http://a b/", "http://u:topsecret@/", "http://h/\n"],
)
def test_addresses_that_are_none(address: str) -> None:
    for kind in (WebhookSink, MqttSink):
        with pytest.raises(SettingsError) as caught:
            kind(address)
        assert "topsecret" not in str(caught.value)


def test_every_message_is_counted_when_the_place_hangs_at_the_end(result: FrameResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "LINGER", 0.01)
    monkeypatch.setattr(publisher, "TIMEOUT", 0.01)
    place = Place()
    place.gate.clear()
    for number in range(3):
        place.event(change(number))
    assert place.asked.wait(PATIENCE)
    place.close()
    place.write(result)  # after the end: nobody sends it
    assert (place.delivery().sent, place.delivery().dropped) == (0, 4)
    place.gate.set()
    place._sender.join(PATIENCE)
    assert (place.delivery().sent, place.delivery().dropped) == (0, 4), "none is counted twice"
