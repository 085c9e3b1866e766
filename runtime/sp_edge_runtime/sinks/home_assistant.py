"""Announces sources to Home Assistant: one message over MQTT about a device and all that it has to tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import sp_edge

PREFIX = "homeassistant"
BIRTH, BORN = f"{PREFIX}/status", b"online"  # what Home Assistant publishes when it has started, and where
LONGEST = 255  # characters of a state


def key_of(name: str) -> str:
    """A name for topics and ids, of small letters, digits and single '_'. Names that differ have keys that differ.

    Where a name is not such a key itself, the first 8 digits of its sha256 stand behind what is left of it.
    """
    kept = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40].strip("_")
    return name if kept == name else f"{kept or 'x'}_{sha256(name.encode()).hexdigest()[:8]}"


def discovery_topic(topic: str) -> str:
    """Where the device of a topic is announced."""
    return f"{PREFIX}/device/{_device(topic)}/config"


def discovery(topic: str, sources: Iterable[str], classes: Sequence[str], gone: Iterable[str] = ()) -> dict[str, Any]:
    """What is announced, in Home Assistant's words.

    Every source has a sensor with its label, whose attributes are the whole state, and an image of the last change. Where two
    classes are taught, it has a binary sensor, too, which is on while the first one is seen.

    Args:
        topic: under which `MqttSink` publishes the states.
        sources: their names, without credentials.
        classes: names of the taught ones.
        gone: names of sources that it is to forget.
    """
    components: dict[str, Any] = {
        key: {"platform": one["platform"]} for source in gone for key, one in _components(topic, source, classes).items()
    }
    for source in sources:
        components |= _components(topic, source, classes)
    return {
        "device": {"identifiers": [_device(topic)], "name": f"sp-edge {topic}", "sw_version": sp_edge.__version__},
        "origin": {"name": "sp-edge", "sw_version": sp_edge.__version__},
        "qos": 1,
        "components": components,
    }


def binary(label: str, classes: Sequence[str]) -> str:
    """The state of a binary sensor: 'ON' for the first of two classes, 'OFF' for the second, 'None' where nothing is known."""
    return dict(zip(classes, ("ON", "OFF"), strict=True)).get(label, "None") if len(classes) == 2 else "None"


def _components(topic: str, source: str, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    place = f"{topic}/{key_of(source)}"

    def entity(platform: str, what: str, name: str) -> dict[str, Any]:
        return {
            "platform": platform,
            "name": name,
            "unique_id": f"{_device(topic)}_{key_of(source)}_{what}",
            "default_entity_id": f"{platform}.{key_of(topic)}_{key_of(source)}",
            "availability": [{"topic": f"{topic}/status"}, {"topic": f"{place}/status"}],
            "availability_mode": "all",
        }

    state = {"state_topic": f"{place}/state", "json_attributes_topic": f"{place}/state"}
    label = {**entity("sensor", "label", source), **state, "value_template": f"{{{{ value_json.label[:{LONGEST}] }}}}"}
    image = {**entity("image", "image", f"{source}: last change"), "image_topic": f"{place}/image"}
    two: dict[str, Any] = {"platform": "binary_sensor"}  # by which Home Assistant forgets an earlier one
    if len(classes) == 2:
        two = {**entity("binary_sensor", "two", f"{source}: {classes[0]}"), **state}
        two["value_template"] = "{{ value_json.binary }}"
    return {f"{key_of(source)}_{what}": one for what, one in (("label", label), ("image", image), ("two", two))}


def _device(topic: str) -> str:
    return f"sp_edge_{key_of(topic)}"
