"""As much of Home Assistant's MQTT integration as says whether a device is taken, and what its entities then show.

Restated from Home Assistant's documentation (integrations/mqtt, sensor.mqtt, binary_sensor.mqtt, image.mqtt) and from what its
schemas refuse. Taken for granted, since no Home Assistant runs here:

- the discovery prefix is 'homeassistant', and the birth message 'online' on 'homeassistant/status', both defaults;
- templates are Jinja's, their result is text, and 'None' is the state 'unknown';
- a component of nothing but its platform is removed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from jinja2.sandbox import SandboxedEnvironment

TOPIC = re.compile(r"homeassistant/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
ENTITY_ID = re.compile(r"(?P<platform>[a-z_]+)\.(?!_)(?!.*__)[a-z0-9_]+(?<!_)")
AVAILABILITY = {"availability", "availability_topic", "availability_mode", "availability_template"}
DEVICE = {
    "identifiers", "connections", "manufacturer", "model", "model_id", "name", "hw_version", "serial_number", "sw_version",
    "via_device", "suggested_area", "configuration_url",
}  # fmt: skip
TOP = {"device", "components", "origin", "state_topic", "command_topic", "qos", "encoding"} | AVAILABILITY
COMMON = {
    "platform", "name", "unique_id", "default_entity_id", "enabled_by_default", "entity_category", "entity_picture", "icon",
    "json_attributes_topic", "json_attributes_template", "qos", "encoding", "value_template",
} | AVAILABILITY  # fmt: skip
OWN = {
    "sensor": {"state_topic", "device_class", "state_class", "expire_after", "force_update", "unit_of_measurement", "options"},
    "binary_sensor": {"state_topic", "device_class", "expire_after", "force_update", "off_delay", "payload_on", "payload_off"},
    "image": {"image_topic", "url_topic", "content_type", "image_encoding", "url_template"},
}
NEEDED = {"sensor": "state_topic", "binary_sensor": "state_topic", "image": "image_topic"}


def check(topic: str, payload: bytes) -> dict[str, dict[str, Any]]:
    """The entities of a device by their ids, as they are after this message; AssertionError where it would be refused."""
    assert TOPIC.fullmatch(topic), topic
    config = json.loads(payload)
    assert set(config) <= TOP, set(config) - TOP
    assert config["device"].get("identifiers") or config["device"].get("connections")
    assert set(config["device"]) <= DEVICE
    assert config["origin"]["name"]
    assert set(config["origin"]) <= {"name", "sw_version", "support_url"}
    assert config.get("qos", 0) in (0, 1, 2)
    entities = {}
    for component in config["components"].values():
        platform = component["platform"]
        if set(component) == {"platform"}:
            continue
        assert set(component) <= COMMON | OWN[platform], set(component) - COMMON - OWN[platform]
        assert component["unique_id"], "a device's entities need one"
        assert component["unique_id"] not in entities
        assert NEEDED[platform] in component
        entity_id = ENTITY_ID.fullmatch(component["default_entity_id"])
        assert entity_id, component["default_entity_id"]
        assert entity_id["platform"] == platform
        assert not {"availability", "availability_topic"} <= set(component)
        assert component.get("availability_mode", "latest") in ("all", "any", "latest")
        for key, value in component.items():
            if key.endswith("_topic"):
                assert_topic(value)
        for place in component.get("availability", ()):
            assert set(place) <= {"topic", "payload_available", "payload_not_available", "value_template"}
            assert_topic(place["topic"])
        entities[component["unique_id"]] = component
    return entities


def assert_topic(topic: str) -> None:
    assert topic
    assert len(topic.encode()) < 65536
    assert not any(sign in topic for sign in "+#\0")


def shown(entity: dict[str, Any], kept: dict[str, bytes]) -> str | bytes:
    """The state of an entity, or an image's bytes, from the retained messages."""
    available = [kept.get(place["topic"]) == b"online" for place in entity["availability"]]
    if not {"all": all, "any": any}[entity["availability_mode"]](available):
        return "unavailable"
    if entity["platform"] == "image":
        return kept.get(entity["image_topic"], b"")
    if entity["state_topic"] not in kept:
        return "unknown"
    text = kept[entity["state_topic"]].decode()
    template = SandboxedEnvironment().from_string(entity["value_template"])
    state = template.render(value=text, value_json=json.loads(text))
    assert len(state) <= 255, "Home Assistant refuses a longer state"
    if entity["platform"] == "binary_sensor":
        return {"ON": "on", "OFF": "off", "None": "unknown"}[state]
    return "unknown" if state == "None" else state


def attributes(entity: dict[str, Any], kept: dict[str, bytes]) -> dict[str, Any]:
    found = json.loads(kept[entity["json_attributes_topic"]])
    assert isinstance(found, dict)
    return found
