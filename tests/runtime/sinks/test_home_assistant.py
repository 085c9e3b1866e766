"""What Home Assistant is told, against its own rules as far as they are restated in home_assistant.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosquitto import Broker, Listener
from sp_edge_runtime.sinks.home_assistant import binary, discovery, discovery_topic, key_of
from sp_edge_runtime.sinks.mqtt import MqttSink
from sp_edge_runtime.sources.frames import State, StateChange
from sp_edge_runtime.sources.live import Backoff
from sp_edge_runtime.streams.result import FrameResult
from threads import until

pytest.importorskip("jinja2")
from home_assistant import attributes, check, shown

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60)


@given(topic=NAMES, sources=st.lists(NAMES, max_size=4, unique=True), classes=st.lists(NAMES, max_size=3, unique=True))
def test_any_names_make_a_device_that_is_taken(topic: str, sources: list[str], classes: list[str]) -> None:
    topic = topic.replace("+", "").replace("#", "") or "x"
    payload = json.dumps(discovery(topic, sources, classes)).encode()
    entities = check(discovery_topic(topic), payload)
    assert len(entities) == len(sources) * (3 if len(classes) == 2 else 2)


@given(st.sets(NAMES, min_size=2, max_size=8))
def test_keys_are_ids_and_tell_names_apart(names: set[str]) -> None:
    keys = {key_of(name) for name in names}
    assert len(keys) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", key) for key in keys)


def test_keys_by_hand() -> None:
    assert key_of("front_door_2") == "front_door_2"
    assert re.fullmatch(r"front_door_[0-9a-f]{8}", key_of("Front Door"))
    assert re.fullmatch(r"x_[0-9a-f]{8}", key_of("自転車"))
    assert len(key_of("a" * 500)) == 49


def test_two_states_by_hand() -> None:
    assert [binary(label, ["open", "closed"]) for label in ("open", "closed", "unknown")] == ["ON", "OFF", "None"]
    assert [binary("open", classes) for classes in ([], ["open"], ["open", "closed", "ajar"])] == ["None"] * 3


class Home:
    """Looks at a broker as Home Assistant does."""

    def __init__(self, broker: Broker, classes: list[str]) -> None:
        self.broker, self.classes = broker, classes
        address = f"mqtt://127.0.0.1:{broker.port}/shop/door"
        self.sink = MqttSink(address, backoff=Backoff(0.01, 0.05), classes=lambda: self.classes)

    def states(self) -> dict[str, str | bytes]:
        """What each entity shows, by its id, without the images."""
        kept, place = self.broker.kept(), discovery_topic("shop/door")
        entities = check(place, kept[place]).values() if place in kept else ()
        return {one["default_entity_id"]: shown(one, kept) for one in entities if one["platform"] != "image"}


@pytest.fixture
def home(broker: Broker) -> Iterator[Home]:
    broker.start()
    until(broker.answers)
    one = Home(broker, ["red", "Zürcher Kaffeetasse"])
    yield one
    one.sink.close()


def test_a_source_from_its_first_frame_to_its_loss(home: Home, found: list[FrameResult]) -> None:
    sensor, two = (f"{platform}.{key_of('shop/door')}_camera" for platform in ("sensor", "binary_sensor"))
    for frame, state, on in ((0, "red", "on"), (3, "Zürcher Kaffeetasse", "off"), (6, "赤い 自転車", "unknown")):
        home.sink.write(replace(found[frame], source="camera"))
        expected = {sensor: state, two: on}
        until(lambda expected=expected: home.states() == expected)  # type: ignore[misc]
    kept = home.broker.kept()
    entities = check(discovery_topic("shop/door"), kept[discovery_topic("shop/door")])
    label = next(one for one in entities.values() if one["platform"] == "sensor")
    assert attributes(label, kept)["confidence"] == found[6].smoothed.confidence  # type: ignore[union-attr]
    image = next(one for one in entities.values() if one["platform"] == "image")
    assert bytes(shown(image, kept)).startswith(b"\xff\xd8\xff")
    home.sink.event(StateChange("camera", State.RESTARTING, 1.0, "unplugged"))
    until(lambda: set(home.states().values()) == {"unavailable"})
    home.sink.event(StateChange("camera", State.RUNNING, 2.0))
    until(lambda: set(home.states().values()) == {"unknown"})


def test_a_third_class_takes_the_binary_sensor_away_and_two_bring_it(home: Home, result: FrameResult) -> None:
    def platforms() -> set[str]:
        return {entity.partition(".")[0] for entity in home.states()}

    home.sink.write(result)
    until(lambda: platforms() == {"sensor", "binary_sensor"})
    home.classes = [*home.classes, "a third"]
    home.sink.write(result)
    until(lambda: platforms() == {"sensor"})
    home.classes = ["a third", "red"]
    home.sink.write(result)
    until(lambda: set(home.states().values()) == {"red", "off"})


def test_a_region_that_was_taken_away_is_forgotten(home: Home, result: FrameResult) -> None:
    home.sink.write(result)
    home.sink.write(replace(result, source="left door"))
    until(lambda: len(home.states()) == 4)
    home.sink.event(StateChange("left door", State.REMOVED, 0.0))
    until(lambda: len(home.states()) == 2)
    until(lambda: not any("left" in topic for topic in home.broker.kept()))
    home.sink.write(replace(result, source="left door"))
    until(lambda: len(home.states()) == 4)


def test_all_is_said_again_when_home_assistant_starts(home: Home, result: FrameResult) -> None:
    home.sink.write(result)
    until(lambda: set(home.states().values()) == {"red", "on"})
    home.broker.listen()
    heard = len(home.broker.got)
    with Listener(home.broker.port, lambda *_: None) as homes:
        homes.client.publish("homeassistant/status", b"online", qos=1)
        again = {discovery_topic("shop/door"), "shop/door/camera/state", "shop/door/camera/status", "shop/door/camera/image"}
        until(lambda: again <= {topic for topic, *_ in home.broker.got[heard:]})


def test_all_becomes_unavailable_at_the_end(home: Home, result: FrameResult) -> None:
    home.sink.write(result)
    until(lambda: set(home.states().values()) == {"red", "on"})
    home.sink.close()
    until(lambda: set(home.states().values()) == {"unavailable"})
