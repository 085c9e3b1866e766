"""What the sinks of a stream's command are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sp_edge.cli.outputs import output_sinks, refuse_alone
from sp_edge.errors import SettingsError
from sp_edge_runtime.recognizer import Recognizer


def test_home_assistant_hears_of_classes_and_not_of_rejects(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Sequence[str]] = []

    def opened(_url: str, _publish: str, *, classes: Callable[[], Sequence[str]], boxes: object) -> Any:
        told.append(classes())

    monkeypatch.setattr("sp_edge_runtime.sinks.mqtt.MqttSink", opened)
    bank = SimpleNamespace(names=("mug", "not 'mug'", "cup"), classes=("mug", "cup"))
    recognizer = cast("Recognizer", SimpleNamespace(bank=bank))
    assert len(list(output_sinks(recognizer, None, "mqtt://broker/door", None, "all", home_assistant=True, boxes=False))) == 1
    assert told == [("mug", "cup")], "two classes have a binary sensor, whatever is not one of them"


def test_what_goes_over_mqtt_needs_its_broker() -> None:
    for alone in ({"home_assistant": True, "boxes": False}, {"home_assistant": False, "boxes": True}):
        with pytest.raises(SettingsError) as raised:
            refuse_alone(None, **alone)
        assert raised.value.expected == "--mqtt URL"
        refuse_alone("mqtt://broker", **alone)
    refuse_alone(None, home_assistant=False, boxes=False)


def test_boxes_of_other_programs_are_taken_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr("sp_edge_runtime.sinks.mqtt.MqttSink", lambda *_, classes, boxes: told.append(boxes is not None))
    recognizer = cast("Recognizer", SimpleNamespace())
    for asked in (True, False):
        list(output_sinks(recognizer, None, "mqtt://broker/door", None, "all", home_assistant=False, boxes=asked))
    assert told == [True, False]
